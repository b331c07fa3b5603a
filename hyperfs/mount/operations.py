"""What the kernel asks of a mounted drive, and the answers: a read-only file system over a drive's snapshots.

The rules: an operation takes the head's snapshot once and uses it from start to end; what it answers from a snapshot
that is the head no longer, the kernel may not keep. Whatever changes the drive is answered with EROFS, in one place
(`refused`), which is where a writable mount takes over.
"""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyfuse3
import trio

from hyperfs.drive import names
from hyperfs.drive.drive import Drive
from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.usage import content_end
from hyperfs.errors import PathError
from hyperfs.mount import pages
from hyperfs.mount.attributes import LIVE_SECONDS, Presenter, content_of, kind_of, lasting_seconds
from hyperfs.mount.directories import Listing, OpenDirectory
from hyperfs.mount.edge import answers_errors
from hyperfs.mount.files import OpenFiles
from hyperfs.mount.inodes import NO_CONTENT, InodeTable
from hyperfs.mount.options import MountOptions
from hyperfs.mount.waiting import NOBODY, Waits

_BLOCK_BYTES = 4096
_MOST_BLOCKS = (1 << 63) // _BLOCK_BYTES
_MAX_RECENT = 64
_USER = "user."
FOREIGN_NAMESPACES = ("security.", "system.", "trusted.", "hyperfs.")


async def refused(*_: Any) -> Any:
    """Answer a change: the file system is read-only."""
    raise pyfuse3.FUSEError(errno.EROFS)


_REFUSED: Any = refused


class DriveOperations(pyfuse3.Operations):
    """The operations of one mount. ``snapshot`` is the head; `Follower` moves it."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, drive: Drive, options: MountOptions, nursery: trio.Nursery) -> None:
        super().__init__()
        self.drive = drive
        self.snapshot: Snapshot = drive.snapshot()
        self.inodes = InodeTable(drive.key)
        self.waits = Waits()
        self.files = OpenFiles(nursery, self.waits, options.timeout_seconds)
        self._presenter = Presenter(options)
        self._directories: dict[int, OpenDirectory] = {}
        self._next_directory = 1
        self._lookup_seconds = min(options.lookup_timeout_seconds, options.timeout_seconds)
        self._recent: dict[bytes, Entry] = {}
        self._recent_of = self.snapshot

    def blocks_in_use(self, key: bytes) -> Iterator[range]:
        """Yield the blocks of core ``key`` that open files lie in, also those that the drive has no more."""
        return self.files.blocks_in_use(key)

    @answers_errors
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Find a name; that it is absent is an answer too, which the kernel remembers."""
        if len(name) > names.MAX_NAME_BYTES:
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        parent = self._path(parent_inode)
        path = parent + b"/" + name if parent else name
        snapshot = self.snapshot
        try:
            if b"\\" in name:
                raise PathError(errno.ENOENT, repr(path), "no drive holds such a name")
            entry = await self._stat(snapshot, path, busy=parent_inode)
        except PathError as error:
            if error.errno != errno.ENOENT:
                raise
            return self._presenter.absent(LIVE_SECONDS if snapshot is self.snapshot else 0)
        stat = entry.stat
        seconds = self._seconds(entry, snapshot)
        number = self.inodes.remember(parent_inode, name, kind_of(stat.mode))
        return self._presenter.of_stat(number, stat, seconds)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Take back lookups."""
        for number, lookups in inode_list:
            self.inodes.forget(number, lookups)

    @answers_errors
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Return an inode's attributes; ESTALE for one whose path is gone."""
        snapshot = self.snapshot
        entry = await self._stat(snapshot, self._path(inode), busy=inode)
        return self._presenter.of_stat(inode, entry.stat, self._seconds(entry, snapshot))

    @answers_errors
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Return a symbolic link's target."""
        entry = await self._stat(self.snapshot, self._path(inode), busy=inode)
        stat = entry.stat
        if not stat.is_link or stat.linkname is None:
            raise pyfuse3.FUSEError(errno.EINVAL)
        return stat.linkname.encode(errors="surrogateescape")

    @answers_errors
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """Return a handle on a directory; its listing waits for the first read."""
        return self._open_directory(inode, self._path(inode))

    @answers_errors
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Answer entries from offset ``start_id``, with their attributes."""
        directory = self._directories[fh]
        listing = directory.listing
        if listing is None or start_id == 0:
            path = directory.path.decode()
            with self.waits.limit(self._lookup_seconds, path or "/", busy=directory.number) as limit:
                listing = await Listing.read(self.snapshot, path, self._presenter, on_entry=limit.progressed)
            directory.listing = listing
        directory.reply(start_id, token, self.inodes, self._presenter, current=listing.snapshot is self.snapshot)

    @answers_errors
    async def releasedir(self, fh: int) -> None:
        """Close a directory."""
        del self._directories[fh]

    @answers_errors
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Open a file at its newest version; the kernel keeps its pages when they are of that version."""
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            raise pyfuse3.FUSEError(errno.EROFS)
        snapshot = self.snapshot
        path = self._path(inode)
        entry = await self._stat(snapshot, path, busy=inode)
        stat = entry.stat
        file = snapshot.open_now(entry, stat)
        if file is None:
            with self.waits.limit(self._lookup_seconds, entry.path, busy=inode):
                file = await snapshot.open(entry)
        content = content_of(entry, stat)
        keep = self.inodes[inode].content == content or self._give_pages(inode, file)
        self.inodes.set_content(inode, content)
        return pyfuse3.FileInfo(fh=self.files.open(inode, file, entry.path), keep_cache=keep)

    @answers_errors
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Return bytes of an open file."""
        return await self.files.read(self.files[fh], off, size)

    @answers_errors
    async def flush(self, fh: int) -> None:
        """Note that a descriptor was closed, or its program killed: perhaps nobody reads on."""
        self.files[fh].demote()

    @answers_errors
    async def release(self, fh: int) -> None:
        """Close a file."""
        self.files.release(fh)

    async def fsync(self, fh: int, datasync: bool) -> None:
        """Nothing here is ever dirty."""

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Nothing here is ever dirty."""

    @answers_errors
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Tell of a file system that is full: as large as the drive's content, with nothing free.

        As long as no content was read, nothing is known of it but what the newest files say.
        """
        with self.waits.limit(self._lookup_seconds, "statfs", busy=NOBODY):
            content = await self.drive.content()
        size = max(content.byte_length, content_end(self.snapshot))
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = _BLOCK_BYTES
        answer.f_blocks = min(-(-size // _BLOCK_BYTES), _MOST_BLOCKS)
        answer.f_files = self.snapshot.version
        answer.f_namemax = names.MAX_NAME_BYTES
        return answer

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Leave permissions to the kernel, which checks them itself."""
        return True

    @answers_errors
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """Return an extended attribute. Other namespaces than user's are answered from memory: there are none."""
        text = name.decode(errors="surrogateescape")
        if not text.startswith(_USER):
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        value = (await self._attributes(inode)).get(text)
        if value is None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        return value

    @answers_errors
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        """Return the names of the extended attributes."""
        return [name.encode(errors="surrogateescape") for name in await self._attributes(inode)]

    create = mknod = mkdir = symlink = link = rename = unlink = rmdir = _REFUSED
    setattr = write = setxattr = removexattr = _REFUSED

    def _give_pages(self, inode: int, file: OpenFile) -> bool:
        """Give the kernel the bytes of a small file that it has none of and nobody has open; tell if it did."""
        is_new = self.inodes[inode].content == NO_CONTENT and not self.files.is_open(inode)
        return is_new and pages.give(inode, file)

    def _open_directory(self, inode: int, path: bytes) -> int:
        handle = self._next_directory
        self._next_directory += 1
        self._directories[handle] = OpenDirectory(inode, path)
        return handle

    async def _attributes(self, inode: int) -> dict[str, bytes]:
        """Return the attributes by their name in the file system; one without a namespace is the user's."""
        entry = await self._stat(self.snapshot, self._path(inode), busy=inode)
        return presented(entry.stat.present_attributes)

    async def _stat(self, snapshot: Snapshot, path: bytes, *, busy: int) -> Entry:
        """Return the entry at ``path``; a lookup is mostly followed by an open, so the last ones are kept."""
        if snapshot is not self._recent_of:
            self._recent_of = snapshot
            self._recent.clear()
        recent = self._recent.get(path)
        if recent is not None and recent.core_size is None:
            return recent
        try:
            text = path.decode()
        except UnicodeDecodeError:
            raise PathError(errno.ENOENT, repr(path), "names are UTF-8") from None
        entry = snapshot.stat_now(text)
        if entry is None:
            with self.waits.limit(self._lookup_seconds, text or "/", busy=busy):
                entry = await snapshot.stat(text)
        if snapshot is self._recent_of:
            if len(self._recent) >= _MAX_RECENT:
                self._recent.clear()
            self._recent[path] = entry
        return entry

    def _path(self, inode: int) -> bytes:
        try:
            return self.inodes.path(inode)
        except KeyError:
            raise pyfuse3.FUSEError(errno.ESTALE) from None

    def _seconds(self, entry: Entry, snapshot: Snapshot) -> float:
        """Return for how long the kernel may keep what is answered of an entry."""
        return lasting_seconds(entry) if snapshot is self.snapshot else 0.0


def presented(attributes: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return a drive's extended attributes by their name in the file system; one without a namespace is the user's."""
    return {
        name if name.startswith(_USER) else _USER + name: value
        for name, value in attributes.items()
        if name and not name.startswith(FOREIGN_NAMESPACES) and "\0" not in name
    }
