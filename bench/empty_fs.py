"""The limit of what a mount in Python can do: a pyfuse3 file system that does nothing.

It serves ``big.bin``, zeros, and a tree ``small/NN/NN.txt``; every answer comes from memory without a thought. Names
can be made and removed in it and attributes set, and what is written is forgotten. Runs until its stdin ends:
``empty_fs.py MOUNTPOINT BIG_BYTES [turns]``; with 0 bytes there is nothing in it. With ``turns`` it takes the kernel's
requests as our mounts do: what one of them takes beyond that is its own work, all else is pyfuse3's and the kernel's.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice

import pyfuse3
import trio

from hyperfs.mount.affinity import Affinity
from hyperfs.mount.intake import taking_turns

FOLDERS = 100
FILES_IN_FOLDER = 100
SMALL_BYTES = 100
_TIMEOUT_SECONDS = 3600.0
_NOTHING = 0
_LARGEST_READ = 1 << 20


class _Node:
    """A file, or with ``children`` a folder."""

    __slots__ = ("children", "gid", "mode", "mtime", "size", "uid")

    def __init__(self, mode: int, size: int = 0) -> None:
        self.mode = mode
        self.size = size
        self.uid = self.gid = self.mtime = 0
        self.children: dict[bytes, int] | None = {} if stat.S_ISDIR(mode) else None


class EmptyFs(pyfuse3.Operations):
    """A dict of nodes by their numbers, and in each folder's node a dict of the numbers in it."""

    def __init__(self, big_bytes: int, asked: Callable[[int], None]) -> None:
        super().__init__()
        self._asked = asked
        self._zeros = bytes(_LARGEST_READ)
        self._answer = pyfuse3.EntryAttributes()
        self._answer.st_nlink = 1
        self._answer.st_blksize = 4096
        self._answer.attr_timeout = self._answer.entry_timeout = _TIMEOUT_SECONDS
        self._nodes = {pyfuse3.ROOT_INODE: _Node(stat.S_IFDIR | 0o755)}
        self._last = pyfuse3.ROOT_INODE
        if big_bytes:
            self._make(pyfuse3.ROOT_INODE, b"big.bin", stat.S_IFREG | 0o644, big_bytes)
            small = self._make(pyfuse3.ROOT_INODE, b"small", stat.S_IFDIR | 0o755)
            for folder in range(FOLDERS):
                number = self._make(small, b"%02d" % folder, stat.S_IFDIR | 0o755)
                for file in range(FILES_IN_FOLDER):
                    self._make(number, b"%02d.txt" % file, stat.S_IFREG | 0o644, SMALL_BYTES)

    def _make(self, parent: int, name: bytes, mode: int, size: int = 0) -> int:
        self._last += 1
        self._nodes[self._last] = _Node(mode, size)
        self._children(parent)[name] = self._last
        return self._last

    def _children(self, inode: int) -> dict[bytes, int]:
        children = self._nodes[inode].children
        if children is None:
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        return children

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        node, answer = self._nodes[inode], self._answer
        answer.st_ino = inode
        answer.st_mode = node.mode
        answer.st_uid, answer.st_gid = node.uid, node.gid
        answer.st_size = node.size
        answer.st_mtime_ns = answer.st_atime_ns = answer.st_ctime_ns = node.mtime
        return answer

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        self._asked(ctx.pid)
        return self._attributes(inode)

    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        self._asked(ctx.pid)
        inode = self._children(parent_inode).get(name)
        if inode is not None:
            return self._attributes(inode)
        self._answer.st_ino = _NOTHING  # which the kernel remembers, unlike an error
        return self._answer

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return inode

    async def readdir(self, inode: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        there = list(islice(self._children(inode).items(), start_id, None))
        for position, (name, child) in enumerate(there, start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self._attributes(child), position):
                return

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode, keep_cache=True)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        return self._zeros[: max(0, min(size, self._nodes[handle].size - offset))]

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        inode = self._make(parent_inode, name, stat.S_IFREG | mode)
        return pyfuse3.FileInfo(fh=inode, keep_cache=True), self._attributes(inode)

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(self._make(parent_inode, name, stat.S_IFDIR | mode))

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        node = self._nodes[handle]
        node.size = max(node.size, offset + len(data))
        return len(data)

    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        node = self._nodes[inode]
        if fields.update_mode:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(attr.st_mode)
        if fields.update_uid:
            node.uid = attr.st_uid
        if fields.update_gid:
            node.gid = attr.st_gid
        if fields.update_mtime:
            node.mtime = attr.st_mtime_ns
        if fields.update_size:
            node.size = attr.st_size
        return self._attributes(inode)

    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        del self._children(parent_inode)[name]

    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        del self._children(parent_inode)[name]

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    async def flush(self, handle: int) -> None:
        pass

    async def release(self, handle: int) -> None:
        pass

    async def releasedir(self, handle: int) -> None:
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
    mountpoint, big_bytes, *how = sys.argv[1:]
    options = {*pyfuse3.default_options, "fsname=empty"}
    takes_turns = "turns" in how
    asked = Affinity().asked if takes_turns else lambda _: None
    pyfuse3.init(EmptyFs(int(big_bytes), asked), os.fspath(mountpoint), options)
    print('{"ready": true}', flush=True)
    try:
        with taking_turns() if takes_turns else nullcontext():
            trio.run(serve)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
