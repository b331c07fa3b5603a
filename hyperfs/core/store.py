"""The store of many cores: a directory laid out as the reference's corestore does."""

from pathlib import Path
from typing import Self

from hyperfs.core.core import Core
from hyperfs.core.reader import Source


class Store:
    """All cores under one directory; one `Core` object a key. Made by `Store.open`, which takes its lock.

    Use: ``async with await Store.open(path) as store``; hyperfs's own files live in ``path / ".hyperfs"``.
    """

    path: Path
    private: Path
    source: Source | None
    """Given to every core opened from now on."""

    @classmethod
    async def open(cls, path: Path, *, maps: Path | None = None, source: Source | None = None) -> Self:
        """Open or create. ``maps`` is where shared maps go (DIR/<discovery key hex>.map). Raises StoreLocked."""
        raise NotImplementedError

    async def core(self, key: bytes) -> Core:
        """Open the core of ``key``: writable if its key pair is here, else a reader's, created when new."""
        raise NotImplementedError

    async def create_core(self, name: bytes | None = None) -> Core:
        """Open or create the writable core of ``name`` (default: 32 random bytes)."""
        raise NotImplementedError

    async def content_core(self, metadata_key: bytes) -> Core:
        """Open or create the writable content core of a drive: named by the hex of its metadata key."""
        raise NotImplementedError

    def keys(self) -> list[bytes]:
        """Return the keys of all cores on disk."""
        raise NotImplementedError

    def core_directory(self, key: bytes) -> Path:
        """Return the directory of a core's SLEEP files."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
