"""What the kernel asks, put to a `View`, and the answers: the binding to pyfuse3, and nothing else.

The rules: what a view can answer at once is answered at once; the rest is awaited under a time limit, and what may have
changed meanwhile the kernel may not keep. What is once for all views is here: handles, directories, the kernel's pages.
"""

import errno
import logging
import os
import stat as st
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pyfuse3
import trio

from hyperfs.drive import names
from hyperfs.mount import pages
from hyperfs.mount.attributes import USER
from hyperfs.mount.directories import OpenDirectory
from hyperfs.mount.edge import answers_errors
from hyperfs.mount.files import STAGED_CONTENT, Handle, OpenFiles
from hyperfs.mount.inodes import NO_CONTENT, place_of
from hyperfs.mount.options import MountOptions
from hyperfs.mount.presenter import Presenter
from hyperfs.mount.staging.nodes import Renaming
from hyperfs.mount.view import Answer, View
from hyperfs.mount.waiting import NOBODY, Limit, Waits

logger = logging.getLogger(__name__)

_RENAME_FLAGS = {0: Renaming.REPLACE, 1: Renaming.NO_REPLACE, 2: Renaming.EXCHANGE}
_MADE_KINDS = st.S_IFREG, st.S_IFIFO, st.S_IFSOCK


class Operations(pyfuse3.Operations):
    """The operations of one mount."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(
        self,
        view: View,
        options: MountOptions,
        nursery: trio.Nursery,
        *,
        asked: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``asked`` is told who asks, by the id of its thread, whenever a name or attributes are asked for."""
        super().__init__()
        self.view = view
        self.waits = Waits()
        self.files = OpenFiles(nursery, self.waits, options.timeout_seconds)
        self.files.fetch_siblings = view.fetch_siblings
        self._asked = asked
        self._presenter = Presenter(options)
        self._directories: dict[int, OpenDirectory] = {}
        self._next_directory = 1
        self._lookup_seconds = min(options.lookup_timeout_seconds, options.timeout_seconds)

    def blocks_in_use(self, key: bytes) -> Iterator[range]:
        """Yield the blocks of core ``key`` that must stay: of open files, and of what is not committed."""
        yield from self.view.blocks_in_use(key, self.files)

    # Looking

    @answers_errors
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Find a name; that it is absent is an answer too, which the kernel remembers."""
        if len(name) > names.MAX_NAME_BYTES:
            raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
        self._asked(ctx.pid)
        answer = self.view.lookup_now(parent_inode, name)
        if answer is None:
            answer = await self._wait("looking up", parent_inode, lambda: self.view.lookup(parent_inode, name))
        return self._presenter.of(answer)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Take back lookups."""
        for number, lookups in inode_list:
            try:
                self.view.inodes.forget(number, lookups)
            except Exception:  # the edge, as `answers_errors` is, of what is not answered
                logger.exception("inode %d cannot be forgotten", number)

    @answers_errors
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Return an inode's attributes; ESTALE for one that is gone."""
        self._asked(ctx.pid)
        answer = self.view.attributes_now(inode)
        if answer is None:
            answer = await self._wait("attributes", inode, lambda: self.view.attributes(inode))
        return self._presenter.of(answer)

    @answers_errors
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Return where a symbolic link leads."""
        with self._limit("link", inode):
            target = await self.view.link_target(inode)
        return target.encode(errors="surrogateescape")

    @answers_errors
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """Return a handle on a directory; its listing waits for the first read."""
        handle = self._next_directory
        self._next_directory += 1
        self._directories[handle] = OpenDirectory(inode)
        return handle

    @answers_errors
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Answer entries from offset ``start_id``, with their attributes."""
        directory = self._directories[fh]
        if directory.rows is None or start_id == 0:
            with self._limit("directory", directory.number) as limit:
                await directory.read(self.view, limit.progressed)
        directory.reply(start_id, token, self.view, self._presenter)

    @answers_errors
    async def releasedir(self, fh: int) -> None:
        """Close a directory."""
        del self._directories[fh]

    @answers_errors
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Tell how much room there is."""
        with self._limit("statfs", NOBODY):
            space = await self.view.space()
        answer = pyfuse3.StatvfsData()
        answer.f_bsize, answer.f_frsize = space.block_bytes, space.fragment_bytes
        answer.f_blocks, answer.f_bfree, answer.f_bavail = space.blocks, space.free, space.available
        answer.f_files, answer.f_ffree, answer.f_favail = space.files, space.files_free, space.files_available
        answer.f_namemax = names.MAX_NAME_BYTES
        return answer

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """Leave permissions to the kernel, which checks them itself."""
        return True

    @answers_errors
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """Return an extended attribute. Other namespaces than user's are answered from memory: there are none."""
        if not name.startswith(b"user."):
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        with self._limit("attributes", inode):
            there = await self.view.user_attributes(inode)
        value = there.get(name.decode(errors="surrogateescape"))
        if value is None:
            raise pyfuse3.FUSEError(pyfuse3.ENOATTR)
        return value

    @answers_errors
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        """Return the names of the extended attributes."""
        with self._limit("attributes", inode):
            there = await self.view.user_attributes(inode)
        return [name.encode(errors="surrogateescape") for name in there]

    # Open files

    @answers_errors
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Open a file; the kernel keeps its pages when they are of what is opened."""
        writing = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC))
        truncating = bool(flags & os.O_TRUNC)
        handle = None if truncating else self.view.open_now(inode, writing=writing)
        if handle is None:
            with self._limit("opening", inode):
                handle = await self.view.open(inode, writing=writing, truncating=truncating, keeps_set_id=not ctx.uid)
        known = self.view.inodes[inode].content
        if known == NO_CONTENT:
            keep = not writing and self._give_pages(handle)
        else:
            keep = known == handle.content or handle.content == STAGED_CONTENT
        return self._opened(handle, keep=keep)

    @answers_errors
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """Make a file and open it."""
        answer = await self._make(parent_inode, name, st.S_IFREG | st.S_IMODE(mode), ctx)
        handle = self.view.open_made(answer.number)
        return self._opened(handle, keep=True), self._presenter.of(answer)

    @answers_errors
    async def read(self, fh: int, off: int, size: int) -> bytes:
        """Return bytes of an open file, staged ones included."""
        handle = self.files[fh]
        source = self.view.source_now(handle)
        if source is None:
            with self._limit("opening", handle.number):
                source = await self.view.source(handle)
        return await self.files.read(handle, source, off, size)

    @answers_errors
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """Write to an open file."""
        await self.view.write(self.files[fh], off, buf)
        return len(buf)

    @answers_errors
    async def flush(self, fh: int) -> None:
        """Note that a descriptor was closed, or its program killed: perhaps nobody reads on.

        The kernel asks no more once a view had nothing to do here, and saves a request for each close. Who reads on is
        then known when the file is released, after the reads that were going on: no later than their time limit.
        """
        handle = self.files[fh]
        handle.demote()
        await self.view.flushed(handle)

    @answers_errors
    async def release(self, fh: int) -> None:
        """Close a file."""
        await self.view.released(self.files.release(fh))

    @answers_errors
    async def fsync(self, fh: int, datasync: bool) -> None:
        """Make a file durable. It is not committed by that: a database's syncs would append it each time."""
        await self.view.sync(self.files[fh].number)

    @answers_errors
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Make all that is staged durable."""
        await self.view.sync(None)

    # Changing

    @answers_errors
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a directory."""
        return self._presenter.of(await self._make(parent_inode, name, st.S_IFDIR | st.S_IMODE(mode), ctx))

    @answers_errors
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a file, FIFO or socket. EPERM for a device: the format keeps no number for it."""
        if st.S_IFMT(mode) not in _MADE_KINDS:
            raise pyfuse3.FUSEError(errno.EPERM)
        return self._presenter.of(await self._make(parent_inode, name, mode, ctx))

    @answers_errors
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Make a symbolic link."""
        linkname = target.decode(errors="surrogateescape")
        return self._presenter.of(await self._make(parent_inode, name, st.S_IFLNK | 0o777, ctx, linkname))

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Refuse a hard link, as link(2) says of a file system that has none; tools then copy."""
        raise pyfuse3.FUSEError(errno.EPERM if place_of(inode) == place_of(new_parent_inode) else errno.EXDEV)

    @answers_errors
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove anything but a directory."""
        text = _text(name)
        if self.view.unlink_now(parent_inode, text) is None:
            with self._limit("unlinking", parent_inode):
                await self.view.unlink(parent_inode, text)

    @answers_errors
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove an empty directory."""
        text = _text(name)
        if self.view.remove_directory_now(parent_inode, text) is None:
            with self._limit("removing", parent_inode) as limit:
                await self.view.remove_directory(parent_inode, text, limit.progressed)

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
        where = parent_inode_old, _text(name_old), parent_inode_new, _text(name_new), how
        if self.view.rename_now(*where) is None:
            with self._limit("renaming", parent_inode_old):
                await self.view.rename(*where)

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
        wanted = (
            inode,
            attr.st_mode if fields.update_mode else None,
            attr.st_uid if fields.update_uid else None,
            attr.st_gid if fields.update_gid else None,
            attr.st_mtime_ns if fields.update_mtime else None,
            attr.st_size if fields.update_size else None,
        )
        answer = self.view.set_attributes_now(*wanted)
        if answer is None:
            with self._limit("attributes", inode):
                answer = await self.view.set_attributes(*wanted)
        if fields.update_atime:
            self._presenter.accessed(inode, attr.st_atime_ns)
        return self._presenter.of(answer)

    @answers_errors
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Set an extended attribute of the user's. EOPNOTSUPP for other namespaces."""
        await self._set_user_attribute(inode, name, value)

    @answers_errors
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        """Remove an extended attribute."""
        await self._set_user_attribute(inode, name, None)

    # Inside

    def _limit(self, what: str, number: int) -> Limit:
        return self.waits.limit(self._lookup_seconds, what, busy=number)

    async def _wait(self, what: str, number: int, look: Callable[[], Awaitable[Answer]]) -> Answer:
        """Await an answer. It may have been found before something was changed that the kernel was told of."""
        before = self.view.generation_of(number)
        with self._limit(what, number):
            answer = await look()
        return answer if self.view.generation_of(number) == before else answer._replace(seconds=0.0)

    async def _make(
        self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext, linkname: str | None = None
    ) -> Answer:
        text = _text(name)
        answer = self.view.make_now(parent, text, mode, ctx.uid, ctx.gid, linkname)
        if answer is None:
            with self._limit("making", parent):
                answer = await self.view.make(parent, text, mode, ctx.uid, ctx.gid, linkname)
        return answer

    def _opened(self, handle: Handle, *, keep: bool) -> pyfuse3.FileInfo:
        self.view.inodes.set_content(handle.number, handle.content)
        return pyfuse3.FileInfo(fh=self.files.add(handle), keep_cache=keep)

    def _give_pages(self, handle: Handle) -> bool:
        """Give the kernel the bytes of a small file that it has none of and nobody has open; tell if it did."""
        if handle.file is None or handle.content == STAGED_CONTENT or self.files.is_open(handle.number):
            return False
        given = pages.give(handle.number, handle.file)
        if given:
            self.files.note_small(handle, here=True)
        return given

    async def _set_user_attribute(self, inode: int, name: bytes, value: bytes | None) -> None:
        text = name.decode(errors="surrogateescape")
        if not text.startswith(USER):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        if text == USER:
            raise pyfuse3.FUSEError(errno.EINVAL)
        with self._limit("attributes", inode):
            await self.view.set_user_attribute(inode, text, value)


def _text(name: bytes) -> str:
    if len(name) > names.MAX_NAME_BYTES:
        raise pyfuse3.FUSEError(errno.ENAMETOOLONG)
    return name.decode(errors="surrogateescape")
