"""Workspaces over drives in memory, spoken to by paths."""

import errno
import stat as st
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hyperfs.errors import PathError
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.staging.committing import CommitMaker, Outcome
from hyperfs.mount.staging.namespace import Renaming
from hyperfs.mount.staging.nodes import Attributes
from hyperfs.mount.staging.recovery import recover
from hyperfs.mount.staging.workspace import Workspace

from .drives import OwnDrive, new_drive

NOW_NS = 1_700_000_000_000_000_000


@dataclass(slots=True)
class _Time:
    ns: int = NOW_NS


class Paths:
    """A workspace and what commits it. Names are looked up from the root each time, as the kernel does.

    One that is dropped stands for a process that was killed: its descriptors are closed, and nothing else is done.
    """

    def __init__(self, own: OwnDrive, directory: Path) -> None:
        self.own = own
        self._time = time = _Time()
        self.at_once = False
        """Whether what can be done without waiting is done so."""
        self.workspace = Workspace(own.drive.snapshot(), directory, owner=(0, 0), clock=lambda: time.ns)
        # Not __del__, which in a circle may come after that of the files, and they warn of not being closed.
        weakref.finalize(self, self.workspace.files.close)
        self.maker = CommitMaker(self.workspace, own.drive, own.committer)

    @classmethod
    async def open(cls, directory: Path, own: OwnDrive | None = None) -> Self:
        paths = cls(own or await new_drive(), directory)
        await paths.recover()
        return paths

    async def recover(self) -> None:
        """Take up what is staged in the folder."""
        await recover(self.workspace, self.own.committer)

    @property
    def now(self) -> int:
        """The time, in ns."""
        return self._time.ns

    @now.setter
    def now(self, ns: int) -> None:
        self._time.ns = ns

    async def number(self, path: str) -> int:
        number = ROOT
        for name in path.split("/") if path else ():
            found = await self.workspace.find(number, name)
            if found is None:
                raise FileNotFoundError(path)
            if found.node is not None:
                number = found.node.number
            else:
                kind = found.attributes.mode >> 12
                number = self.workspace.inodes.place(number, name.encode(), kind)
        return number

    async def place(self, path: str) -> tuple[int, str]:
        above, _, name = path.rpartition("/")
        number = await self.number(above)
        if not st.S_ISDIR((await self.workspace.attributes(number)).mode):
            raise PathError(errno.ENOTDIR, above, "it is not a directory")
        return number, name

    async def make(self, path: str, mode: int = st.S_IFREG | 0o644, linkname: str | None = None) -> int:
        place, names = await self.place(path), self.workspace.names
        node = names.make_now(*place, mode, uid=0, gid=0, linkname=linkname) if self.at_once else None
        return (node or await names.make(*place, mode, uid=0, gid=0, linkname=linkname)).number

    async def mkdir(self, path: str) -> None:
        await self.make(path, st.S_IFDIR | 0o755)

    async def write(self, path: str, data: bytes, position: int = 0) -> None:
        number = await self.number(path)
        await self.workspace.open(number, writing=True)
        try:
            await self.workspace.write(number, position, data)
        finally:
            try:
                await self.workspace.flush(number)
            finally:
                self.workspace.released(number)

    async def put(self, path: str, data: bytes) -> None:
        """Write a whole file as a program does: create or cut off, write, close."""
        if await self.workspace.find(*await self.place(path)) is None:
            await self.make(path)
        else:
            await self.truncate(path, 0)
        if data:
            await self.write(path, data)

    async def truncate(self, path: str, size: int) -> None:
        await self.set_attributes(path, size=size)

    async def set_attributes(self, path: str, **changes: int) -> Attributes:
        number = await self.number(path)
        done = self.workspace.set_attributes_now(number, **changes) if self.at_once else None
        return done or await self.workspace.set_attributes(number, **changes)

    async def read(self, path: str) -> bytes:
        number = await self.number(path)
        content = await self.workspace.open(number, writing=False)
        if content is None:  # it is in a drive that is mounted in this one
            entry = await self.workspace.tree.entry(number)
            return await entry.volume.read(entry, 0, entry.stat.size)
        try:
            return await content.read(0, content.size + 1)
        finally:
            self.workspace.released(number)

    async def unlink(self, path: str) -> None:
        place = await self.place(path)
        if not self.at_once or self.workspace.names.unlink_now(*place) is None:
            await self.workspace.names.unlink(*place)

    async def rmdir(self, path: str) -> None:
        place = await self.place(path)
        if not self.at_once or self.workspace.names.remove_directory_now(*place) is None:
            await self.workspace.names.remove_directory(*place)

    async def rename(self, old: str, new: str, how: Renaming = Renaming.REPLACE) -> None:
        places = *await self.place(old), *await self.place(new)
        if not self.at_once or self.workspace.names.rename_now(*places, how) is None:
            await self.workspace.names.rename(*places, how)

    async def commit(self) -> Outcome:
        return await self.maker.commit()

    async def tree(self) -> dict[str, object]:
        """Everything as the workspace shows it: directories as None, links as ``-> target``, files as their bytes."""
        return await self._below(ROOT, "")

    async def _below(self, number: int, above: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for name in [name async for batch in self.workspace.tree.list(number) for name, _ in batch]:
            path = f"{above}/{name}" if above else name
            child = await self.number(path)
            mode = (await self.workspace.attributes(child)).mode
            if st.S_ISDIR(mode):
                found[path] = None
                found |= await self._below(child, path)
            elif st.S_ISLNK(mode):
                found[path] = f"-> {await self.workspace.link_target(child)}"
            else:
                found[path] = await self.read(path)
        return found

    async def drive_tree(self) -> dict[str, object]:
        """Everything as the drive's newest version has it, in the same form."""
        snapshot = self.own.drive.snapshot()
        found: dict[str, object] = {}
        async for entry in snapshot.walk():
            stat = entry.stat
            if entry.is_directory:
                found[entry.path] = None
            elif stat.is_link:
                found[entry.path] = f"-> {stat.linkname}"
            else:
                found[entry.path] = await snapshot.read(entry, 0, stat.size)
        return found
