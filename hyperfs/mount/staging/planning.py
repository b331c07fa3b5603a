"""What one commit holds: the difference between what is staged at one instant and the version below.

The rules: the plan is of one instant, so nobody ever sees a rename without the file that was written before it. A path
gets one node, whatever happened to it in between. What is not where it was goes first, each directory with one node;
a file that is put again is not deleted before.
"""

from dataclasses import dataclass, field, replace

from hyperfs.drive import names
from hyperfs.drive.commits import Operation, copies_below, deletion, entry
from hyperfs.drive.stat import Stat
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.staging.extents import Content, Frozen
from hyperfs.mount.staging.nodes import Node, Place
from hyperfs.mount.staging.tree import Tree


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


@dataclass(slots=True)
class Plan:
    """A commit. ``journal`` is the number of the last journal file that it makes needless."""

    version: int
    journal: int
    puts: list[PlannedNode] = field(default_factory=list)
    copies: list[Operation] = field(default_factory=list)
    deletes: list[Operation] = field(default_factory=list)
    displaced: list[Node] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether the version below holds all of it already."""
        return not (self.puts or self.copies or self.deletes)

    def operations(self) -> list[Operation]:
        """Return what is to be committed, once every content stands in the drive."""
        puts = [entry(put.path, put.stat) for put in self.puts]
        return [*self.deletes, *puts, *self.copies]


async def gather(tree: Tree, journal: int, held: frozenset[int]) -> Plan:
    """Return the plan of what is staged, less the nodes ``held``. Nothing may change meanwhile; see `freeze`."""
    plan = Plan(tree.snapshot.version, journal)
    for number, node in tree.dirty.items():
        if number == ROOT or number in held or node.place is None:
            continue
        plan.puts.append(PlannedNode(node, node.place, tree.path(number), node.stat, node.generation))
    put_paths = {put.path for put in plan.puts}
    outermost = _Displaced(tree)
    for number, node in tree.displaced.items():
        if number in held:
            continue
        plan.displaced.append(node)
        base = tree.base_path(node.number)
        if base is None:
            continue
        if not outermost.is_covered(base) and (node.is_directory or base not in put_paths):
            plan.deletes.append(deletion(base))
        if node.place is not None and node.is_directory:
            plan.copies += await _copies(tree, node, base, outermost, put_paths)
    return plan


def freeze(plan: Plan) -> None:
    """Freeze what is planned: attributes and content as they are in this instant."""
    for put in plan.puts:
        put.stat = put.node.stat_now()
        put.generation = put.node.generation
        content = put.node.content
        if content is None or not put.node.is_file:
            continue
        put.content = content
        if content.is_dirty:
            put.frozen = content.freeze()
        else:
            put.stat = with_run(put.stat, content)


def with_run(stat: Stat, content: Content) -> Stat:
    """Return a `Stat` that names the run which a content that is not dirty reads."""
    run = getattr(content.below, "run", None)
    if run is None:
        return stat
    blocks = run.blocks
    return replace(stat, size=run.size, blocks=len(blocks), offset=blocks.start, byte_offset=run.byte_offset)


class _Displaced:
    """Which paths of the version below are not where they were."""

    def __init__(self, tree: Tree) -> None:
        self.paths = {path for number in tree.displaced if (path := tree.base_path(number)) is not None}

    def is_covered(self, path: str) -> bool:
        """Tell whether something above ``path`` is displaced."""
        return any(above in self.paths for above in names.ancestors(path))

    def is_covered_within(self, path: str, top: str) -> bool:
        """Tell whether ``path``, or something above it but below ``top``, is displaced."""
        while len(path) > len(top):
            if path in self.paths:
                return True
            path = path.rpartition("/")[0]
        return False


async def _copies(tree: Tree, node: Node, base: str, displaced: _Displaced, put_paths: set[str]) -> list[Operation]:
    """Return what puts everything below a moved directory at its new place, less what is put or was moved itself."""
    found: list[Operation] = []
    async for path, copy in copies_below(tree.snapshot, base, tree.path(node.number)):
        if not displaced.is_covered_within(path, base) and copy.path not in put_paths:
            found.append(copy)
    return found
