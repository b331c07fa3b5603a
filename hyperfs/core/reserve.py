"""Disk space kept back, so that on a full disk what frees space still works.

The rule, stated here and nowhere else: content is appended, and what peers send is kept, only while the reserve stands.
Metadata (a deletion, a truncation, a new version of whatever is small), clearing, and what the daemon is to do may use
it up: when one of them meets a full disk the reserve is given away and it is tried again. The reserve is made anew as
soon as the disk has room for twice its size.
"""

import errno
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import trio

log = logging.getLogger(__name__)

RESERVE_BYTES = 4 << 20
_SHARE_OF_DISK = 64
_FULL = {errno.ENOSPC, errno.EDQUOT}
_Result = TypeVar("_Result")


def is_full(error: BaseException) -> bool:
    """Tell whether ``error`` says that the disk is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def reserve_bytes(disk: os.statvfs_result) -> int:
    """Return how much is kept back on a disk, of which `os.statvfs` said this."""
    return min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // _SHARE_OF_DISK)


class Reserve:
    """Owns one preallocated file at ``path``. Where files cannot be preallocated there is no reserve, and no limit."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._possible = True
        self.stands = False
        """Whether the space is kept back just now."""
        self.wanted = False
        """Whether anything is kept here, so that the space is to be kept back when there is room again."""
        self._giving = trio.Lock()
        self._times_given = 0

    async def make(self) -> bool:
        """Keep the space back, if there is room and it is not kept already; tell whether content may be appended."""
        self.wanted = True
        if not self.stands and self._possible:
            await trio.to_thread.run_sync(self._make)
        return self.stands or not self._possible

    async def require(self) -> None:
        """Raise OSError (ENOSPC) when there is no reserve, and no room for one: then content has to wait."""
        if not self.stands and not await self.make():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path.parent.parent))

    async def has_room(self) -> bool:
        """Tell whether the space is kept back, and as much again is free: so much that fetching makes sense."""
        if not await self.make():
            return False
        disk = await trio.to_thread.run_sync(os.statvfs, self._path.parent)
        return disk.f_bavail * disk.f_frsize >= reserve_bytes(disk)

    async def spend_on(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do ``work``; if the disk is full, give the space away, and do it once more. Raises as ``work`` does."""
        times_given = self._times_given
        try:
            return await work()
        except OSError as error:
            if not is_full(error):
                raise
            async with self._giving:
                # of two that the disk was full for at once, the second has as much of it as the first
                if times_given == self._times_given and not await self.give():
                    raise
        return await work()

    async def give(self) -> bool:
        """Give the space away, for something that frees more; tell whether there was any."""
        self.stands = False
        try:
            await trio.to_thread.run_sync(self._path.unlink)
        except FileNotFoundError:
            return False
        self._times_given += 1
        log.warning("the disk is full: the reserve in %s is used up", self._path.parent)
        return True

    def _make(self) -> None:
        disk = os.statvfs(self._path.parent)
        size = reserve_bytes(disk)
        with suppress(FileNotFoundError):
            if self._path.stat().st_blocks * 512 >= size:
                self.stands = True
                return
        if disk.f_bavail * disk.f_frsize < 2 * size:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, max(size, 1))
            self.stands = True
        except OSError as error:
            self._possible = is_full(error)
            self._path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
