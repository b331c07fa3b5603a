"""A file system over a drive's snapshot, whose changes are staged.

The rules: a change is checked, then written to the journal, then made, and from the check on nothing waits, so that
who looks sees all of it or nothing. Changes of names (`namespace`) and attributes are made one at a time; writing to an
open file waits for nobody. Paths are the journal's only: inside, everything is inode numbers and names.
"""

import errno
import os
import stat as st
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.errors import HyperfsError, PathError, errno_of
from hyperfs.mount.staging.directory import ENTRY_BYTES, StagingDirectory
from hyperfs.mount.staging.extents import Content, Extent
from hyperfs.mount.staging.namespace import Namespace
from hyperfs.mount.staging.nodes import Attributes, Node, attributes_of, stat_of
from hyperfs.mount.staging.numbers import Numbers
from hyperfs.mount.staging.recording import Records
from hyperfs.mount.staging.records import AttributesSet, Record, Synced, UserAttributeSet, Written
from hyperfs.mount.staging.times import Clock, Times, kernel_time
from hyperfs.mount.staging.tree import Found, Tree

MAX_FILE_BYTES = 1 << 43
"""The format keeps a hole as the zeros that it reads as, so a file longer than any disk is refused at once."""
MAX_ATTRIBUTES_BYTES = 256 * 1024
"""The names and values of one file's extended attributes together: they all lie in one node."""
MAX_TIME_NS = (1 << 63) - 1
"""The latest time that is kept, in April 2262: later ones become it."""
USER = "user."


class Workspace:
    """The staged state of one drive. ``changed`` is called when something is there to be committed."""

    def __init__(
        self,
        snapshot: Snapshot,
        directory: Path,
        *,
        owner: tuple[int, int] | None = None,
        clock: Clock = kernel_time,
        place: int = 0,
    ) -> None:
        """Stage in ``directory``, which is this workspace's alone. ``place`` as of `InodeTable`."""
        self.directory = directory
        self.owner = owner or (os.getuid(), os.getgid())
        self.tree = Tree(snapshot, self.owner, place=place)
        self.files = StagingDirectory(directory)
        self.segments = self.files.segments
        self.journal = self.files.journal
        self._times = Times(clock)
        self.records = Records(self.journal, self.tree, self._times.now)
        self.names = Namespace(self)
        self.uncommitted_bytes = 0
        self.elsewhere: Callable[[], int] = _nothing
        """Tells how many bytes are uncommitted that other workspaces have on the same disk."""
        self.is_recovered = False
        """Whether all is staged that the folder held: before that nothing in it is to be deleted."""
        self.is_settling = False
        """Whether there is a commit that stands, and may not be on the disk yet: its segments are still needed."""
        self.refusal: HyperfsError | None = None
        """Why nothing may be changed until a user decides; what is staged stays."""
        self.changed: Callable[[], None] = _nobody
        self._lock = trio.Lock()

    @property
    def inodes(self) -> Numbers:
        """The inode numbers."""
        return self.tree.inodes

    @property
    def is_clean(self) -> bool:
        """Whether nothing is to be committed."""
        return not (self.tree.displaced or self.tree.dirty)

    def close(self) -> None:
        """Let go of the files; what is staged, or may not be durable in the drive yet, stays for the next process."""
        try:
            if self.is_recovered and self.is_clean and not self.is_settling:
                for node in self.tree.nodes.values():
                    if node.content is not None:
                        node.content.drop()
                self.files.delete_all()
        finally:
            self.files.close()

    @property
    def takes_waiting(self) -> bool:
        """Whether no name and no attribute can be changed just now without waiting."""
        return self._lock.locked() or self.records.is_slow

    @property
    def is_locked(self) -> bool:
        """Whether somebody keeps names and attributes from changing just now."""
        return self._lock.locked()

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[None]:
        """Keep names and attributes from changing."""
        if self._lock.locked():
            await self._lock.acquire()
        else:
            self._lock.acquire_nowait()
        try:
            yield
        finally:
            self._lock.release()

    # Looking

    async def attributes(self, number: int) -> Attributes:
        """Return what stat(2) tells of an inode. Raises `PathError`."""
        found = await self.tree.look(number)
        return found.attributes_now() if isinstance(found, Node) else attributes_of(stat_of(found))

    async def find(self, parent: int, name: str) -> Found | None:
        """Return what ``name`` in a directory is, or None."""
        return await self.tree.child(parent, name)

    async def link_target(self, number: int) -> str | None:
        """Return a symbolic link's target, or None for anything else."""
        found = await self.tree.look(number)
        return found.linkname if isinstance(found, Node) else stat_of(found).linkname

    async def user_attributes(self, number: int) -> dict[str, bytes]:
        """Return an inode's extended attributes by their name in the drive."""
        found = await self.tree.look(number)
        there = found.attributes if isinstance(found, Node) else stat_of(found).attributes
        return {name: value for name, value in there.items() if value is not None}

    # Open files

    async def open(self, number: int, *, writing: bool) -> Content | None:
        """Hold an inode open; return what its bytes are read from, or None for a file in a drive mounted in this one.

        Raises `PathError`: EROFS for writing to such a file, EISDIR, ENXIO for what has no bytes, ESTALE for what was
        removed. Cancelled, it is not open.
        """
        async with self.exclusively():
            if number not in self.tree.nodes:
                entry = await self.tree.entry(number)
                if self.tree.is_foreign(entry):
                    if writing:
                        raise PathError(errno.EROFS, entry.path, "it is in another drive, mounted in this one")
                    return None
            node = await self.tree.touch(number)
            if node.is_directory:
                raise PathError(errno.EISDIR, self.tree.path(number), "it is a directory")
            if not node.is_file:
                raise PathError(errno.ENXIO, self.tree.path(number), "it has no content")
            if node.parent is None and number not in self.tree.opened:
                raise PathError(errno.ESTALE, f"inode {number}", "it was removed, and its bytes with it")
            if writing and node.mount is not None:
                raise PathError(errno.EROFS, self.tree.path(number), "it is a core mounted here")
            content = await self.tree.content_of(node)
            self.opened(number)
            return content

    def opened(self, number: int) -> None:
        """Count one more open of an inode that has a node."""
        self.tree.opened[number] = self.tree.opened.get(number, 0) + 1

    def released(self, number: int) -> None:
        """Take back `open`."""
        count = self.tree.opened.get(number, 0) - 1
        if count > 0:
            self.tree.opened[number] = count
            return
        self.tree.opened.pop(number, None)
        self.tree.may_go(number)
        node = self.tree.nodes.get(number)
        if node is not None and node.parent is None and node is not self.tree.root:
            self.drop_unused_content(node)
        if not self.is_locked:
            self.tree.sweep_now()

    def content(self, number: int) -> Content | None:
        """Return what an open file's bytes are read from now."""
        node = self.tree.nodes.get(number)
        return node.content if node is not None else None

    async def write(self, number: int, position: int, data: bytes | memoryview) -> None:
        """Write to an open file. Raises OSError: ENOSPC, EFBIG.

        Failed or cancelled, the file is as it was, but where ``data`` was to replace staged bytes it may have in part.
        """
        self.check_allowed()
        node = self.tree.nodes[number]
        content = node.content
        assert content is not None  # it is open
        if position + len(data) > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        await self.ensure_room(len(data) + content.growth(position + len(data)))
        if data:
            self.tree.changing(node)  # before staged bytes are replaced where they are
            extent = await content.put(position, data, self.segments)
            self.tree.changing(node)
            self.account(node, lambda content: content.lay(extent))
        node.mtime = node.ctime = self.records.now()
        self._wrote(node)

    async def flush(self, number: int) -> None:
        """Write down what was written to a file, and its attributes: they outlive this process. Raises OSError."""
        self.records.add_content(number)
        if number in self.tree.dirty:  # who closes what he only read waits for nobody's writing
            await self.records.written()

    async def sync(self, number: int | None = None) -> None:
        """Make a file, or with None all that is staged, durable: what this returned for survives a power failure.

        Raises OSError, and then it may not. Cancelled, it may or may not; what does not is left to the next call.
        """
        if number is None:
            self.records.add_contents()
        else:
            self.records.add_content(number)
        await self.files.sync()

    # Changing

    async def set_attributes(
        self,
        number: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        mtime: int | None = None,
        size: int | None = None,
    ) -> Attributes:
        """Change what is given (of ``mode`` the permission bits, ``mtime`` in ns) and return what is now.

        Raises `PathError`, and OSError: ENOSPC, EFBIG. Cancelled, nothing was changed.
        """
        async with self.exclusively():
            node = await self.tree.touch(number)
            if size is not None and node.is_file:
                growth = (await self.tree.content_of(node)).growth_to(size)
                if growth:  # what frees space needs none
                    await self.ensure_room(growth)
            changed = self._set_attributes(node, mode, uid, gid, mtime, size)
        await self.records.written()
        return changed

    def set_attributes_now(
        self,
        number: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        mtime: int | None = None,
        size: int | None = None,
    ) -> Attributes | None:
        """Do what `set_attributes` does, or return None when that takes waiting."""
        node = None if self.takes_waiting else self.tree.touch_now(number)
        if node is None:
            return None
        if size is not None and node.is_file:
            content = self.tree.content_now(node)
            growth = None if content is None else content.growth_to(size)
            if growth is None or (growth and not self.has_room(growth)):
                return None
        return self._set_attributes(node, mode, uid, gid, mtime, size)

    def _set_attributes(
        self, node: Node, mode: int | None, uid: int | None, gid: int | None, mtime: int | None, size: int | None
    ) -> Attributes:
        self.check_allowed()
        self.tree.changing(node)
        now = self.records.now()
        records: list[Record] = []
        is_resized = size is not None and (size != node.size or node.is_directory)
        if is_resized and size is not None:
            self._check_resizable(node, size)
            records += self.records.resized(node, size)
        new_mode = node.mode if mode is None else st.S_IFMT(node.mode) | st.S_IMODE(mode)
        new_uid, new_gid = node.uid if uid is None else uid, node.gid if gid is None else gid
        if mtime is not None:
            self._times.was_set(mtime)
        else:
            mtime = node.mtime if size is None else now
        new_mtime = min(max(0, mtime), MAX_TIME_NS)
        is_open = node.number in self.tree.opened
        if node.parent is not None and not is_open:
            records.append(AttributesSet(self.tree.path(node.number), new_mode, new_uid, new_gid, new_mtime))
        self.records.add(*records)
        if is_open:
            self.records.attributes_set(node)
        if is_resized and size is not None:
            self.account(node, lambda content: content.truncate(size))
        node.mode, node.uid, node.gid, node.mtime, node.ctime = new_mode, new_uid, new_gid, new_mtime, now
        self.mark(node)
        return node.attributes_now()

    async def set_user_attribute(self, number: int, name: str, value: bytes | None) -> None:
        """Set an extended attribute by its name in the drive, or remove it with None.

        Raises `PathError`: ENODATA when there is none to remove, ENOSPC when they become too many. Cancelled, nothing
        was changed.
        """
        self.check_allowed()
        if value is not None:
            await self.ensure_room(len(value))
        async with self.exclusively():
            node = await self.tree.touch(number)
            if value is None and node.attributes.get(name) is None:
                raise PathError(errno.ENODATA, name, "there is no such attribute")
            if value is not None:
                others = (len(k) + len(v or b"") for k, v in node.attributes.items() if k != name)
                if sum(others) + len(name) + len(value) > MAX_ATTRIBUTES_BYTES:
                    raise PathError(
                        errno.ENOSPC, name, "the attributes of one file are kept together, and are too many"
                    )
            if node.parent is not None:
                self.records.add(UserAttributeSet(self.tree.path(number), name, value))
            self.tree.changing(node)
            node.attributes = {**node.attributes, name: value}  # a commit may hold the ones before
            if value is None and node.base is None:
                del node.attributes[name]
            node.ctime = self.records.now()
            self.mark(node)
        await self.records.written()

    # Inside

    def _check_resizable(self, node: Node, size: int) -> None:
        if node.is_directory:
            raise PathError(errno.EISDIR, f"inode {node.number}", "it is a directory")
        if not node.is_file or node.mount is not None:
            raise PathError(errno.EINVAL, f"inode {node.number}", "it cannot be given another size")
        if size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def restore_content(self, node: Node, below: OpenFile | None, written: Written) -> None:
        """Do again what a record says was written to a file."""
        extents = [
            Extent(start, end, self.segments.find(number), place) for start, end, number, place in written.places
        ]
        self.tree.changing(node)
        self.account(node, lambda content: content.restore(below, written.size, written.limit, written.low, extents))
        node.mtime = written.mtime
        node.ctime = self.records.now()
        self.mark(node)

    async def revert_content(self, node: Node) -> None:
        """Have a file be as the drive has it, or empty: its staged bytes are gone. Cancelled, it is as it was."""
        below = await self.tree.open_run(node.stat) if node.base is not None else None
        self.tree.changing(node)
        self.account(node, lambda content: content.revert(below))

    def drop_unused_content(self, node: Node) -> None:
        """Let go of the bytes of a file that was unlinked, unless somebody has it open."""
        if node.number not in self.tree.opened and node.content is not None:
            self.account(node, lambda content: content.drop())

    def account(self, node: Node, change: Callable[[Content], None]) -> None:
        """Change a file's content, and keep count of what is uncommitted."""
        content = node.content
        assert content is not None
        before = content.uncommitted_bytes
        change(content)
        self.uncommitted_bytes += content.uncommitted_bytes - before

    def mark(self, node: Node) -> None:
        """Note that a node was changed."""
        self.tree.mark(node)
        self.changed()

    def _wrote(self, node: Node) -> None:
        self.records.wrote(node)
        self.mark(node)

    def check_allowed(self) -> None:
        """Raise OSError when nothing may be changed until a user decides."""
        refusal = self.refusal or self.files.failure
        if refusal is not None:
            raise OSError(errno_of(refusal), str(refusal))

    def has_room(self, size: int) -> bool:
        """Tell whether ``size`` bytes more can be staged, and committed with all the rest. Raises OSError."""
        # What is staged again needs no room: it is there.
        changed = (len(self.tree.dirty) + len(self.tree.displaced)) * ENTRY_BYTES
        return not self.is_recovered or self.files.has_room(size, self.uncommitted_bytes + self.elsewhere() + changed)

    async def ensure_room(self, size: int) -> None:
        """Return when `has_room`, making some if need be. Raises OSError (ENOSPC). Cancelled, some may be made."""
        if self.has_room(size):
            return
        if not self.is_settling:
            self.records.add_contents()
            self.segments.begin_anew()
            await self.collect()
        if not self.has_room(size):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def collect(self) -> None:
        """Delete the segments that nothing refers to, once that is durable. Raises OSError.

        Cancelled, some or all of them are still there, for the next call.
        """
        idle = self.segments.idle()
        await self.files.sync()
        if idle:
            self.records.add(Synced())
            await self.files.sync()
        if not self.is_settling:
            self.segments.delete(idle)
            if not self.journal.holds_earlier:
                self.segments.delete_strange()


def _nothing() -> int:
    return 0


def _nobody() -> None:
    """Nobody wants to know."""
