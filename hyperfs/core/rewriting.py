"""Writing again what a sync that failed may have lost: the kernel takes such pages for clean, and forgets them.

The rule: what is read back is written again only if it is what was written, which the tree tells; what is not is lost,
and said to be. Everything here waits for the disk.
"""

from collections.abc import Iterable

from hyperfs import flat_tree
from hyperfs.core.audit import bad_blocks, check_parent
from hyperfs.core.bitfield import PAGE_BLOCKS
from hyperfs.core.files import CoreFiles
from hyperfs.errors import DamagedStore
from hyperfs.tree_node import TreeNode

_BLOCKS_AT_ONCE = 256


def write_again(files: CoreFiles, pages: Iterable[int]) -> list[int]:
    """Write again the nodes and blocks that are here by these pages of the bitfield; return the blocks that are lost.

    Raises OSError when that fails, and `DamagedStore` when nodes are lost.
    """
    lost: list[int] = []
    for page in pages:
        _write_nodes(files, page)
        first = page * PAGE_BLOCKS
        for start in range(first, first + PAGE_BLOCKS, _BLOCKS_AT_ONCE):
            lost += _write_blocks(files, range(start, start + _BLOCKS_AT_ONCE))
    return lost


def _write_nodes(files: CoreFiles, page: int) -> None:
    has = files.bitfield.has_node
    wanted = [node for node in range(2 * PAGE_BLOCKS * page, 2 * PAGE_BLOCKS * (page + 1)) if has(node)]
    if not wanted:
        return
    nodes = {node.tree_index: node for node in files.tree.load_nodes(wanted[0], wanted[-1] + 1)}
    for tree_index in wanted:
        if tree_index not in nodes:
            raise DamagedStore(f"{files.tree.name} lost node {tree_index}, which was written and could not be synced")
        check_parent(files, flat_tree.parent(tree_index))
    files.tree.write_nodes({tree_index: nodes[tree_index] for tree_index in wanted})


def _write_blocks(files: CoreFiles, blocks: range) -> list[int]:
    placed: list[tuple[TreeNode, int]] = []
    start = -1
    for index in blocks:
        if not files.bitfield.get(index):
            start = -1
            continue
        leaf = files.tree.load_node(2 * index)
        if start < 0:
            start = _start_of(files, index)
        if leaf is None:
            raise DamagedStore(f"{files.tree.name} lacks node {2 * index}, which the bitfield has")
        placed.append((leaf, start))
        start += leaf.size
    lost = bad_blocks(files, placed)
    for leaf, at in placed:
        if leaf.tree_index // 2 not in lost:
            files.data.file.write(at, files.data.file.read(at, leaf.size))
    return lost


def _start_of(files: CoreFiles, index: int) -> int:
    start = 0
    for root in flat_tree.full_roots(index):
        node = files.tree.load_node(root)
        if node is None:
            raise DamagedStore(f"{files.tree.name} lacks node {root}, left of block {index}")
        start += node.size
    return start
