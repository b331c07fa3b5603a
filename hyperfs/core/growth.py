"""The tree nodes that appended blocks add, level by level for a whole batch.

The rule: what comes out is exactly what appending the blocks one at a time would have written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hyperfs import flat_tree
from hyperfs.core.bitfield import Bitfield
from hyperfs.core.format import CoreFormat, Hashes
from hyperfs.core.sleep import TreeFile
from hyperfs.tree_node import NODE_BYTES, TreeNode, encode_into


@dataclass(frozen=True, slots=True)
class Growth:
    """New nodes: ``region`` is the tree file's bytes from leaf ``2 * start``; ``left`` are new nodes before that."""

    start: int
    end: int
    region: bytes | bytearray
    left: tuple[TreeNode, ...]
    roots: tuple[TreeNode, ...]

    def node_ranges(self) -> list[tuple[int, int]]:
        """Return the ranges of tree indices in the region that are nodes: not those whose right end is missing."""
        low, end = 2 * self.start, 2 * self.end - 1
        missing = [flat_tree.index(depth, self.end >> depth) for depth in range(1, self.end.bit_length() + 1)]
        ranges = []
        for gap in sorted(gap for gap in missing if low <= gap < end):
            ranges.append((low, gap))
            low = gap + 1
        ranges.append((low, end))
        return ranges

    def write(self, tree: TreeFile) -> None:
        """Write the nodes. Raises OSError."""
        tree.write_nodes({node.tree_index: node for node in self.left})
        tree.write_region(2 * self.start, self.region)

    def note_in(self, bitfield: Bitfield) -> None:
        """Note in ``bitfield`` that the blocks and all their nodes are here."""
        for low, high in self.node_ranges():
            bitfield.set_node_range(low, high)
        bitfield.set_nodes([node.tree_index for node in self.left])
        bitfield.set_blocks(self.start, self.end)


def grow(
    core_format: CoreFormat, roots: Sequence[TreeNode], length: int, hashes: Hashes, sizes: Sequence[int]
) -> Growth:
    """Return what appending blocks (at least one) of these hashes and sizes to a tree of ``length`` blocks adds.

    ``roots`` are the tree's until now.
    """
    end = length + len(hashes)
    base = 2 * length
    region = bytearray(NODE_BYTES * (2 * len(hashes) - 1))
    old_roots = {root.tree_index: root for root in roots}
    tops = dict(old_roots)
    left: list[TreeNode] = []
    hashes, sizes = list(hashes), list(sizes)
    depth = 0
    while hashes:
        first = length >> depth
        at = flat_tree.index(depth, first)
        step = 2 << depth
        if at < base:
            left.append(TreeNode(at, hashes[0], sizes[0]))
            encode_into(region, at + step - base, step, hashes[1:], sizes[1:])
        else:
            encode_into(region, at - base, step, hashes, sizes)
        last = at + step * (len(hashes) - 1)
        tops[last] = TreeNode(last, hashes[-1], sizes[-1])
        if first & 1:
            beside = old_roots[flat_tree.index(depth, first - 1)]
            hashes.insert(0, beside.hash)
            sizes.insert(0, beside.size)
        if len(hashes) & 1:
            hashes.pop()
            sizes.pop()
        sizes = [a + b for a, b in zip(sizes[0::2], sizes[1::2], strict=True)]
        hashes = core_format.parent_hashes(hashes, sizes)
        depth += 1
    return Growth(length, end, region, tuple(left), tuple(tops[root] for root in flat_tree.full_roots(end)))
