"""As much of the kernel as a FUSE file system has to be right for, between a test and the operations of a mount.

The rules, as Linux has them: what changes a directory's names holds that directory to the end of the operation, and so
does what looks a name up or reads a listing of it; a rename holds both. What an answer says of a name, a listing's too,
is believed for as long as the answer allows, and not asked again: a name that should not have been told stays. An inode
may be forgotten once no name that is believed leads to it and nobody has it open.
"""

import errno
import stat as st
import types
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pyfuse3
import trio

CONTEXT: Any = types.SimpleNamespace(uid=0, gid=0, pid=1, umask=0o022)
_FIELDS = "mode", "uid", "gid", "size", "mtime", "atime", "ctime"


def failed_with(error: BaseException) -> int | None:
    """Return the errno that an operation answered, or None for anything else."""
    return error.errno if isinstance(error, pyfuse3.FUSEError) else None


class Reply:
    """What one readdir answers: at most ``room`` entries."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.entries: list[tuple[bytes, int, float, int]] = []
        """Name, inode number, how long the name may be believed, and the offset behind it."""

    def take(self, name: bytes, attributes: pyfuse3.EntryAttributes, following: int) -> bool:
        if len(self.entries) == self.room:
            return False
        self.entries.append((name, attributes.st_ino, attributes.entry_timeout, following))
        return True


class Kernel:
    """One mount's names and inodes. Make it while `pyfuse3` is replaced by `standing_in`."""

    def __init__(self, operations: Any) -> None:
        self.operations = operations
        self.names: dict[tuple[int, bytes], int] = {}
        """What each name is believed to be; 0 where it is believed to be absent."""
        self._lookups: dict[int, int] = defaultdict(int)
        self._held: dict[int, trio.Lock] = defaultdict(trio.Lock)
        self._renames = trio.Lock()
        self._opened: dict[int, int] = defaultdict(int)

    # Names

    async def lookup(self, parent: int, name: bytes) -> int:
        """Return the number of a name; 0 when it is absent."""
        async with self._holding(parent):
            return await self._lookup(parent, name)

    async def _lookup(self, parent: int, name: bytes) -> int:
        believed = self.names.get((parent, name))
        if believed is not None:
            return believed
        answer = await self.operations.lookup(parent, name, CONTEXT)
        return self._learn(parent, name, answer.st_ino, answer.entry_timeout)

    def _learn(self, parent: int, name: bytes, number: int, seconds: float) -> int:
        if number:
            self._lookups[number] += 1
        if seconds:
            self.names[parent, name] = number
        else:
            self.names.pop((parent, name), None)
        return number

    async def create(self, parent: int, name: bytes) -> tuple[int, int]:
        """Make a file; return its number and a handle."""
        async with self._holding(parent):
            info, answer = await self.operations.create(parent, name, st.S_IFREG | 0o644, 0, CONTEXT)
            self._opened[answer.st_ino] += 1
            return self._learn(parent, name, answer.st_ino, answer.entry_timeout), info.fh

    async def mkdir(self, parent: int, name: bytes) -> int:
        async with self._holding(parent):
            answer = await self.operations.mkdir(parent, name, 0o755, CONTEXT)
            return self._learn(parent, name, answer.st_ino, answer.entry_timeout)

    async def unlink(self, parent: int, name: bytes) -> None:
        async with self._holding(parent):
            await self._lookup(parent, name)
            await self.operations.unlink(parent, name, CONTEXT)
            await self.forget(parent, name)

    async def rmdir(self, parent: int, name: bytes) -> None:
        async with self._holding(parent):
            await self._lookup(parent, name)
            await self.operations.rmdir(parent, name, CONTEXT)
            self.names.pop((parent, name), None)

    async def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        async with self._holding(parent, new_parent):
            await self._lookup(parent, name)
            await self._lookup(new_parent, new_name)
            await self.operations.rename(parent, name, new_parent, new_name, 0, CONTEXT)
            moved = self.names.pop((parent, name), None)
            await self.forget(new_parent, new_name)
            if moved is not None:
                self.names[new_parent, new_name] = moved

    async def listing(self, number: int, *, room: int) -> AsyncIterator[list[bytes]]:
        """Yield the names in a directory, ``room`` at a time; between two of them others may change it."""
        handle = await self.operations.opendir(number, CONTEXT)
        offset = 0
        while True:
            reply: Any = Reply(room)
            async with self._holding(number):
                await self.operations.readdir(handle, offset, reply)
                for name, inode, seconds, offset in reply.entries:  # noqa: B007  the last one counts below
                    if name not in (b".", b".."):
                        self._learn(number, name, inode, seconds)
            if not reply.entries:
                break
            yield [name for name, *_ in reply.entries if name not in (b".", b"..")]
        await self.operations.releasedir(handle)

    @asynccontextmanager
    async def _holding(self, *directories: int) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            if len(directories) > 1:
                await held.enter_async_context(self._renames)
            for number in sorted(set(directories)):
                await held.enter_async_context(self._held[number])
            yield

    # Inodes

    async def size(self, number: int) -> int:
        """Return st_size."""
        return int((await self.operations.getattr(number, CONTEXT)).st_size)

    async def truncate(self, number: int, size: int) -> None:
        chosen: Any = types.SimpleNamespace(**{f"update_{name}": name == "size" for name in _FIELDS})
        attributes = pyfuse3.EntryAttributes()
        attributes.st_size = size
        await self.operations.setattr(number, attributes, chosen, None, CONTEXT)

    async def open(self, number: int, flags: int) -> int:
        info = await self.operations.open(number, flags, CONTEXT)
        self._opened[number] += 1
        return int(info.fh)

    async def close(self, number: int, handle: int) -> None:
        """Close a handle: FLUSH, whose failure close(2) tells, and then RELEASE in any case."""
        try:
            await self.operations.flush(handle)
        finally:
            self._opened[number] -= 1
            await self.operations.release(handle)
            await self._forget_unneeded(number)

    async def forget(self, parent: int, name: bytes) -> None:
        """Stop believing a name, and forget its inode if nothing else needs it."""
        number = self.names.pop((parent, name), None)
        if number:
            await self._forget_unneeded(number)

    async def _forget_unneeded(self, number: int) -> None:
        if number in self._lookups and not self._opened[number] and number not in self.names.values():
            await self.operations.forget([(number, self._lookups.pop(number))])


class StandingIn:
    """What stands for the calls of `pyfuse3` that reach the kernel."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def __enter__(self) -> None:
        replaced = {
            "readdir_reply": lambda token, *entry: token.take(*entry),
            "notify_store": _nothing,
            "invalidate_inode": _nothing,
            "invalidate_entry": _nothing,
            "invalidate_entry_async": _nothing,
        }
        for name, stand_in in replaced.items():
            self._kept[name] = getattr(pyfuse3, name)
            setattr(pyfuse3, name, stand_in)

    def __exit__(self, *_: object) -> None:
        for name, call in self._kept.items():
            setattr(pyfuse3, name, call)


def _nothing(*_: object, **__: object) -> None:
    """The kernel forgets, or takes, what it is told to."""


def is_absent(error: BaseException) -> bool:
    """Tell whether an operation answered that there is nothing."""
    return failed_with(error) == errno.ENOENT
