"""What one commit holds: the difference between what is staged at one instant and the version below.

The rules: a plan is of one instant, so nobody ever sees a rename without the file that was written before it; and that
instant is short however much is staged. What is planned is then looked at one after the other, while the tree goes on:
a node that is about to be changed is looked at before. A path gets one node, whatever happened to it in between. What
is not where it was goes first, each directory with one node; a file that is put again is not deleted before.
"""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from hyperfs.drive import names
from hyperfs.drive.commits import Operation, copies_below, deletion, entry
from hyperfs.drive.stat import Stat
from hyperfs.mount.staging.extents import Content, Frozen
from hyperfs.mount.staging.nodes import Node, Place
from hyperfs.mount.staging.tree import Tree
from hyperfs.slices import Slices, emptied, in_slices

Account = Callable[[Node, Callable[[Content], None]], None]
"""Changes a node's content and keeps count of what is uncommitted."""


@dataclass(slots=True)
class PlannedNode:
    """A node as the commit will have it. ``frozen`` is its content where that has to be appended."""

    node: Node
    place: Place
    path: str
    stat: Stat
    generation: int
    content: Content | None = None
    frozen: Frozen | None = None


class Plan:
    """A commit, from its instant to its end. ``journal`` is the number of the last journal file it makes needless."""

    def __init__(self, tree: Tree, journal: int, held: frozenset[int]) -> None:
        """This is the instant. All that is staged is planned, less the nodes ``held``."""
        self.version = tree.snapshot.version
        self.journal = journal
        self.puts: dict[int, PlannedNode] = {}
        self.displaced = dict(tree.displaced)
        self.moved_directories: list[Node] = []
        self._tree = tree
        self._snapshot = tree.snapshot
        self._all_displaced = tree.displaced.copy()
        self._planned = tree.dirty.copy()
        for number in held:
            self.displaced.pop(number, None)
            self._planned.pop(number, None)
        self._pending = self._planned.copy()
        self._left: dict[int, Place | None] = {}
        self._directories = {tree.root.number: ""}
        self._hidden: list[tuple[Place, int]] = []
        self._deletes: list[Operation] = []
        self._copies: list[Operation] = []
        tree.watcher = self
        tree.keeps_all = True

    @property
    def is_empty(self) -> bool:
        """Whether the version below holds all of it already. Known once it is `complete`."""
        return not (self.puts or self._copies or self._deletes)

    async def complete(self) -> None:
        """Look at all that is planned, and for what has to be copied and deleted. Raises what reading the drive does.

        Cancelled or failed, the plan can only be abandoned.
        """
        async for node in in_slices(self._planned.values()):
            self.changing(node)
        await self._look_at_displaced()

    async def operations(self) -> list[Operation]:
        """Return what is to be committed, once every content stands in the drive."""
        found = self._deletes.copy()
        async for number in in_slices(self._planned):
            put = self.puts[number]
            found.append(entry(put.path, put.stat))
        return found + self._copies

    async def abandon(self, account: Account) -> None:
        """Nothing of it was committed: have all be as if there had been no plan."""
        tree = self._tree
        tree.watcher = None
        for place, before in reversed(self._hidden):
            hidden = tree.nodes[place[0]].hidden
            was = tree.displaced.get(before)
            if was is not None and was.base == place:
                hidden[place[1]] = was.number
            else:
                hidden.pop(place[1], None)
        async for put in in_slices(self.puts.values()):
            content = put.content
            if put.frozen is not None and content is not None and content.frozen is put.frozen:
                account(put.node, Content.thaw)
                if put.node.parent is None and put.node.number not in tree.opened:
                    account(put.node, Content.drop)
        tree.keeps_all = False
        await self.release()

    async def release(self) -> None:
        """Let go of what is planned, when all is done."""
        everything = self.puts, self.displaced, self._all_displaced, self._planned, self._left
        await emptied(*everything, self._hidden, self._deletes, self._copies)

    # As the tree's watcher

    def changing(self, node: Node) -> None:
        """Look at a node, unless that was done: its place, attributes and content at the instant."""
        if self._pending.pop(node.number, None) is None:
            return
        assert node.place is not None  # it is dirty
        put = PlannedNode(node, node.place, self._path(node.place), node.stat_now(), node.generation)
        self.puts[node.number] = put
        content = node.content
        if content is None or not node.is_file:
            return
        put.content = content
        if content.is_dirty:
            put.frozen = content.freeze()
        else:
            put.stat = with_run(put.stat, content)

    def leaving(self, node: Node) -> None:
        """Keep in mind where a node was at the instant, and hide it there from who reads the version to come."""
        self._left.setdefault(node.number, node.place)
        put = self.puts.get(node.number)
        if put is not None and put.place == node.place != node.base:
            number, name = put.place
            hidden = self._tree.nodes[number].hidden
            self._hidden.append((put.place, hidden.get(name, 0)))
            hidden[name] = node.number

    # Inside

    def _path(self, place: Place) -> str:
        """Return a place's path at the instant."""
        above, known = [], self._directories
        number = place[0]
        while number not in known:
            here = self._place(number)
            assert here is not None  # what is in it at the instant is at a place
            above.append((number, here))
            number = here[0]
        for directory, here in reversed(above):
            known[directory] = names.join(known[here[0]], here[1])
        return names.join(known[place[0]], place[1])

    def _place(self, number: int) -> Place | None:
        """Return where a node was at the instant."""
        return self._left[number] if number in self._left else self._tree.nodes[number].place

    async def _look_at_displaced(self) -> None:
        put_paths = set()
        async for put in in_slices(self.puts.values()):
            put_paths.add(put.path)
        bases: dict[str, Node] = {}
        async for node in in_slices(self._all_displaced.values()):
            base = self._tree.base_path(node.number)
            if base is not None:
                bases[base] = node
        moved: list[tuple[str, str]] = []
        async for base, node in in_slices(bases.items()):
            if node.number not in self.displaced:
                continue
            is_below_another = any(above in bases for above in names.ancestors(base))
            if not is_below_another and (node.is_directory or base not in put_paths):
                self._deletes.append(deletion(base))
            place = self._place(node.number) if node.is_directory else None
            if place is not None:
                self.moved_directories.append(node)
                moved.append((base, self._path(place)))
        slices = Slices()
        for base, path in moved:
            async with aclosing(copies_below(self._snapshot, base, path)) as copies:
                async for below, copy in copies:
                    if copy.path not in put_paths and not _is_displaced_within(below, base, bases):
                        self._copies.append(copy)
                    await slices.next()


def with_run(stat: Stat, content: Content) -> Stat:
    """Return a `Stat` that names the run which a content that is not dirty reads."""
    run = getattr(content.below, "run", None)
    if run is None:
        return stat
    blocks = run.blocks
    return replace(stat, size=run.size, blocks=len(blocks), offset=blocks.start, byte_offset=run.byte_offset)


def _is_displaced_within(path: str, top: str, displaced: dict[str, Node]) -> bool:
    """Tell whether ``path``, or something above it but below ``top``, is displaced."""
    while len(path) > len(top):
        if path in displaced:
            return True
        path = path.rpartition("/")[0]
    return False
