"""Changes of names: what is made, removed and renamed.

The rule: a change is checked, then written to the journal, then made, without waiting from the check on. What a check
needs and the memory lacks is read from the drive before. So each change comes in two forms: ``…_now`` makes it at once,
or returns None when something would have to be waited for, and the coroutine of the same name waits for it. Cancelled,
a coroutine has changed nothing; once it has, it waits for the journal uncancelled.
"""

import errno
import stat as st
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from hyperfs.drive import names
from hyperfs.drive.stat import Stat
from hyperfs.errors import PathError
from hyperfs.mount.staging.extents import Content
from hyperfs.mount.staging.nodes import Node
from hyperfs.mount.staging.nodes import Renaming as Renaming
from hyperfs.mount.staging.records import Exchanged, Made, Removed, Renamed
from hyperfs.mount.staging.tree import Found

if TYPE_CHECKING:
    from hyperfs.mount.staging.workspace import Workspace

_ENTRY_BYTES = 4096
"""What there has to be room for when something is made."""


class Namespace:
    """The names of a `Workspace`. All methods raise `PathError`, with the errno that POSIX says."""

    def __init__(self, workspace: "Workspace") -> None:
        self._workspace = workspace
        self._tree = workspace.tree
        self._records = workspace.records

    async def make(self, parent: int, name: str, mode: int, *, uid: int, gid: int, linkname: str | None = None) -> Node:
        """Make a file, directory, link, FIFO or socket."""
        await self._workspace.ensure_room(_ENTRY_BYTES)
        async with self._workspace.exclusively():
            directory = await self._directory(parent)
            _check_name(name)
            there = await self._tree.child(parent, name)
            node = self._make(directory, name, there, Stat(mode, uid, gid, linkname=linkname))
        await self._records.written()
        return node

    def make_now(
        self, parent: int, name: str, mode: int, *, uid: int, gid: int, linkname: str | None = None
    ) -> Node | None:
        """Do what `make` does, or return None when that takes waiting."""
        directory = self._directory_now(parent)
        if directory is None:
            return None
        _check_name(name)
        there = self._tree.child_now(parent, name) if self._workspace.has_room(_ENTRY_BYTES) else None
        return None if there is None else self._make(directory, name, there, Stat(mode, uid, gid, linkname=linkname))

    async def unlink(self, parent: int, name: str) -> int:
        """Remove anything but a directory; return its number. Open files live on."""
        async with self._workspace.exclusively():
            number = self._unlink(await self._existing(parent, name))
        await self._records.written()
        return number

    def unlink_now(self, parent: int, name: str) -> int | None:
        """Do what `unlink` does, or return None when that takes waiting."""
        node = self._existing_now(parent, name)
        return None if node is None else self._unlink(node)

    async def remove_directory(self, parent: int, name: str, *, on_entries: Callable[[], None] | None = None) -> int:
        """Remove an empty directory; return its number. ENOTEMPTY, ENOTDIR, EBUSY for a mounted drive.

        ``on_entries`` is called whenever some of what was in it was looked at.
        """
        async with self._workspace.exclusively():
            node = await self._existing(parent, name)
            _check_directory_node(node)
            number = self._remove_directory(node, is_empty=await self._tree.is_empty(node, on_entries))
        await self._records.written()
        return number

    def remove_directory_now(self, parent: int, name: str) -> int | None:
        """Do what `remove_directory` does, or return None when that takes waiting."""
        node = self._existing_now(parent, name)
        if node is None:
            return None
        _check_directory_node(node)
        is_empty = self._tree.is_empty_now(node)
        return None if is_empty is None else self._remove_directory(node, is_empty=is_empty)

    async def rename(
        self, parent: int, name: str, new_parent: int, new_name: str, how: Renaming = Renaming.REPLACE
    ) -> None:
        """Do rename(2), or renameat2(2) as ``how`` says."""
        async with self._workspace.exclusively():
            node = await self._existing(parent, name)
            await self._directory(new_parent)
            _check_name(new_name)
            found = await self._tree.child(new_parent, new_name)
            there = await self._tree.touch_found(found) if found is not None else None
            await self._check_nothing_mounted_below(node)
            if there is not None and how is Renaming.EXCHANGE:
                await self._check_nothing_mounted_below(there)
            is_empty = there is None or not there.is_directory or await self._tree.is_empty(there)
            self._rename(node, there, (new_parent, new_name), how, is_empty=is_empty)
        await self._records.written()

    def rename_now(
        self, parent: int, name: str, new_parent: int, new_name: str, how: Renaming = Renaming.REPLACE
    ) -> bool | None:
        """Do what `rename` does and return True, or return None when that takes waiting."""
        node = self._existing_now(parent, name)
        if node is None or self._directory_now(new_parent) is None:
            return None
        _check_name(new_name)
        found = self._tree.child_now(new_parent, new_name)
        if found is None:
            return None
        there = None if found.is_absent else self._tree.touch_found_now(found)
        if there is None and not found.is_absent:
            return None
        for moved in (node, there):
            if moved is not None and moved.is_directory and moved.base is not None:
                return None
        is_empty = there is None or not there.is_directory or self._tree.is_empty_now(there)
        if is_empty is None:
            return None
        self._rename(node, there, (new_parent, new_name), how, is_empty=is_empty)
        return True

    # Looking for what a change is about

    async def _directory(self, number: int) -> Node:
        node = await self._tree.touch(number)
        self._check_directory(node)
        return node

    def _directory_now(self, number: int) -> Node | None:
        node = None if self._workspace.takes_waiting else self._tree.touch_now(number)
        if node is not None:
            self._check_directory(node)
        return node

    async def _existing(self, parent: int, name: str) -> Node:
        await self._directory(parent)
        found = await self._tree.child(parent, name)
        if found is None:
            raise PathError(errno.ENOENT, name, "no such file or directory")
        return await self._tree.touch_found(found)

    def _existing_now(self, parent: int, name: str) -> Node | None:
        if self._directory_now(parent) is None:
            return None
        found = self._tree.child_now(parent, name)
        if found is not None and found.is_absent:
            raise PathError(errno.ENOENT, name, "no such file or directory")
        return None if found is None else self._tree.touch_found_now(found)

    def _check_directory(self, node: Node) -> None:
        self._workspace.check_allowed()
        if not node.is_directory:
            raise PathError(errno.ENOTDIR, self._tree.path(node.number), "it is not a directory")
        if node.parent is None and node is not self._tree.root:
            raise PathError(errno.ENOENT, f"inode {node.number}", "the directory was removed")

    async def _check_nothing_mounted_below(self, node: Node) -> None:
        base = self._tree.base_path(node.number) if node.is_directory else None
        if base is None:
            return
        mounted = (await self._tree.snapshot.mounts()).targets
        if any(path.startswith(f"{base}/") for path in mounted):
            raise PathError(errno.EBUSY, base, "a drive is mounted below it; unmount that first")

    # Changing: nothing below waits

    def _make(self, directory: Node, name: str, there: Found | None, stat: Stat) -> Node:
        if there is not None and not there.is_absent:
            raise PathError(errno.EEXIST, name, "it exists")
        parent = directory.number
        if directory.mode & st.S_ISGID:
            is_directory = st.S_ISDIR(stat.mode)
            stat = replace(stat, gid=directory.gid, mode=stat.mode | (st.S_ISGID if is_directory else 0))
        path = names.join(self._tree.path(parent), name)
        self._records.add(Made(path, stat.mode, stat.uid, stat.gid, stat.linkname))
        now = self._records.now()
        number = self._tree.inodes.place(parent, name.encode(), stat.mode >> 12 & 0o17)
        node = Node(number, (parent, name), stat, base=None, implied=False)
        node.mtime = node.ctime = now
        if node.is_file:
            node.content = Content(None, 0)
        self._tree.add(node)
        self._entries_changed(directory, now)
        return node

    def _unlink(self, node: Node) -> int:
        if node.is_directory:
            raise PathError(errno.EISDIR, node.name, "it is a directory")
        return self._remove(node)

    def _remove_directory(self, node: Node, *, is_empty: bool) -> int:
        if not is_empty:
            raise PathError(errno.ENOTEMPTY, node.name, "the directory is not empty")
        return self._remove(node)

    def _remove(self, node: Node) -> int:
        assert node.parent is not None
        directory = self._tree.nodes[node.parent]
        self._records.add(Removed(self._tree.path(node.number)))
        now = self._records.now()
        self._take_out(node)
        node.ctime = now
        self._entries_changed(directory, now)
        return node.number

    def _rename(self, node: Node, there: Node | None, place: tuple[int, str], how: Renaming, *, is_empty: bool) -> None:
        """``there`` is what stands at ``place``; ``is_empty`` whether it has no entries."""
        assert node.place is not None
        old_place = node.place
        self._check_not_inside(node, place[0])
        if there is None and how is Renaming.EXCHANGE:
            raise PathError(errno.ENOENT, place[1], "there is nothing to exchange")
        if there is not None and how is Renaming.NO_REPLACE:
            raise PathError(errno.EEXIST, place[1], "it exists")
        if there is node:
            return
        if there is not None and how is Renaming.EXCHANGE:
            self._check_not_inside(there, old_place[0])
        elif there is not None:
            _check_replaceable(node, there, is_empty=is_empty)
        for moved in (node, there):
            if moved is not None:
                self._records.add_content(moved.number)
        tree = self._tree
        old, new = (names.join(tree.path(parent), name) for parent, name in (old_place, place))
        self._records.add(Exchanged(old, new) if how is Renaming.EXCHANGE else Renamed(old, new))
        now = self._records.now()
        if there is not None:
            if how is Renaming.EXCHANGE:
                tree.take_out(there)
            else:
                self._take_out(there)
            there.ctime = now
        tree.take_out(node)
        tree.put_in(node, place)
        node.ctime = now
        if there is not None and how is Renaming.EXCHANGE:
            tree.put_in(there, old_place)
        for number in dict.fromkeys((old_place[0], place[0])):
            self._entries_changed(tree.nodes[number], now)

    def _check_not_inside(self, node: Node, into: int) -> None:
        while node.is_directory and into != self._tree.root.number:
            if into == node.number:
                raise PathError(errno.EINVAL, node.name, "it cannot go inside itself")
            into = self._tree.inodes[into].parent

    def _take_out(self, node: Node) -> None:
        self._tree.take_out(node)
        self._records.forget(node)
        self._workspace.drop_unused_content(node)

    def _entries_changed(self, directory: Node, now: int) -> None:
        self._tree.changing(directory)
        directory.mtime = directory.ctime = now
        self._workspace.mark(directory)


def _check_name(name: str) -> None:
    reason = names.why_not_presentable(name)
    if reason is not None:
        code = errno.ENAMETOOLONG if "longer" in reason else errno.EILSEQ if "UTF-8" in reason else errno.EINVAL
        raise PathError(code, name, f"a drive cannot hold this name: {reason}")


def _check_directory_node(node: Node) -> None:
    if not node.is_directory:
        raise PathError(errno.ENOTDIR, node.name, "it is not a directory")


def _check_replaceable(node: Node, there: Node, *, is_empty: bool) -> None:
    if there.is_directory and not node.is_directory:
        raise PathError(errno.EISDIR, there.name, "it is a directory")
    if node.is_directory and not there.is_directory:
        raise PathError(errno.ENOTDIR, there.name, "it is not a directory")
    if not is_empty:
        raise PathError(errno.ENOTEMPTY, there.name, "the directory is not empty")
