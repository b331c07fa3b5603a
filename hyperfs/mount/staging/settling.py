"""Laying what is staged over the version that a commit made of it.

The rules: from one instant on the tree lies over the new version; that instant is short however much was committed. The
nodes are told one after the other, those above first, while the tree goes on; one that is about to be changed is told
before. A node that was not told yet is found where it is, since the version below is not asked about what has a node.
"""

from collections.abc import Callable

from hyperfs.core.reader import CoreReader, Run
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.stat import Stat
from hyperfs.mount.staging.nodes import Node
from hyperfs.mount.staging.planning import Account, Plan, PlannedNode
from hyperfs.mount.staging.tree import Tree
from hyperfs.slices import in_slices

Committed = Callable[[int, Stat], None]


class Settlement:
    """What has to be done after a commit of ``plan``, whose contents are in ``runs`` of ``content`` now."""

    def __init__(
        self,
        tree: Tree,
        plan: Plan,
        runs: dict[int, Run],
        content: CoreReader | None,
        account: Account,
        committed: Committed | None,
    ) -> None:
        """``committed`` is told of each file that has another run now."""
        self._tree = tree
        self._plan = plan
        self._runs = runs
        self._content = content
        self._account = account
        self._committed = committed
        self._puts = plan.puts.copy()
        self._displaced = plan.displaced.copy()

    def begin(self, snapshot: Snapshot) -> None:
        """Have the tree lie over ``snapshot``. This is the instant."""
        self._tree.snapshot = snapshot
        self._tree.watcher = self
        for node in self._plan.moved_directories:  # what is below them is looked for below where they are now
            self.changing(node)

    async def complete(self) -> None:
        """Tell all nodes. Cancelled, it can be called again."""
        for pending in (self._puts, self._displaced):
            async for number in in_slices(list(pending)):
                self._settle(number)
        self._tree.watcher = None
        self._tree.keeps_all = False

    # As the tree's watcher

    def changing(self, node: Node) -> None:
        """Tell a node, unless that was done."""
        self._settle(node.number)

    def leaving(self, node: Node) -> None:
        """Do nothing: it has been told where the new version has it."""

    # Inside

    def _settle(self, number: int) -> None:
        displaced = self._displaced.get(number)
        above: list[int] = []
        while number in self._puts:
            above.append(number)
            number = self._puts[number].place[0]
        for planned in reversed(above):
            self._displaced.pop(planned, None)
            self._settle_put(self._puts.pop(planned))
        if displaced is not None and not above:
            del self._displaced[number]
            self._tree.rebase(displaced, None)

    def _settle_put(self, put: PlannedNode) -> None:
        tree, node = self._tree, put.node
        tree.rebase(node, put.place)
        node.stat = put.stat
        node.implied = False
        run = self._runs.get(node.number)
        if run is not None and self._content is not None:
            below = OpenFile(self._content, run)
            self._account(node, lambda content: content.settle(below))
            if self._committed is not None:
                self._committed(node.number, put.stat)
        if node.generation == put.generation:
            tree.committed(node)
