"""hyperfs as a library: a store opened in this process, and the drives in it.

The rule: one owner for a store. While a program has a store open no daemon can, and the other way round; whoever comes
second gets `StoreLocked`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hyperfs.core.core import Core
from hyperfs.core.reader import Source
from hyperfs.core.store import Store, run_store
from hyperfs.drive.committer import LocalCommitter
from hyperfs.drive.create import create_drive
from hyperfs.drive.drive import Drive
from hyperfs.drive.import_plan import ImportPlan, plan_import
from hyperfs.drive.importer import ImportResult, import_folder
from hyperfs.drive.writer import DriveWriter
from hyperfs.errors import NotWritable, short
from hyperfs.keys import parse_address
from hyperfs.trie import NodeCache


class OpenStore:
    """A store that this process owns. Made by `open_store`; a `CoreProvider` for drives."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._nodes = NodeCache()
        self._committers: dict[bytes, LocalCommitter] = {}
        self._inner_writers: dict[bytes, DriveWriter] = {}

    async def open_core(self, key: bytes) -> Core:
        """Return the core of ``key``, the same object each time."""
        return await self.store.core(key)

    async def create_drive(self) -> Drive:
        """Make a new, empty drive and open it. Cancelled, it may have been made; nothing names it then."""
        return await Drive.open(self, await create_drive(self.store), cache=self._nodes)

    async def drive(self, key: str | bytes, *, version: int | None = None) -> Drive:
        """Open a drive by its key: 32 bytes, or text in any form that `hyperfs` takes, ``KEY+VERSION`` included.

        Raises `InvalidKey`, `NotADrive`, `UnknownVersion`, and `BlockNotAvailable` when nothing of it is here.
        """
        if isinstance(key, bytes):
            return await Drive.open(self, key, version=version, cache=self._nodes)
        address = parse_address(key)
        version = address.version if version is None else version
        if address.tag is None:
            return await Drive.open(self, address.key, version=version, cache=self._nodes)
        live = await Drive.open(self, address.key, cache=self._nodes)
        return await Drive.open(
            self, address.key, version=await live.snapshot().tagged_version(address.tag), cache=self._nodes
        )

    async def committer(self, drive: Drive) -> LocalCommitter:
        """Return what commits to ``drive``. Raises `NotWritable` when its secret key is not in this store."""
        committer = self._committers.get(drive.key)
        if committer is None:
            metadata = await self.open_core(drive.key)
            content = await self.open_core(drive.volume.content_key)
            if not drive.writable:
                raise NotWritable(f"drive {short(drive.key)} cannot be written to: its secret key is not in this store")
            committer = self._committers.setdefault(
                drive.key, LocalCommitter(metadata, content, cache=self._nodes, reserve=self.store.reserve)
            )
        return committer

    async def writer(self, drive: Drive) -> DriveWriter:
        """Return a writer to ``drive``, and to those of this store that are mounted in it. Raises `NotWritable`."""
        return DriveWriter(drive, await self.committer(drive), inner=self._inner_writer)

    async def _inner_writer(self, drive: Drive) -> DriveWriter:
        """Return a writer to a drive that is mounted in another, the same each time, so that its batches wait."""
        writer = self._inner_writers.get(drive.key)
        if writer is None:
            writer = self._inner_writers.setdefault(drive.key, await self.writer(drive))
        return writer

    async def import_folder(
        self, source: str | os.PathLike[str], drive: Drive, *, delete: bool = False
    ) -> ImportResult:
        """Bring ``drive`` up to date with the folder ``source``; see `plan_import` and `run_import` for more say.

        Cancelled, the versions that were made stay: importing again goes on from there.
        """

        async def plan() -> ImportPlan:
            return await plan_import(drive.snapshot(), Path(source), delete=delete, excluded=(self.store.path,))

        return await import_folder(drive, plan, await self.committer(drive))


@asynccontextmanager
async def open_store(path: str | os.PathLike[str], *, source: Source | None = None) -> AsyncIterator[OpenStore]:
    """Open the store in directory ``path``, made if need be, for as long as the block lasts.

    ``source`` brings blocks that are not here; without one, what is missing raises `BlockNotAvailable`. Everything
    written is on disk when the block is left, also by an error or a cancellation, and soon after it was written as
    long as it lasts. Raises `StoreLocked` when another process has the store.
    """
    async with run_store(Path(path), source=source) as store:
        yield OpenStore(store)
