"""What the kernel asks of a mounted drive that may be changed: a file system over a `Workspace`.

The rules: an operation is a few words to the workspace, which knows what POSIX says; what is here is what only the
kernel needs: inode counts, handles, how long to believe an answer. What lies in a drive that is mounted in this one is
read as in a read-only mount. Nothing the kernel did itself is told to it again.
"""

import errno
import os
import stat as st
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import aclosing
from functools import partial

import pyfuse3
import trio

from hyperfs.core.reader import Run
from hyperfs.drive import names
from hyperfs.drive.drive import Drive
from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.stat import Stat
from hyperfs.errors import PathError
from hyperfs.mount.attributes import (
    LATEST_NS,
    LIVE_SECONDS,
    Presenter,
    content_number,
    kind_of,
    lasting_seconds,
)
from hyperfs.mount.directories import ROW, Listing, row_of, unlasting
from hyperfs.mount.edge import answers_errors
from hyperfs.mount.inodes import NO_CONTENT
from hyperfs.mount.operations import DriveOperations, presented
from hyperfs.mount.options import MountOptions
from hyperfs.mount.staging.namespace import Renaming
from hyperfs.mount.staging.nodes import Attributes, Node, attributes_of, stat_of
from hyperfs.mount.staging.tree import Found
from hyperfs.mount.staging.workspace import USER, Workspace

_RENAME_FLAGS = {0: Renaming.REPLACE, 1: Renaming.NO_REPLACE, 2: Renaming.EXCHANGE}
_FILES = st.S_IFREG, st.S_IFIFO, st.S_IFSOCK
_STAGED_CONTENT = 1
_KEPT_ATIMES = 4096
_MAX_LOOKED_UP = 64


class WritableOperations(DriveOperations):
    """The operations of a writable mount."""

    def __init__(self, drive: Drive, options: MountOptions, nursery: trio.Nursery, workspace: Workspace) -> None:
        self.workspace = workspace
        super().__init__(drive, options, nursery)
        self.inodes = workspace.inodes
        self._reading_seconds = options.timeout_seconds
        self._atimes: OrderedDict[int, int] = OrderedDict()
        self._looked_up: dict[int, Entry] = {}
        self._untouched: dict[int, Snapshot] = {}

    @property
    def snapshot(self) -> Snapshot:
        """The version below what is staged."""
        return self.workspace.tree.snapshot

    @snapshot.setter
    def snapshot(self, snapshot: Snapshot) -> None:
        """The workspace alone moves to another version."""

    def committed(self, number: int, stat: Stat) -> None:
        """Note that a file has another run now, with the bytes that the kernel has pages of."""
        if number in self.inodes and self.inodes[number].content != NO_CONTENT:
            self.inodes.set_content(number, content_number(self.drive.key, stat))

    def blocks_in_use(self, key: bytes) -> Iterator[range]:
        """Yield the blocks of core ``key`` that open files lie in, and those below what is staged."""
        contents = {number: node.content for number, node in self.workspace.tree.nodes.items() if node.content}
        yield from self.files.blocks_in_use(key, without=contents)
        for content in contents.values():
            frozen = content.frozen
            below = content.below if frozen is None else frozen.below
            if isinstance(below, OpenFile) and below.core.key == key:
                yield below.run.blocks

    # Looking

    @answers_errors
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Find a name; that it is absent is an answer too, which the kernel remembers."""
        if len(name) > names.MAX_NAME_BYTES:
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return self._presenter.absent(LIVE_SECONDS)
        found = self.workspace.tree.child_now(parent_inode, text)
        if found is None:
            with self.waits.limit(self._lookup_seconds, text, busy=parent_inode):
                found = await self.workspace.find(parent_inode, text)
        if found is None or found.is_absent:
            return self._presenter.absent(LIVE_SECONDS)
        return self._answer_found(found, parent_inode, name)

    @answers_errors
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Return an inode's attributes; of an unlinked one, too."""
        node = self.workspace.tree.nodes.get(inode)
        if node is not None:
            return self._answer(inode, node.attributes_now())
        with self.waits.limit(self._lookup_seconds, "attributes", busy=inode):
            entry = await self.workspace.tree.entry(inode)
        return self._answer(inode, attributes_of(stat_of(entry)), lasting_seconds(entry))

    @answers_errors
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Return a symbolic link's target."""
        with self.waits.limit(self._lookup_seconds, "link", busy=inode):
            target = await self.workspace.link_target(inode)
        if target is None:
            raise pyfuse3.FUSEError(errno.EINVAL)
        return target.encode(errors="surrogateescape")

    @answers_errors
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """Return a handle on a directory, also on one that was removed meanwhile."""
        return self._open_directory(inode, b"")

    @answers_errors
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Answer entries from offset ``start_id``, with their attributes as they are now."""
        directory = self._directories[fh]
        tree = self.workspace.tree
        if directory.listing is None or start_id == 0:
            directory.changes = tree.changes
            directory.listing = await self._list(directory.number)
        refresh = None if directory.changes == tree.changes else partial(self._refresh, directory.number)
        current = directory.listing.snapshot is self.snapshot
        directory.reply(start_id, token, self.inodes, self._presenter, current=current, refresh=refresh)

    async def _list(self, number: int) -> Listing:
        listing = Listing(self.snapshot, [])
        with self.waits.limit(self._lookup_seconds, "directory", busy=number) as limit:
            async with aclosing(self.workspace.tree.list(number)) as batches:
                async for found in batches:
                    limit.progressed()
                    listing.rows += [_row(name, entry, self._presenter) for name, entry in found]
        return listing

    def _refresh(self, parent: int, row: bytes) -> bytes | None:
        """Return a row of a listing as it has to be now; None when it went.

        Of what cannot be told without waiting the kernel may keep nothing: what went would come back.
        """
        name = row[ROW.size :].decode()
        found = self.workspace.tree.child_now(parent, name)
        if found is None:
            return unlasting(row)
        if found.is_absent:
            return None
        return row if found.node is None else _row(name, found.node, self._presenter)

    async def _attributes(self, inode: int) -> dict[str, bytes]:
        with self.waits.limit(self._lookup_seconds, "attributes", busy=inode):
            return presented(await self.workspace.user_attributes(inode))

    @answers_errors
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Tell of the store's disk, less what is staged and will be needed once more for the commit."""
        disk = await trio.to_thread.run_sync(os.statvfs, self.workspace.directory)
        needed = -(-self.workspace.uncommitted_bytes // disk.f_frsize)
        answer = pyfuse3.StatvfsData()
        answer.f_bsize, answer.f_frsize = disk.f_bsize, disk.f_frsize
        answer.f_blocks = disk.f_blocks
        answer.f_bfree = max(0, disk.f_bfree - needed)
        answer.f_bavail = max(0, disk.f_bavail - needed)
        answer.f_files, answer.f_ffree, answer.f_favail = disk.f_files, disk.f_ffree, disk.f_favail
        answer.f_namemax = names.MAX_NAME_BYTES
        return answer

    # Open files

    @answers_errors
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Open a file. The kernel keeps its pages: whatever changed it went through the kernel, or it was told."""
        writing = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC))
        opened = None if writing else self._open_untouched(inode)
        if opened is not None:
            return opened
        with self.waits.limit(self._lookup_seconds, "opening", busy=inode):
            content = await self.workspace.open(inode, writing=writing)
            if content is None:
                return await super().open(inode, flags, ctx)
            if flags & os.O_TRUNC:
                try:
                    mode = _without_set_id(self.workspace.tree.nodes[inode].mode) if ctx.uid else None
                    await self.workspace.set_attributes(inode, size=0, mode=mode)
                except BaseException:  # cancelled or failed, the open does not count
                    self.workspace.released(inode)
                    raise
        keep = self.inodes[inode].content != NO_CONTENT
        node = self.workspace.tree.nodes[inode]
        self.inodes.set_content(
            inode, _STAGED_CONTENT if content.is_dirty else content_number(self.drive.key, node.stat)
        )
        return pyfuse3.FileInfo(fh=await self._handle(inode), keep_cache=keep)

    def _open_untouched(self, inode: int) -> pyfuse3.FileInfo | None:
        """Open a file that nothing is staged of, if that takes no waiting, without a word to the workspace."""
        tree = self.workspace.tree
        if inode in tree.nodes:
            return None
        entry = self._looked_up.get(inode)
        if entry is None or entry.volume is not self.snapshot:  # a listing told of it, and no lookup followed
            path = tree.base_path(inode)
            entry = None if path is None else self.snapshot.stat_now(path)
            if entry is None:
                return None
        stat = stat_of(entry)
        file = self.snapshot.open_now(entry, stat)
        if file is None:
            return None
        keep = self.inodes[inode].content != NO_CONTENT or self._give_pages(inode, file)
        self.inodes.set_content(inode, content_number(self.drive.key, stat))
        handle = self.files.open(inode, file, entry.path)
        self._untouched[handle] = self.snapshot
        return pyfuse3.FileInfo(fh=handle, keep_cache=keep)

    async def _take_up(self, fh: int) -> None:
        """Have the workspace know of a handle, once there is another version, or something is staged of its file."""
        number = self.files[fh].number
        seen = self._untouched[fh]
        if seen is self.snapshot and number not in self.workspace.tree.nodes:
            return
        del self._untouched[fh]
        try:
            with self.waits.limit(self._lookup_seconds, "opening", busy=number):
                await self.workspace.open(number, writing=False)
        except PathError:
            self._untouched[fh] = self.snapshot  # it is gone: who has it open keeps what there was
        except BaseException:  # cancelled or failed, the handle stays as it was
            self._untouched[fh] = seen
            raise

    @answers_errors
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """Make a file and open it."""
        mode = st.S_IFREG | st.S_IMODE(mode)
        node = self.workspace.names.make_now(parent_inode, _text(name), mode, uid=ctx.uid, gid=ctx.gid)
        if node is None:
            node = await self._make(parent_inode, name, mode, ctx)
        self.workspace.opened(node.number)
        self.inodes.set_content(node.number, _STAGED_CONTENT)
        handle = await self._handle(node.number)
        return pyfuse3.FileInfo(fh=handle, keep_cache=True), self._answer_made(node)

    @answers_errors
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Return bytes of an open file, staged ones included."""
        handle = self.files[fh]
        if fh in self._untouched:
            await self._take_up(fh)
        content = self.workspace.content(handle.number)
        if content is None:
            return await self.files.read(handle, off, size)
        below = content.below
        if isinstance(below, OpenFile) and not content.is_dirty:
            if handle.file is not below:
                handle.adopt(below)
            return await self.files.read(handle, off, size)
        with self.waits.limit(self._reading_seconds, handle.name, busy=handle.number):
            return await content.read(off, size)

    @answers_errors
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write to an open file."""
        await self.workspace.write(self.files[fh].number, off, buf)
        return len(buf)

    @answers_errors
    async def flush(self, fh: int) -> None:
        """A descriptor was closed: what was written to it outlives this process from now on."""
        handle = self.files[fh]
        handle.demote()
        await self.workspace.flush(handle.number)

    @answers_errors
    async def release(self, fh: int) -> None:
        """Close a file. What was written through a mapping comes between flush and this."""
        number = self.files[fh].number
        self.files.release(fh)
        if self._untouched.pop(fh, None) is not None:
            return
        if self.workspace.content(number) is not None:
            try:
                await self.workspace.flush(number)
            finally:
                self.workspace.released(number)

    @answers_errors
    async def fsync(self, fh: int, datasync: bool) -> None:
        """Make a file durable. It is not committed by that: a database's syncs would append it each time."""
        await self.workspace.sync(self.files[fh].number)

    @answers_errors
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Make all that is staged durable."""
        await self.workspace.sync()

    # Changing

    @answers_errors
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a directory."""
        return self._answer_made(await self._make(parent_inode, name, st.S_IFDIR | st.S_IMODE(mode), ctx))

    @answers_errors
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a file, FIFO or socket. EPERM for a device: the format keeps no number for it."""
        if st.S_IFMT(mode) not in _FILES:
            raise pyfuse3.FUSEError(errno.EPERM)
        return self._answer_made(await self._make(parent_inode, name, mode, ctx))

    @answers_errors
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a symbolic link."""
        linkname = target.decode(errors="surrogateescape")
        return self._answer_made(await self._make(parent_inode, name, st.S_IFLNK | 0o777, ctx, linkname))

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Refuse a hard link, as link(2) says of a file system that has none; tools then copy."""
        raise pyfuse3.FUSEError(errno.EPERM)

    @answers_errors
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove anything but a directory."""
        with self.waits.limit(self._lookup_seconds, "unlinking", busy=parent_inode):
            await self.workspace.names.unlink(parent_inode, _text(name))

    @answers_errors
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove an empty directory."""
        with self.waits.limit(self._lookup_seconds, "removing", busy=parent_inode) as limit:
            await self.workspace.names.remove_directory(parent_inode, _text(name), on_entries=limit.progressed)

    @answers_errors
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Rename anything, as the flags say. EINVAL for those that make a whiteout."""
        how = _RENAME_FLAGS.get(flags)
        if how is None:
            raise pyfuse3.FUSEError(errno.EINVAL)
        with self.waits.limit(self._lookup_seconds, "renaming", busy=parent_inode_old):
            await self.workspace.names.rename(parent_inode_old, _text(name_old), parent_inode_new, _text(name_new), how)

    @answers_errors
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Change attributes. A drive keeps no time of access: it is shown for as long as the mount remembers it."""
        with self.waits.limit(self._lookup_seconds, "attributes", busy=inode):
            changed = await self.workspace.set_attributes(
                inode,
                mode=attr.st_mode if fields.update_mode else None,
                uid=attr.st_uid if fields.update_uid else None,
                gid=attr.st_gid if fields.update_gid else None,
                mtime=attr.st_mtime_ns if fields.update_mtime else None,
                size=attr.st_size if fields.update_size else None,
            )
        if fields.update_atime:
            self._atimes[inode] = max(0, attr.st_atime_ns)
            while len(self._atimes) > _KEPT_ATIMES:
                self._atimes.popitem(last=False)
        return self._answer(inode, changed)

    @answers_errors
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Set an extended attribute of the user's. EOPNOTSUPP for other namespaces."""
        await self._set_attribute(inode, name, value)

    @answers_errors
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove an extended attribute."""
        await self._set_attribute(inode, name, None)

    async def _set_attribute(self, inode: int, name: bytes, value: bytes | None) -> None:
        text = name.decode(errors="surrogateescape")
        if not text.startswith(USER):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        if text == USER:
            raise pyfuse3.FUSEError(errno.EINVAL)
        with self.waits.limit(self._lookup_seconds, "attributes", busy=inode):
            there = await self.workspace.user_attributes(inode)
            if text not in there and text.removeprefix(USER) in there:
                text = text.removeprefix(USER)  # the reference's writers know no namespaces
            await self.workspace.set_user_attribute(inode, text, value)

    async def _make(
        self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext, linkname: str | None = None
    ) -> Node:
        with self.waits.limit(self._lookup_seconds, "making", busy=parent):
            return await self.workspace.names.make(
                parent, _text(name), mode, uid=ctx.uid, gid=ctx.gid, linkname=linkname
            )

    async def _handle(self, inode: int) -> int:
        content = self.workspace.content(inode)
        below = content.below if content is not None else None
        if not isinstance(below, OpenFile):
            below = OpenFile(await self.drive.content(), Run(range(0), 0, 0))
        try:
            name = self.workspace.tree.path(inode)
        except PathError:
            name = "an unlinked file"
        return self.files.open(inode, below, name)

    def _answer_found(self, found: Found, parent: int, name: bytes) -> pyfuse3.EntryAttributes:
        attributes = found.attributes
        if found.node is not None:
            number = found.node.number
            self.workspace.inodes.looked_up(number)
            return self._answer(number, attributes)
        assert found.entry is not None
        number = self.inodes.remember(parent, name, kind_of(attributes.mode))
        if len(self._looked_up) >= _MAX_LOOKED_UP:
            self._looked_up.clear()
        self._looked_up[number] = found.entry
        return self._answer(number, attributes, lasting_seconds(found.entry))

    def _answer_made(self, node: Node) -> pyfuse3.EntryAttributes:
        self.workspace.inodes.looked_up(node.number)
        return self._answer(node.number, node.attributes_now())

    def _answer(self, number: int, attributes: Attributes, seconds: float = LIVE_SECONDS) -> pyfuse3.EntryAttributes:
        answer = self._presenter.of_attributes(number, attributes, seconds)
        atime = self._atimes.get(number)
        if atime is not None:
            answer.st_atime_ns = atime
        return answer


def _without_set_id(mode: int) -> int:
    """Return what writing leaves of a mode. The kernel sees to it itself, except where opening a file empties it."""
    gone = st.S_ISUID | (st.S_ISGID if mode & st.S_IXGRP else 0)
    return mode & ~gone


def _text(name: bytes) -> str:
    if len(name) > names.MAX_NAME_BYTES:
        raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
    return name.decode(errors="surrogateescape")


def _row(name: str, entry: Node | Entry, presenter: Presenter) -> bytes:
    if isinstance(entry, Entry):
        return row_of(entry, presenter)
    attributes = entry.attributes_now()
    mode, uid, gid = presenter.owner_and_mode(attributes)
    mtime, ctime = min(attributes.mtime, LATEST_NS), min(attributes.ctime, LATEST_NS)
    return ROW.pack(mode, uid, gid, attributes.size, mtime, ctime, LIVE_SECONDS) + name.encode()
