"""The limit of what a mount in Python can do: a pyfuse3 file system that does nothing.

It serves ``big.bin``, zeros, and a tree ``small/NN/NN.txt``; every answer comes from memory without a thought. Files
can be made in it, and what is written to them is forgotten. What a real mount reaches is measured against it. Runs
until its stdin ends: ``empty_fs.py MOUNTPOINT BIG_BYTES``.
"""

import errno
import os
import stat
import sys
from collections.abc import Sequence

import pyfuse3
import trio

FOLDERS = 100
FILES_IN_FOLDER = 100
SMALL_BYTES = 100
_TIMEOUT_SECONDS = 3600.0
_BIG = 2
_SMALL = 3
_FIRST_FOLDER = 1000
_FIRST_FILE = 100_000
_FIRST_NEW = 1_000_000


class EmptyFs(pyfuse3.Operations):
    """Inodes are arithmetic: the root, the big file, ``small``, its folders, their files; new files are counted."""

    def __init__(self, big_bytes: int) -> None:
        super().__init__()
        self._big_bytes = big_bytes
        self._zeros = bytes(1 << 20)
        self._sizes: dict[int, int] = {}

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        is_file = inode == _BIG or inode >= _FIRST_FILE
        entry.st_mode = (stat.S_IFREG | 0o644) if is_file else (stat.S_IFDIR | 0o755)
        size = self._big_bytes if inode == _BIG else SMALL_BYTES if is_file else 0
        entry.st_size = self._sizes.get(inode, size)
        entry.st_ino = inode
        entry.st_nlink = 1
        entry.st_blksize = 4096
        entry.attr_timeout = entry.entry_timeout = _TIMEOUT_SECONDS
        return entry

    def _children(self, inode: int) -> Sequence[tuple[bytes, int]]:
        if inode == pyfuse3.ROOT_INODE:
            return [(b"big.bin", _BIG), (b"small", _SMALL)]
        if inode == _SMALL:
            return [(b"%02d" % number, _FIRST_FOLDER + number) for number in range(FOLDERS)]
        first = _FIRST_FILE + (inode - _FIRST_FOLDER) * FILES_IN_FOLDER
        return [(b"%02d.txt" % number, first + number) for number in range(FILES_IN_FOLDER)]

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext | None = None) -> pyfuse3.EntryAttributes:
        return self._attributes(inode)

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        for child, inode in self._children(parent_inode):
            if child == name:
                return self._attributes(inode)
        raise pyfuse3.FUSEError(errno.ENOENT)

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return inode

    async def readdir(self, inode: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for position, (name, child) in enumerate(self._children(inode)[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self._attributes(child), position):
                return

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        end = self._big_bytes if handle == _BIG else SMALL_BYTES
        return self._zeros[: max(0, min(size, end - offset))]

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        inode = _FIRST_NEW + len(self._sizes)
        self._sizes[inode] = 0
        return pyfuse3.FileInfo(fh=inode, keep_cache=True), self._attributes(inode)

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        self._sizes[handle] = max(self._sizes[handle], offset + len(data))
        return len(data)

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    async def flush(self, handle: int) -> None:
        pass

    async def release(self, handle: int) -> None:
        pass


async def _wait_for_end_of_stdin() -> None:
    await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


async def serve() -> None:
    """Handle requests until stdin ends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        await _wait_for_end_of_stdin()
        nursery.cancel_scope.cancel()


def main() -> None:
    mountpoint, big_bytes = sys.argv[1:]
    options = {*pyfuse3.default_options, "fsname=empty"}
    pyfuse3.init(EmptyFs(int(big_bytes)), os.fspath(mountpoint), options)
    print('{"ready": true}', flush=True)
    try:
        trio.run(serve)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
