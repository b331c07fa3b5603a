"""The tree nodes that appended blocks add, level by level for a whole batch.

The rule: what comes out is exactly what appending the blocks one at a time would have written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperfs import flat_tree
from hyperfs.core.bitfield import Bitfield
from hyperfs.core.format import CoreFormat, Hashes
from hyperfs.core.sleep import HEADER_BYTES, NODE_BYTES, TreeFile
from hyperfs.tree_node import TreeNode

_SMALL_BATCH = 24


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
        tree.file.write(HEADER_BYTES + 2 * NODE_BYTES * self.start, self.region)

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
            _place(region, at + step - base, step, hashes[1:], sizes[1:])
        else:
            _place(region, at - base, step, hashes, sizes)
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


def _place(region: bytearray, start: int, step: int, hashes: Sequence[bytes], sizes: Sequence[int]) -> None:
    """Put nodes into ``region``, the first as entry ``start``, each ``step`` entries after the one before."""
    if len(hashes) < _SMALL_BATCH:
        at = start * NODE_BYTES
        for digest, size in zip(hashes, sizes, strict=True):
            region[at : at + NODE_BYTES] = digest + size.to_bytes(8, "big")
            at += step * NODE_BYTES
        return
    table = np.frombuffer(region, np.uint8).reshape(-1, NODE_BYTES)[start::step]
    table[: len(hashes), :32] = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
    table[: len(hashes), 32:] = np.array(sizes, ">u8").view(np.uint8).reshape(-1, 8)
