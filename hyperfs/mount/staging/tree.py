"""The nodes that are staged, over a snapshot of the drive: where everything is now, and where it was.

The rules: a node exists for what is changed, displaced, open, or on the way to such; everything else is read from the
snapshot when it is asked for. Nothing in here waits between looking and changing: methods that change are synchronous.
Whoever changes a node says so before (`Tree.changing`) and after (`Tree.mark`): a commit that is under way goes through
the nodes one after the other, and one that is about to be changed has to have its turn first.
"""

import errno
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

import trio

from hyperfs.core.reader import Run
from hyperfs.drive import names
from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.stat import DEFAULT_DIRECTORY_MODE, Stat
from hyperfs.errors import PathError
from hyperfs.mount.staging.extents import Content
from hyperfs.mount.staging.nodes import Attributes, Node, Place, Watcher, attributes_of, stat_of
from hyperfs.mount.staging.numbers import Numbers
from hyperfs.slices import Slices

_LISTED_AT_ONCE = 512
_SWEPT_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Found:
    """What a name leads to: a ``node`` when it is staged, else the snapshot's ``entry``; with neither it is absent."""

    place: Place
    node: Node | None
    entry: Entry | None

    @property
    def is_absent(self) -> bool:
        """Whether there is nothing of that name."""
        return self.node is None and self.entry is None

    @property
    def attributes(self) -> Attributes:
        """What stat(2) tells."""
        if self.node is not None:
            return self.node.attributes_now()
        assert self.entry is not None
        return attributes_of(stat_of(self.entry))

    @property
    def is_directory(self) -> bool:
        """Whether entries can be below it."""
        if self.node is not None:
            return self.node.is_directory
        return self.entry is not None and self.entry.is_directory


class Tree:
    """Owns the nodes of one drive, and ``snapshot``, the version that they lie over."""

    def __init__(self, snapshot: Snapshot, owner: tuple[int, int], *, place: int = 0) -> None:
        """``owner``: the uid and gid of the root, which has no entry of its own; ``place`` as of `Numbers`."""
        self.snapshot = snapshot
        self.nodes: dict[int, Node] = {}
        self.dirty: dict[int, Node] = {}
        self.displaced: dict[int, Node] = {}
        self.opened: dict[int, int] = {}
        self.changes = 0
        """Counts what was changed, so that who has looked knows whether it is still so."""
        self.watcher: Watcher | None = None
        self.keeps_all = False
        """Whether no node may be let go of, because a commit goes through them."""
        self._idle: set[int] = set()
        self._looked_up: tuple[Found, int, Snapshot] | None = None
        """What was found last in the snapshot, and when: who looks a name up mostly does something with it next."""
        self.inodes = Numbers(snapshot.key, self.nodes.__contains__, self.may_go, place=place)
        root = Node(self.inodes.root, None, Stat(DEFAULT_DIRECTORY_MODE, *owner), base=None, implied=False)
        self.root = self.nodes[root.number] = root

    # Looking

    def path(self, number: int) -> str:
        """Return where an inode is now. Raises `PathError` (ESTALE) for one that is unlinked or not known."""
        try:
            return self.inodes.path(number).decode(errors="surrogateescape")
        except KeyError:
            raise PathError(errno.ESTALE, f"inode {number}", "it is not in any directory") from None

    def base_path(self, number: int) -> str | None:
        """Return where the snapshot has an inode; None for what is new."""
        parts: list[str] = []
        while number != self.root.number:
            node = self.nodes.get(number)
            if node is not None:
                if node.base is None:
                    return None
                number, name = node.base
            elif number in self.inodes:
                record = self.inodes[number]
                number, name = record.parent, record.name.decode(errors="surrogateescape")
            else:
                return None
            parts.append(name)
        parts.reverse()
        return "/".join(parts)

    def based_at(self, path: str) -> Node | None:
        """Return the node of what the snapshot has at ``path``, None when nothing of it is staged or open."""
        number, node = self.root.number, None
        for name in path.split("/"):
            directory = self.nodes.get(number)
            place = (number, name)
            displaced = directory.hidden.get(name) if directory is not None else None
            found = displaced or self.inodes.find(number, name.encode(errors="surrogateescape"))
            node = self.nodes.get(found) if found is not None else None
            if found is None or (node is not None and node.base != place):
                return None
            number = found
        return node

    def is_as_below(self, path: str) -> bool:
        """Tell whether nothing is staged that changes what is at ``path``, or which directories lead there."""
        number = self.root.number
        for name in path.split("/"):
            node = self.nodes.get(number)
            if node is not None and (name in node.children or name in node.hidden):
                return False
            found = self.inodes.find(number, name.encode(errors="surrogateescape"))
            if found is None:
                return True
            number = found
        return True

    def is_foreign(self, entry: Entry) -> bool:
        """Tell whether an entry is in, or is the root of, a drive that is mounted in this one."""
        return entry.volume is not self.snapshot or entry.mount is not None

    async def look(self, number: int) -> Node | Entry:
        """Return an inode's node, or its entry when nothing of it is staged. Raises `PathError`."""
        node = self.nodes.get(number)
        return node if node is not None else await self.entry(number)

    async def entry(self, number: int) -> Entry:
        """Return what the snapshot has of an inode. Raises `PathError` (ESTALE when it has nothing)."""
        path = self.base_path(number)
        if path is None:
            raise PathError(errno.ESTALE, f"inode {number}", "it is gone")
        return await self.snapshot.stat(path)

    def child_now(self, parent: int, name: str) -> Found | None:
        """Return what ``name`` in a directory is, also that it is absent; None when that takes waiting, or raises."""
        place = (parent, name)
        node = self.nodes.get(parent)
        if node is not None:
            number = node.children.get(name)
            if number is not None:
                return Found(place, self.nodes[number], None)
            if not node.is_directory:
                return None
            if name in node.hidden or (node.base is None and node is not self.root):
                return Found(place, None, None)
        if self._looked_up is not None:
            found, changes, snapshot = self._looked_up
            if found.place == place and changes == self.changes and snapshot is self.snapshot:
                return found
        number = self.inodes.find(parent, name.encode(errors="surrogateescape"))
        if number is not None and number in self.nodes:
            return Found(place, self.nodes[number], None)
        above = self.base_path(parent)
        if above is None:
            return None
        is_known, entry = self.snapshot.look_now(names.join(above, name))
        if not is_known:
            return None
        found = Found(place, None, entry)
        self._looked_up = found, self.changes, self.snapshot
        return found

    async def child(self, parent: int, name: str) -> Found | None:
        """Return what ``name`` in a directory is, or None. Raises `PathError`, not for a name that is absent."""
        found = self.child_now(parent, name)
        if found is not None:
            return None if found.is_absent else found
        node = self.nodes.get(parent)
        if node is not None and not node.is_directory:
            raise PathError(errno.ENOTDIR, name, "what it is in is not a directory")
        if not names.is_presentable(name):
            return None
        while (above := self.base_path(parent)) is not None:
            snapshot, changes = self.snapshot, self.changes
            try:
                entry = await snapshot.stat(names.join(above, name))
            except PathError as error:
                if error.errno != errno.ENOENT:
                    raise
                found = Found((parent, name), None, None)
            else:
                found = Found((parent, name), None, entry)
            if snapshot is self.snapshot and changes == self.changes:
                return None if found.is_absent else found
            # Something was changed meanwhile, perhaps this: what was seen is not to be told of any more.
            now = self.child_now(parent, name)
            if now is not None:
                return None if now.is_absent else now
        return None

    async def list(self, number: int) -> AsyncGenerator[list[tuple[str, Node | Entry]], None]:
        """Yield what is in a directory at the instant of the call, some of it at a time. Raises `PathError`.

        Others have their turn between two batches; who counts `changes` knows whether they used it.
        """
        node = self.nodes.get(number)
        if node is not None and not node.is_directory:
            raise PathError(errno.ENOTDIR, f"inode {number}", "it is not a directory")
        path, snapshot = self.base_path(number), self.snapshot
        made: list[tuple[str, Node | Entry]] = []
        elsewhere: set[str] = set()
        if node is not None:  # what is above a node is one, so otherwise nothing in here is staged
            made = [(name, self.nodes[child]) for name, child in node.children.items()]
            elsewhere = {*node.hidden, *node.children}
        for start in range(0, len(made), _LISTED_AT_ONCE):
            yield made[start : start + _LISTED_AT_ONCE]
            await trio.lowlevel.checkpoint()
        if path is None:
            return
        async with aclosing(snapshot.list_batches(path)) as batches:
            async for entries in batches:
                found: list[tuple[str, Node | Entry]] = [
                    (name, entry) for entry in entries if (name := entry.name) not in elsewhere
                ]
                yield found if node is None else [(name, self._staged(number, name) or entry) for name, entry in found]

    def _staged(self, parent: int, name: str) -> Node | None:
        number = self.inodes.find(parent, name.encode(errors="surrogateescape"))
        return None if number is None else self.nodes.get(number)

    def is_empty_now(self, node: Node) -> bool | None:
        """Tell whether a directory has no entries; None when that takes waiting."""
        if node.children:
            return False
        return True if self.base_path(node.number) is None else None

    async def is_empty(self, node: Node, on_entries: Callable[[], None] | None = None) -> bool:
        """Tell whether a directory has no entries; ``on_entries`` is called whenever some more were looked at."""
        is_empty = self.is_empty_now(node)
        if is_empty is not None:
            return is_empty
        async with aclosing(self.snapshot.list_batches(self.base_path(node.number) or "")) as batches:
            async for entries in batches:
                if on_entries is not None:
                    on_entries()
                if any(entry.name not in node.hidden for entry in entries):
                    return False
        return True

    # Taking up

    async def touch(self, number: int) -> Node:
        """Return an inode's node, made if need be, with those above it.

        Raises `PathError`: EROFS for what is in a drive mounted in this one.
        """
        node = self.nodes.get(number)
        if node is not None:
            return node
        return await self._take_up(number, await self.entry(number))

    def touch_now(self, number: int) -> Node | None:
        """Do what `touch` does, or return None when that takes waiting. Raises the same."""
        node = self.nodes.get(number)
        if node is not None or number not in self.inodes:
            return node
        path = self.base_path(number)
        entry = None if path is None else self.snapshot.stat_now(path)
        if entry is None or self.touch_now(self.inodes[number].parent) is None:
            return None
        return self._new_node(number, entry, self._place_of(number))

    async def _take_up(self, number: int, entry: Entry) -> Node:
        self._check_own(entry)
        await self.touch(self.inodes[number].parent)
        return self._new_node(number, entry, self._place_of(number))

    def _place_of(self, number: int) -> Place:
        record = self.inodes[number]
        return record.parent, record.name.decode(errors="surrogateescape")

    def _new_node(self, number: int, entry: Entry, place: Place) -> Node:
        """Return the node of an entry at ``place``, in a directory that has one; it may have been made meanwhile."""
        self._check_own(entry)
        node = self.nodes.get(number)
        if node is None:
            node = Node(number, place, stat_of(entry), base=place, implied=entry.implied)
            self._take_in(node)
            self.may_go(number)
        return node

    def _check_own(self, entry: Entry) -> None:
        if self.is_foreign(entry):
            raise PathError(errno.EROFS, entry.path, "it is another drive, mounted in this one; write to that one")

    async def touch_found(self, found: Found) -> Node:
        """Return the node of what `child` found, made if need be."""
        if found.node is not None:
            return found.node
        number, entry = self._number_of(found)
        if entry.volume is not self.snapshot or number in self.nodes:
            return await self.touch(number)
        return await self._take_up(number, entry)

    def touch_found_now(self, found: Found) -> Node | None:
        """Do what `touch_found` does, or return None when that takes waiting. Raises the same."""
        if found.node is not None:
            return found.node
        number, entry = self._number_of(found)
        return self._new_node(number, entry, found.place) if found.place[0] in self.nodes else None

    def _number_of(self, found: Found) -> tuple[int, Entry]:
        assert found.entry is not None
        if found.entry.mount is not None:
            raise PathError(errno.EBUSY, found.entry.path, "a drive is mounted there")
        parent, name = found.place
        kind = stat_of(found.entry).mode >> 12 & 0o17
        return self.inodes.place(parent, name.encode(errors="surrogateescape"), kind), found.entry

    def content_now(self, node: Node) -> Content | None:
        """Do what `content_of` does, or return None when that takes waiting."""
        if node.content is None and node.mount is None:
            core = self.snapshot.volume.content_now
            if core is not None:
                below = OpenFile(core, _run_of(node.stat))
                node.content = Content(below, below.size)
        return node.content

    async def content_of(self, node: Node) -> Content:
        """Return what a file's bytes are read from and written to."""
        content = self.content_now(node)
        if content is None:
            below = await self.open_run(node.stat)
            content = node.content = node.content or Content(below, below.size)
        return content

    async def open_run(self, stat: Stat) -> OpenFile:
        """Return what reads the bytes that a `Stat` names. Raises as opening a core does."""
        if stat.mount is not None and stat.mount.is_core:
            core = await self.snapshot.volume.pool.open_core(stat.mount.key)
            return OpenFile(core, Run(range(core.length), 0, core.byte_length))
        core = await self.snapshot.volume.content()
        return OpenFile(core, _run_of(stat))

    # Changing

    def add(self, node: Node) -> None:
        """Take in a new node at the place that it names."""
        self._take_in(node)
        assert node.parent is not None
        self.nodes[node.parent].children[node.name] = node.number
        self.mark(node)

    def changing(self, node: Node) -> None:
        """Say that a node's place, attributes or bytes are about to be changed."""
        if self.watcher is not None:
            self.watcher.changing(node)

    def mark(self, node: Node) -> None:
        """Note that a node was changed."""
        node.generation += 1
        self.changes += 1
        if node.parent is not None:
            self.dirty[node.number] = node

    def committed(self, node: Node) -> None:
        """Note that the drive has a node as it is now."""
        self.dirty.pop(node.number, None)
        self.may_go(node.number)

    def may_go(self, number: int) -> None:
        """Note that a node may be needed no more: the next `sweep` looks."""
        self._idle.add(number)

    def take_out(self, node: Node) -> None:
        """Take a node from its place; it is nowhere until `put_in`."""
        self.changing(node)
        if self.watcher is not None:
            self.watcher.leaving(node)
        assert node.parent is not None
        self.changes += 1
        parent = self.nodes[node.parent]
        if parent.children.get(node.name) == node.number:
            del parent.children[node.name]
        if node.base == node.place:
            self._displace(node)
        self._place(node, None)
        self.inodes.detach(node.number)
        self.dirty.pop(node.number, None)
        self.may_go(node.number)

    def put_in(self, node: Node, place: Place) -> None:
        """Give a node a place, which is free."""
        parent = self.nodes[place[0]]
        self._place(node, place)
        self.inodes.move(node.number, place[0], node.name.encode(errors="surrogateescape"))
        if node.base == place:
            self._no_more_displaced(node)
        if node.base != place or self.watcher is not None:  # the version to come may not have it here
            parent.children[node.name] = node.number
        self.mark(node)

    def rebase(self, node: Node, base: Place | None) -> None:
        """Say that the snapshot has a node at another place than it had, or nowhere."""
        if node.base is not None and node.base != base:
            if node.number in self.displaced:
                self._no_more_displaced(node)
            elif node.place is not None:
                self.nodes[node.base[0]].children[node.name] = node.number
        if node.base != base:
            self._leave(node.base)
            node.base = base
            self._enter(base)
        if base is None:
            self.may_go(node.number)
            return
        parent = self.nodes[base[0]]
        there = self.displaced.get(parent.hidden.get(base[1], 0))
        if there is not None and there is not node and there.base == base:
            self.rebase(there, None)  # what was there has made way
        if node.place == base:
            if parent.children.get(base[1]) == node.number:
                del parent.children[base[1]]
            self._no_more_displaced(node)
        else:
            self._displace(node)

    async def sweep(self, exclusively: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        """Forget the nodes that nobody needs any more, some at a time, ``exclusively``.

        Cancelled, the rest is left for the next time.
        """
        while self._idle:
            slices = Slices()
            async with exclusively():
                while self._idle:
                    self._forget_unneeded(self._idle.pop())
                    if slices.is_over:
                        break
            await slices.next()

    def sweep_now(self) -> None:
        """Do a little of what `sweep` does, unless a commit goes on. Nobody may keep names from changing."""
        for _ in range(0 if self.keeps_all else min(_SWEPT_AT_ONCE, len(self._idle))):
            self._forget_unneeded(self._idle.pop())

    def _forget_unneeded(self, number: int) -> None:
        """Forget a node, and then those above it, as far as they are not needed."""
        waiting = [number]
        while waiting:
            node = self.nodes.get(waiting.pop())
            if node is None or node.number in self.dirty or node.number in self.opened or node is self.root:
                continue
            if node.content is not None:
                node.content.drop()
                node.content = None
            if node.within or node.number in self.displaced:
                continue
            if node.parent is None and self.inodes.lookups(node.number):
                continue  # the kernel may still ask about what was unlinked
            del self.nodes[node.number]
            for place in (node.place, node.base):
                if place is not None:
                    self._leave(place)
                    waiting.append(place[0])
            self.inodes.drop_unknown(node.number)

    def _take_in(self, node: Node) -> None:
        self.nodes[node.number] = node
        self._enter(node.place)
        self._enter(node.base)

    def _place(self, node: Node, place: Place | None) -> None:
        self._leave(node.place)
        node.parent, node.name = place if place is not None else (None, node.name)
        self._enter(place)

    def _enter(self, place: Place | None) -> None:
        if place is not None:
            self.nodes[place[0]].within += 1

    def _leave(self, place: Place | None) -> None:
        if place is not None:
            self.nodes[place[0]].within -= 1
            self.may_go(place[0])

    def _displace(self, node: Node) -> None:
        assert node.base is not None
        self.nodes[node.base[0]].hidden[node.base[1]] = node.number
        self.displaced[node.number] = node

    def _no_more_displaced(self, node: Node) -> None:
        assert node.base is not None
        hidden = self.nodes[node.base[0]].hidden
        if hidden.get(node.base[1]) == node.number:
            del hidden[node.base[1]]
        self.displaced.pop(node.number, None)


def _run_of(stat: Stat) -> Run:
    return Run(range(stat.offset, stat.offset + stat.blocks), stat.byte_offset, stat.size)
