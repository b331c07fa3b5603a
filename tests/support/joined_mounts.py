"""Mounts of drives that are mounted in one another and written through each other, without a kernel."""

import errno
import stat as st
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from hyperfs.errors import PathError
from hyperfs.mount.files import OpenFiles
from hyperfs.mount.following import Follower
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.joined_view import JoinedView
from hyperfs.mount.places import Places
from hyperfs.mount.rows import name_of
from hyperfs.mount.waiting import Waits
from hyperfs.mount.writing import Writing
from tests.support.drives import OwnDrive

FILE = st.S_IFREG | 0o644


class Writers:
    """Says how drives are written: each by one at a time. Implements `InnerWriting`."""

    def __init__(self, directory: Path, *drives: OwnDrive) -> None:
        self._directory = directory
        self._drives = {own.drive.key: own for own in drives}
        self.held: set[bytes] = set()

    def staged(self) -> set[bytes]:
        return {bytes.fromhex(journal.parent.name) for journal in self._directory.glob("*/*.journal")}

    async def open(self, key: bytes) -> Writing:
        if key in self.held:
            raise PathError(errno.EROFS, "drive", "it is written to already")
        self.held.add(key)
        directory = self._directory / key.hex()
        return Writing(
            self._drives[key].committer, directory, 3600.0, inner=self, let_go=lambda: self.held.discard(key)
        )


class Mount:
    """The view of a mount, spoken to by paths; every name is looked up, as the kernel does."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.view = JoinedView(places)

    async def number(self, path: str) -> int:
        number = ROOT
        for name in path.split("/") if path else ():
            answer = self.view.lookup_now(number, name.encode()) or await self.view.lookup(number, name.encode())
            if not answer.number:
                raise FileNotFoundError(path)
            number = answer.number
        return number

    async def put(self, path: str, data: bytes) -> None:
        above, _, name = path.rpartition("/")
        parent = await self.number(above)
        made = self.view.make_now(parent, name, FILE, 0, 0) or await self.view.make(parent, name, FILE, 0, 0)
        handle = self.view.open_made(made.number)
        await self.view.write(handle, 0, data)
        await self.view.flushed(handle)
        await self.view.released(handle)

    async def read(self, path: str) -> bytes:
        number = await self.number(path)
        handle = await self.view.open(number, writing=False, truncating=False, keeps_set_id=True)
        source = self.view.source_now(handle) or await self.view.source(handle)
        data = await source.read(0, 1000)
        await self.view.released(handle)
        return data

    async def names(self, path: str) -> list[str]:
        return sorted(name_of(row).decode() for row in await self.view.list(await self.number(path), lambda: None))


@asynccontextmanager
async def mounted(writers: Writers, outer: OwnDrive) -> AsyncIterator[Mount]:
    places = await Places.open(outer.drive, await writers.open(outer.drive.key), confines_links=True)
    waits = Waits()
    async with trio.open_nursery() as nursery:
        files = OpenFiles(nursery, waits, 20.0)
        kernel: Any = _Kernel()
        places.begin(nursery, lambda drive, head: Follower(drive, head, files, waits, kernel))
        yield Mount(places)
        await places.close()
        nursery.cancel_scope.cancel()


class _Kernel:
    async def room(self) -> None: ...
    def add_name(self, directory: int, name: bytes) -> None: ...
    def add_pages(self, number: int) -> None: ...
    def attributes(self, number: int) -> None: ...
