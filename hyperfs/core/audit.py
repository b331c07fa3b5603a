"""Checking what is on disk against itself.

The rule: nothing is changed here, and everything is read from the files, whatever caches say. What is no coroutine
waits for the disk.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from hyperfs import flat_tree
from hyperfs.core.nonblocking import run_with_reads
from hyperfs.errors import DamagedStore
from hyperfs.tree_node import TreeNode

if TYPE_CHECKING:
    from hyperfs.core.files import CoreFiles
    from hyperfs.core.offsets import Offsets
    from hyperfs.core.own_nodes import OwnNodes


def check_tree(files: "CoreFiles", length: int) -> None:
    """Raise `DamagedStore` unless every parent that is here is the hash of its children, where both are here."""
    depth = 1
    while 1 << (depth - 1) <= length:
        for parent in range((1 << depth) - 1, 2 * length, 2 << depth):
            check_parent(files, parent)
        depth += 1


def check_around(files: "CoreFiles", length: int, index: int) -> None:
    """Raise `DamagedStore` when a node on the way up from block ``index``, or beside it, is not what its kin say."""
    node = 2 * index
    while 0 <= node < 2 * length:
        for member in (node, flat_tree.sibling(node)):
            if member & 1:
                check_parent(files, member)
        node = flat_tree.parent(node)


def check_parent(files: "CoreFiles", parent: int) -> None:
    """Raise `DamagedStore` unless a parent is the hash of its children, if all three are here."""
    left, right = flat_tree.left_child(parent), flat_tree.right_child(parent)
    has = files.bitfield.has_node
    if not (has(parent) and has(left) and has(right)):
        return
    node, a, b = (_node(files, tree_index) for tree_index in (parent, left, right))
    if node.size != a.size + b.size or node.hash != files.format.parent_hash(node.size, a.hash, b.hash):
        raise DamagedStore(f"{files.tree.name}: node {parent} is not the hash of {left} and {right}")


def bad_blocks(files: "CoreFiles", placed: Sequence[tuple[TreeNode, int]]) -> list[int]:
    """Return the indices of those blocks, given as (leaf, byte offset), that do not match their leaves."""
    bad = []
    for leaf, start in placed:
        block = files.data.file.read(start, leaf.size)
        if len(block) != leaf.size or files.format.leaf_hash(block) != leaf.hash:
            bad.append(leaf.tree_index // 2)
    return bad


async def find_bad(files: "CoreFiles", nodes: "OwnNodes", offsets: "Offsets", blocks: range) -> list[int]:
    """Return those of ``blocks`` that are here and do not match the tree, as they are when this returns, ascending.

    Raises `DamagedStore`, OSError.
    """
    bitfield = files.bitfield

    def placed_leaves() -> list[tuple[TreeNode, int]]:
        placed = []
        for index in here:
            leaf, start = nodes.get(2 * index), offsets.start_of(index)
            if leaf is not None and start is not None:
                placed.append((leaf, start))
        return placed

    while True:
        generation = bitfield.generation
        here = [index for index in blocks if bitfield.get(index)]
        placed = await run_with_reads(placed_leaves)
        bad = set(here) - {leaf.tree_index // 2 for leaf, _ in placed}
        bad.update(await trio.to_thread.run_sync(bad_blocks, files, placed))
        # A block that was cleared while it was read, and perhaps fetched again, was not seen as it is.
        if bitfield.generation == generation:
            return sorted(bad)


def _node(files: "CoreFiles", tree_index: int) -> TreeNode:
    node = files.tree.load_node(tree_index)
    if node is None:
        raise DamagedStore(f"{files.tree.name} lacks node {tree_index}, which the bitfield has")
    return node
