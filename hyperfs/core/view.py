"""A core as a process sees it that does not own it: read-only files, a shared map, and the daemon as its source."""

from collections.abc import Sequence
from pathlib import Path

from hyperfs.core.reader import Hint, Priority, Run, Source
from hyperfs.storage import Directory


class CoreView:
    """Implements `CoreReader`, takes no locks and writes nothing. ``map_path`` is the owner's shared map."""

    key: bytes
    discovery_key: bytes
    writable: bool
    length: int
    byte_length: int

    def __init__(
        self,
        directory: Directory,
        map_path: Path,
        *,
        key: bytes,
        length: int,
        byte_length: int,
        writable: bool = False,
        source: Source | None = None,
    ) -> None:
        raise NotImplementedError

    def extended(self, length: int, byte_length: int) -> None:
        """Switch to a newer head, as the owner reported it after verifying it."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def has(self, start: int, end: int) -> bool:
        raise NotImplementedError

    def count(self, start: int, end: int) -> int:
        raise NotImplementedError

    def get_local(self, index: int) -> bytes | None:
        raise NotImplementedError

    async def get(self, index: int, *, priority: Priority = Priority.URGENT, hint: Hint | None = None) -> bytes:
        raise NotImplementedError

    async def fetch(
        self, ranges: Sequence[range], *, priority: Priority = Priority.URGENT, hint: Hint | None = None
    ) -> None:
        raise NotImplementedError

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        raise NotImplementedError

    async def ahead(self, run: Run, position: int, size: int) -> None:
        raise NotImplementedError

    async def update(self) -> None:
        raise NotImplementedError

    async def wait_longer(self, length: int) -> None:
        raise NotImplementedError
