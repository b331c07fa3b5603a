"""A view of a drive that may be changed: what is staged in a `Workspace`, over the drive's newest version.

The rules: the workspace knows what POSIX says; what is here is which numbers are looked up, and for how long an answer
lasts. What lies in a drive that is mounted in this one is read as in a `SnapshotView`. A file that is only read, and
of which nothing is staged, the workspace is not told of.
"""

import errno
import os
import stat as st
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing

import trio

from hyperfs.drive import names
from hyperfs.drive.committer import Committer
from hyperfs.drive.drive import Drive
from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.stat import MountTarget, Stat
from hyperfs.errors import PathError
from hyperfs.mount.attributes import LIVE_SECONDS, USER, content_number, content_of, lasting_seconds, presented
from hyperfs.mount.files import STAGED_CONTENT, Handle, Readable
from hyperfs.mount.inodes import NO_CONTENT
from hyperfs.mount.rows import name_of, row_of, unlasting
from hyperfs.mount.siblings import Step
from hyperfs.mount.snapshot_view import entry_row, handle_now, link_target
from hyperfs.mount.staging.committing import CommitMaker
from hyperfs.mount.staging.extents import Content
from hyperfs.mount.staging.nodes import Node, Renaming, attributes_of, stat_of
from hyperfs.mount.staging.numbers import Numbers
from hyperfs.mount.staging.tree import Found
from hyperfs.mount.staging.workspace import Workspace
from hyperfs.mount.view import Answer, Space, View, absent

_MAX_LOOKED_UP = 64
_LARGEST_LOOKED_UP_BYTES = 4096


class StagedHandle(Handle):
    """``version`` is the snapshot in which a file was opened that the workspace was not told of."""

    __slots__ = ("is_counted", "version")

    def __init__(
        self, number: int, file: OpenFile | None, name: str, content: int, *, version: Snapshot | None = None
    ) -> None:
        super().__init__(number, file, name, content)
        self.version = version
        self.is_counted = False
        """Whether the workspace counts it among those that hold the inode open."""


class WorkspaceView(View):
    """The inodes of one drive of ours. ``maker`` commits them, and moves the workspace to versions that others made."""

    def __init__(
        self, drive: Drive, workspace: Workspace, committer: Committer, *, confines_links: bool = True
    ) -> None:
        self.inodes: Numbers = workspace.inodes
        self.maker = CommitMaker(workspace, drive, committer, self._committed)
        self._drive = drive
        self._confines_links = confines_links
        self._workspace = workspace
        self._tree = workspace.tree
        self._looked_up: dict[int, Entry] = {}

    @property
    def snapshot(self) -> Snapshot:
        """The version below what is staged."""
        return self._tree.snapshot

    @property
    def generation(self) -> object:
        return self._tree.changes, self._tree.snapshot

    def take_untold(self) -> Snapshot | None:
        return self.maker.take_untold()

    async def settled(self) -> None:
        await self.maker.wait_idle()

    async def switch(self, snapshot: Snapshot) -> Snapshot:
        """Lie over ``snapshot`` from now on; return the version before. Raises as reading what differs does."""
        return await self.maker.rebase(snapshot)

    def path_below(self, parent: int, name: str) -> str | None:
        """Return where the version below has ``name`` in a directory; None when something is staged there."""
        node = self._tree.nodes.get(parent)
        if node is not None and (name in node.children or name in node.hidden):
            return None
        above = self._tree.base_path(parent)
        return None if above is None else names.join(above, name)

    async def link(self, path: str, target: MountTarget | None) -> int:
        """Do `CommitMaker.link`."""
        return await self.maker.link(path, target)

    # Looking

    def lookup_now(self, parent: int, name: bytes) -> Answer | None:
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return absent(LIVE_SECONDS)
        found = self._tree.child_now(parent, text)
        return None if found is None else self._found(found, parent, name)

    async def lookup(self, parent: int, name: bytes) -> Answer:
        found = await self._workspace.find(parent, name.decode())
        return absent(LIVE_SECONDS) if found is None else self._found(found, parent, name)

    def attributes_now(self, number: int) -> Answer | None:
        node = self._tree.nodes.get(number)
        return None if node is None else _staged(node)

    async def attributes(self, number: int) -> Answer:
        found = await self._tree.look(number)
        if isinstance(found, Node):
            return _staged(found)
        return Answer(number, attributes_of(stat_of(found)), lasting_seconds(found))

    async def link_target(self, number: int) -> str:
        snapshot = self.snapshot
        found = await self._tree.look(number)
        if isinstance(found, Entry):
            return await link_target(snapshot, found, confined=self._confines_links)
        if found.linkname is None or not st.S_ISLNK(found.mode):
            raise PathError(errno.EINVAL, f"inode {number}", "it is not a symbolic link")
        return found.linkname

    async def user_attributes(self, number: int) -> dict[str, bytes]:
        return presented(await self._workspace.user_attributes(number))

    async def list(self, number: int, on_entries: Callable[[], None]) -> list[bytes]:
        rows: list[bytes] = []
        async with aclosing(self._tree.list(number)) as batches:
            async for found in batches:
                on_entries()
                rows += [_row(name, entry) for name, entry in found]
        return rows

    def row_now(self, number: int, row: bytes) -> bytes | None:
        """Of what cannot be told without waiting the kernel may keep nothing: what went would come back."""
        name = name_of(row).decode()
        found = self._tree.child_now(number, name)
        if found is None:
            return unlasting(row)
        there = found.node or found.entry
        return None if there is None else _row(name, there)

    async def space(self) -> Space:
        """Tell of the store's disk, less what is staged and will be needed once more for the commit."""
        disk = await trio.to_thread.run_sync(os.statvfs, self._workspace.directory)
        needed = -(-(self._workspace.uncommitted_bytes + self._workspace.elsewhere()) // disk.f_frsize)
        return Space(
            disk.f_bsize,
            disk.f_frsize,
            disk.f_blocks,
            max(0, disk.f_bfree - needed),
            max(0, disk.f_bavail - needed),
            disk.f_files,
            disk.f_ffree,
            disk.f_favail,
        )

    # Open files

    def open_now(self, number: int, *, writing: bool) -> Handle | None:
        """Open a file that nothing is staged of, without a word to the workspace."""
        if writing or number in self._tree.nodes:
            return None
        entry = self._looked_up.get(number)
        if entry is None or entry.volume is not self.snapshot:  # a listing told of it, and no lookup followed
            path = self._tree.base_path(number)
            entry = None if path is None else self.snapshot.stat_now(path)
        handle = None if entry is None else handle_now(number, entry, self.snapshot)
        if handle is None:
            return None
        return StagedHandle(number, handle.file, handle.name, handle.content, version=self.snapshot)

    async def open(self, number: int, *, writing: bool, truncating: bool, keeps_set_id: bool) -> Handle:
        """Open a file. The kernel keeps its pages: whatever changed it went through the kernel, or it was told."""
        workspace = self._workspace
        content = await workspace.open(number, writing=writing)
        while content is None:
            snapshot = self.snapshot
            entry = await self._tree.entry(number)
            file = await snapshot.open(entry)
            if snapshot is self.snapshot:  # handles that are open when it is switched are moved, this one is none yet
                return StagedHandle(number, file, entry.path, content_of(entry, stat_of(entry)))
        try:
            if truncating:
                mode = None if keeps_set_id else _without_set_id(self._tree.nodes[number].mode)
                await workspace.set_attributes(number, size=0, mode=mode)
        except BaseException:  # cancelled or failed, the open does not count
            workspace.released(number)
            raise
        return self._counted(self._tree.nodes[number], content, self._name(number))

    def open_made(self, number: int) -> Handle:
        node = self._tree.nodes[number]
        assert node.content is not None  # it is a file
        self._workspace.opened(node.number)
        return self._counted(node, node.content, node.name)

    def _name(self, number: int) -> str:
        try:
            return self._tree.path(number)
        except PathError:
            return "an unlinked file"

    def _counted(self, node: Node, content: Content, name: str) -> Handle:
        below = content.below if isinstance(content.below, OpenFile) else None
        number = STAGED_CONTENT if content.is_dirty else content_number(self._drive.key, node.stat)
        handle = StagedHandle(node.number, below, name, number)
        handle.is_counted = True
        return handle

    def source_now(self, handle: Handle) -> Readable | None:
        assert isinstance(handle, StagedHandle)
        if handle.version is not None and (handle.version is not self.snapshot or handle.number in self._tree.nodes):
            return None
        content = self._workspace.content(handle.number)
        if content is None:
            return handle.file
        below = content.below
        return below if isinstance(below, OpenFile) and not content.is_dirty else content

    async def source(self, handle: Handle) -> Readable:
        """Have the workspace know of a file that it was not told of when it was opened: it may differ by now."""
        assert isinstance(handle, StagedHandle)
        version, handle.version = handle.version, None
        try:
            handle.is_counted = await self._workspace.open(handle.number, writing=False) is not None
        except PathError:
            handle.version = self.snapshot  # it is gone: who has it open keeps what there was
            assert handle.file is not None
            return handle.file
        except BaseException:  # cancelled or failed, the handle stays as it was
            handle.version = version
            raise
        return await super().source(handle)

    async def flushed(self, handle: Handle) -> None:
        await self._workspace.flush(handle.number)

    async def fetch_siblings(self, handle: Handle, step: Step) -> None:
        """What one's own drive holds is here."""

    async def released(self, handle: Handle) -> None:
        """What was written through a mapping comes between a descriptor's closing and this."""
        assert isinstance(handle, StagedHandle)
        if not handle.is_counted:
            return
        try:
            await self._workspace.flush(handle.number)
        finally:
            self._workspace.released(handle.number)

    def blocks_in_use(self, key: bytes, handles: Iterable[Handle]) -> Iterator[range]:
        """Yield the blocks that open files lie in, and those below what is staged."""
        contents = {number: node.content for number, node in self._tree.nodes.items() if node.content}
        for handle in handles:
            if handle.number not in contents and handle.file is not None and handle.file.core.key == key:
                yield handle.file.run.blocks
        for content in contents.values():
            frozen = content.frozen
            below = content.below if frozen is None else frozen.below
            if isinstance(below, OpenFile) and below.core.key == key:
                yield below.run.blocks

    # Changing

    def make_now(
        self, parent: int, name: str, mode: int, uid: int, gid: int, linkname: str | None = None
    ) -> Answer | None:
        node = self._workspace.names.make_now(parent, name, mode, uid=uid, gid=gid, linkname=linkname)
        return None if node is None else self._looked_up_node(node)

    async def make(self, parent: int, name: str, mode: int, uid: int, gid: int, linkname: str | None = None) -> Answer:
        node = await self._workspace.names.make(parent, name, mode, uid=uid, gid=gid, linkname=linkname)
        return self._looked_up_node(node)

    def unlink_now(self, parent: int, name: str) -> bool | None:
        return None if self._workspace.names.unlink_now(parent, name) is None else True

    async def unlink(self, parent: int, name: str) -> None:
        await self._workspace.names.unlink(parent, name)

    def remove_directory_now(self, parent: int, name: str) -> bool | None:
        return None if self._workspace.names.remove_directory_now(parent, name) is None else True

    async def remove_directory(self, parent: int, name: str, on_entries: Callable[[], None]) -> None:
        await self._workspace.names.remove_directory(parent, name, on_entries=on_entries)

    def rename_now(self, parent: int, name: str, new_parent: int, new_name: str, how: Renaming) -> bool | None:
        return self._workspace.names.rename_now(parent, name, new_parent, new_name, how)

    async def rename(self, parent: int, name: str, new_parent: int, new_name: str, how: Renaming) -> None:
        await self._workspace.names.rename(parent, name, new_parent, new_name, how)

    def set_attributes_now(
        self, number: int, mode: int | None, uid: int | None, gid: int | None, mtime: int | None, size: int | None
    ) -> Answer | None:
        changed = self._workspace.set_attributes_now(number, mode=mode, uid=uid, gid=gid, mtime=mtime, size=size)
        return None if changed is None else Answer(number, changed, LIVE_SECONDS)

    async def set_attributes(
        self, number: int, mode: int | None, uid: int | None, gid: int | None, mtime: int | None, size: int | None
    ) -> Answer:
        changed = await self._workspace.set_attributes(number, mode=mode, uid=uid, gid=gid, mtime=mtime, size=size)
        return Answer(number, changed, LIVE_SECONDS)

    async def set_user_attribute(self, number: int, name: str, value: bytes | None) -> None:
        there = await self._workspace.user_attributes(number)
        if name not in there and name.removeprefix(USER) in there:
            name = name.removeprefix(USER)  # the reference's writers know no namespaces
        await self._workspace.set_user_attribute(number, name, value)

    async def write(self, handle: Handle, position: int, data: bytes) -> None:
        await self._workspace.write(handle.number, position, data)

    async def sync(self, number: int | None) -> None:
        await self._workspace.sync(number)

    # Inside

    def _committed(self, number: int, stat: Stat) -> None:
        """Note that a file has another run now, with the bytes that the kernel has pages of."""
        if number in self.inodes and self.inodes[number].content != NO_CONTENT:
            self.inodes.set_content(number, content_number(self._drive.key, stat))

    def _found(self, found: Found, parent: int, name: bytes) -> Answer:
        if found.node is not None:
            return self._looked_up_node(found.node)
        entry = found.entry
        if entry is None:
            return absent(LIVE_SECONDS)
        attributes = found.attributes
        number = self.inodes.remember(parent, name, attributes.mode >> 12 & 0o17)
        if entry.value is None or len(entry.value) <= _LARGEST_LOOKED_UP_BYTES:
            if len(self._looked_up) >= _MAX_LOOKED_UP:
                self._looked_up.clear()
            self._looked_up[number] = entry
        return Answer(number, attributes, lasting_seconds(entry))

    def _looked_up_node(self, node: Node) -> Answer:
        self.inodes.looked_up(node.number)
        return _staged(node)


def _staged(node: Node) -> Answer:
    return Answer(node.number, node.attributes_now(), LIVE_SECONDS)


def _row(name: str, entry: Node | Entry) -> bytes:
    if isinstance(entry, Entry):
        return entry_row(entry)
    return row_of(name, entry.attributes_now(), LIVE_SECONDS)


def _without_set_id(mode: int) -> int:
    """Return what writing leaves of a mode. The kernel sees to it itself, except where opening a file empties it."""
    gone = st.S_ISUID | (st.S_ISGID if mode & st.S_IXGRP else 0)
    return mode & ~gone
