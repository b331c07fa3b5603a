"""The tree nodes that a core has, as it asks for them: from memory, else from its file.

The rule: only nodes that were verified are in here, or come out.
"""

from collections.abc import Iterable, Sequence

from hyperfs.core.bitfield import Bitfield
from hyperfs.core.sleep import TreeFile
from hyperfs.errors import DamagedStore
from hyperfs.tree_node import TreeNode

_MAX_NODES = 1 << 14


class OwnNodes:
    """The verified nodes of one core; a bounded number is kept in memory. All methods raise as `TreeFile.node` does."""

    def __init__(self, tree: TreeFile, bitfield: Bitfield, roots: Iterable[TreeNode]) -> None:
        self._tree = tree
        self._bitfield = bitfield
        self._known = {root.tree_index: root for root in roots}

    def get(self, tree_index: int) -> TreeNode | None:
        """Return a node, or None when it is not here. Raises `WouldWait`, `DamagedStore`."""
        node = self._known.get(tree_index)
        if node is None and self._bitfield.has_node(tree_index):
            node = self._tree.node(tree_index)
            if node is None:
                raise DamagedStore(f"{self._tree.name} lacks node {tree_index}, which the bitfield has")
            self.remember(node)
        return node

    def get_or_wrong(self, tree_index: int) -> TreeNode | None:
        """Return what `get` does; for a node that is damaged beyond belief one that no other matches.

        So whoever proves what should be there puts it right, and nobody gets far with what is there.
        """
        try:
            return self.get(tree_index)
        except DamagedStore:
            return TreeNode(tree_index, bytes(32), 0)

    def all_of(self, tree_indices: Sequence[int]) -> tuple[TreeNode, ...]:
        """Return these nodes. Raises `WouldWait`, and `DamagedStore` when one is not here."""
        nodes = []
        for tree_index in tree_indices:
            node = self.get(tree_index)
            if node is None:
                raise DamagedStore(f"{self._tree.name} lacks node {tree_index}")
            nodes.append(node)
        return tuple(nodes)

    def contradicted_by(self, nodes: Sequence[TreeNode]) -> int | None:
        """Return the index of the first of ``nodes`` that is not the one here, if any. Raises `WouldWait`."""
        for node in nodes:
            known = self.get(node.tree_index)
            if known is not None and known != node:
                return node.tree_index
        return None

    def remember(self, node: TreeNode) -> None:
        """Keep a node that was verified in memory."""
        if len(self._known) >= _MAX_NODES:
            self._known.clear()
        self._known[node.tree_index] = node

    def replace(self, node: TreeNode) -> None:
        """Write a node in place of one that is damaged. Raises OSError."""
        self._known.pop(node.tree_index, None)
        self._tree.write_nodes({node.tree_index: node})
