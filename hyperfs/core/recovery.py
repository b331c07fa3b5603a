"""Putting the files of a core in order after a crash.

The rule: what is opened is a signed tree: the last length for which all roots and a valid signature are on disk. What
lies beyond is cleared, durably, before anybody else sees the core; and a writer never opens behind its own signature.
See docs/formats.md, "A core's files".
"""

import itertools
import logging
from collections.abc import Callable, Sequence

from hyperfs import flat_tree
from hyperfs.core.audit import bad_blocks, check_tree
from hyperfs.core.bitfield import PAGE_BLOCKS
from hyperfs.core.files import CoreFiles
from hyperfs.core.format import NO_SIGNATURE, Hashes
from hyperfs.core.growth import Growth, grow
from hyperfs.core.head_record import HeadRecord, RecordedHead
from hyperfs.core.proofs import MAX_BLOCK_BYTES
from hyperfs.core.sleep import HEADER_BYTES, SIGNATURE_BYTES
from hyperfs.errors import DamagedStore, short
from hyperfs.tree_node import NODE_BYTES, TreeNode

log = logging.getLogger(__name__)

_SECTOR_BYTES = 512
_LOAD_BYTES = 4 * 1024 * 1024


def recover(files: CoreFiles, claimed: int, record: HeadRecord | None) -> None:
    """Set length and roots to the last consistent ones, and clear what is beyond."""
    signed = _signed_beyond(files, claimed)
    if signed is not None:
        length, roots = signed
        if files.secret_key is not None:
            _take_over_beyond(files, claimed, length)
        else:
            files.bitfield.set_nodes(root.tree_index for root in roots)
    else:
        length, roots = _last_signed(files, claimed)
    if length < claimed:
        log.warning(
            "core %s: opened at length %d, not %d: what came later was cut off", short(files.key), length, claimed
        )
    files.length = files.durable_length = length
    files.roots = roots
    if files.secret_key is None:
        files.bitfield.clear_unproven()
    files.bitfield.cut(length)
    files.bitfield.clear_nodes(_spanning(length))
    if files.secret_key is not None:
        _take_over_torn_nodes(files)
    _check_data_size(files)
    if files.bitfield.dirty:
        files.write_pages(files.bitfield.take_dirty(files.page_bytes))
        files.bitfield_file.sync()
    if files.secret_key is not None:
        _take_over_torn(files)
        head = None if record is None else record.read()
        if head is not None and head.length > length:
            _take_over_recorded(files, head)
        elif head is not None and head.length == length:
            # Its signature is in the file, and may not be on the disk: a sync that failed is not to be seen any more.
            files.durable_length, files.recovered = 0, head
    _cut_off(files)


def _check_data_size(files: CoreFiles) -> None:
    """Raise `DamagedStore` when the last block is here, and the data file ends before it does."""
    length = files.length
    last = files.tree.load_node(2 * length - 2) if length and files.bitfield.get(length - 1) else None
    byte_length = sum(root.size for root in files.roots)
    if last is not None and last.size and files.data.file.size() < byte_length:
        raise DamagedStore(
            f"{files.data.name} is cut short: {files.data.file.size()} bytes, where it has {byte_length}"
        )


def _take_over_torn_nodes(files: CoreFiles) -> None:
    """Set the bits of nodes of ours that a power cut left out of the bitfield, in a sector older than those beside it.

    The tree is on the disk before the bitfield is, so what the file has and the nodes above confirm is there.
    """
    length, bitfield = files.length, files.bitfield
    found: list[int] = []
    for first, end in bitfield.lacking_nodes(2 * length - 1, _spanning(length)):
        here = (node.tree_index for node in files.tree.load_nodes(first, end))
        found += [node for node in here if not bitfield.has_node(node) and flat_tree.right_span(node) < 2 * length]
    if not found:
        return
    bitfield.set_nodes(found)
    try:
        check_tree(files, length)
    except DamagedStore as error:
        log.warning("core %s: the bitfield lacks nodes, and they are not to be had: %s", short(files.key), error)
        bitfield.clear_nodes(found)
    else:
        log.warning("core %s: the bitfield lacked %d nodes that are there", short(files.key), len(found))


def _take_over_torn(files: CoreFiles) -> None:
    """Set the bits of our blocks in sectors of the bitfield that a power cut left older than those beside them.

    In such a sector the bits up to its end, or to the core's, are missing, and the blocks are there. Of blocks that
    were cleared nothing is, so looking at one for each sector tells; empty ones tell nothing.
    """
    bitfield, found = files.bitfield, False
    end = files.length
    while end:
        first = end
        place = None if bitfield.get(end - 1) else _roots(files, end, bitfield.has_node)
        start = stop = sum(root.size for root in place or ())
        while place and first and not bitfield.get(first - 1):
            leaf = files.tree.load_node(2 * first - 2)
            if leaf is None or bad_blocks(files, [(leaf, start - leaf.size)]):
                break
            start -= leaf.size
            first -= 1
        if start < stop:
            bitfield.set_blocks(first, end)
            found = True
        end = min(first, _first_in_sector(end - 1, files.page_bytes))
    if found:
        log.warning("core %s: the bitfield lacked blocks that are there", short(files.key))
        files.write_pages(bitfield.take_dirty(files.page_bytes))
        files.bitfield_file.sync()


def _first_in_sector(index: int, page_bytes: int) -> int:
    """Return the first block whose bit is in the same page and sector of the bitfield as that of block ``index``."""
    page = HEADER_BYTES + index // PAGE_BLOCKS * page_bytes
    sector = (page + index % PAGE_BLOCKS // 8) // _SECTOR_BYTES * _SECTOR_BYTES
    return index // PAGE_BLOCKS * PAGE_BLOCKS + 8 * max(0, sector - page)


def _take_over_recorded(files: CoreFiles, head: RecordedHead) -> None:
    """Extend a core by what a process that was killed had appended; none of it is made durable here.

    It may name blocks of another core, which have to be on the disk before. All of it is written again: a sync of it
    may have failed, after which the kernel takes it for clean.
    """
    growth = _growth_of(files, files.length, files.roots, head)
    if growth is not None:
        _write_again(files, sum(root.size for root in files.roots), sum(root.size for root in growth.roots))
        growth.write(files.tree)
        growth.note_in(files.bitfield)
        files.length, files.roots, files.recovered = growth.end, growth.roots, head


def _growth_of(files: CoreFiles, length: int, roots: Sequence[TreeNode], head: RecordedHead) -> Growth | None:
    """Return what ``head`` adds to a core of ``length`` blocks, if all of it is in the files; nothing is changed.

    ``roots`` are the core's at ``length``. Only the sizes of blocks are taken from the tree file: the nodes are made
    anew from the data, and believed because of the signature. Waits for the disk.
    """
    sizes = _sizes(files, length, head.length)
    start = sum(root.size for root in roots)
    if len(sizes) == head.length - length and start + sum(sizes) <= files.data.file.size():
        growth = grow(files.format, roots, length, _hashes(files, start, sizes), sizes)
        if files.format.verify(growth.roots, head.length, head.signature, files.key):
            return growth
    log.warning("core %s: not all of the %d blocks appended last is there", short(files.key), head.length)
    return None


def _sizes(files: CoreFiles, length: int, end: int) -> list[int]:
    """Return the sizes that the tree file has for blocks [length, end), up to the first that it lacks."""
    sizes: list[int] = []
    for node in files.tree.load_nodes(2 * length, 2 * end - 1):
        if node.tree_index == 2 * (length + len(sizes)):
            if node.size > MAX_BLOCK_BYTES:
                break
            sizes.append(node.size)
        elif not node.tree_index & 1:
            break
    return sizes


def _hashes(files: CoreFiles, start: int, sizes: Sequence[int]) -> Hashes:
    """Return the leaf hashes of the blocks of these sizes that lie in the data file from ``start`` on."""
    hashes: Hashes = []
    ends = list(itertools.accumulate(sizes, initial=start))
    first = 0
    while first < len(sizes):
        stop = first + 1
        while stop < len(sizes) and ends[stop + 1] - ends[first] <= _LOAD_BYTES:
            stop += 1
        data = files.data.file.read(ends[first], ends[stop] - ends[first])
        base = ends[first]
        hashes += files.format.leaf_hashes([data[ends[i] - base : ends[i + 1] - base] for i in range(first, stop)])
        first = stop
    return hashes


def _write_again(files: CoreFiles, start: int, end: int) -> None:
    for at in range(start, end, _LOAD_BYTES):
        files.data.file.write(at, files.data.file.read(at, min(_LOAD_BYTES, end - at)))


def _cut_off(files: CoreFiles) -> None:
    """Clear what the files have beyond the core's length."""
    length, spanning = files.length, _spanning(files.length)
    byte_length = sum(root.size for root in files.roots)
    cut = [
        (files.tree.file, files.tree.place(max(0, 2 * length - 1))),
        (files.signatures.file, HEADER_BYTES + SIGNATURE_BYTES * length),
        (files.data.file, byte_length),
    ]
    for file, end in cut:
        if file.size() > end:
            file.truncate(end)
            file.sync()
    for tree_index in spanning:
        if files.tree.file.size() > files.tree.place(tree_index):
            files.tree.write_region(tree_index, bytes(NODE_BYTES))


def _spanning(length: int) -> list[int]:
    """Return the nodes left of the end of a tree of ``length`` blocks that reach beyond it."""
    spanning = []
    for depth in range(1, length.bit_length() + 1):
        node = flat_tree.index(depth, length >> depth)
        if node < 2 * length:
            spanning.append(node)
    return spanning


def _signed_beyond(files: CoreFiles, claimed: int) -> tuple[int, tuple[TreeNode, ...]] | None:
    """Return the longest signed tree past what the bitfield has, if there is one."""
    for index, signature in files.signatures.descending(files.signatures.count()):
        if index < claimed:
            return None
        roots = _roots(files, index + 1, lambda tree_index: True)
        if roots is not None and files.format.verify(roots, index + 1, signature, files.key):
            return index + 1, roots
    return None


def _take_over_beyond(files: CoreFiles, claimed: int, length: int) -> None:
    """Set the bits of what a signature of ours covers and the bitfield lacks.

    A writer that stepped back behind its own signature would sign another tree of the same length, a fork. So what the
    crash, or the damage, left out of the bitfield is verified against the signed roots and taken over.
    """
    log.warning("core %s: the bitfield ends at %d of %d signed blocks", short(files.key), claimed, length)
    nodes = {node.tree_index: node for node in files.tree.load_nodes(0, 2 * length - 1)}
    files.bitfield.set_nodes(node for node in nodes if flat_tree.right_span(node) < 2 * length)
    check_tree(files, length)
    start = sum(nodes[root].size for root in flat_tree.full_roots(claimed) if root in nodes)
    placed = []
    for index in range(claimed, length):
        leaf = nodes.get(2 * index)
        if leaf is None:
            raise DamagedStore(f"{files.tree.name} lacks node {2 * index}, which is signed; restore it from a copy")
        placed.append((leaf, start))
        start += leaf.size
    bad = set(bad_blocks(files, placed))
    for leaf, _ in placed:
        index = leaf.tree_index // 2
        if index not in bad:
            files.bitfield.set_blocks(index, index + 1)
    # In the file before anything else is: what is cut off next is cut off by the same length.
    files.write_pages(files.bitfield.take_dirty(files.page_bytes))
    files.bitfield_file.sync()


def _last_signed(files: CoreFiles, claimed: int) -> tuple[int, tuple[TreeNode, ...]]:
    static = _roots(files, claimed, files.bitfield.has_node) if claimed else None
    if static is not None and files.format.verify(static, claimed, NO_SIGNATURE, files.key):
        return claimed, static
    for index, signature in files.signatures.descending(claimed):
        length = index + 1
        roots = _roots(files, length, files.bitfield.has_node)
        if roots is None:
            continue
        if files.format.verify(roots, length, signature, files.key):
            return length, roots
        if not _torn(index, signature):
            raise DamagedStore(
                f"{files.signatures.name}: the signature of {length} blocks is not that of the roots in "
                f"{files.tree.name}; one of the two is damaged. Restore it from a copy, or, if the core is not your "
                "own, remove its folder to fetch it again"
            )
    if claimed:
        raise DamagedStore(
            f"{files.signatures.name} and {files.tree.name} have no signed roots for any of the {claimed} blocks that "
            f"{files.directory.describe('bitfield')} has; restore them from a copy, or, if the core is not your own, "
            "remove its folder to fetch it again"
        )
    return 0, ()


def _roots(files: CoreFiles, length: int, has: Callable[[int], bool]) -> tuple[TreeNode, ...] | None:
    roots = []
    for tree_index in flat_tree.full_roots(length):
        if not has(tree_index):
            return None
        node = files.tree.load_node(tree_index)
        if node is None:
            return None
        roots.append(node)
    return tuple(roots)


def _torn(index: int, signature: bytes) -> bool:
    """Tell whether a sector's edge runs through the signature and one side of it was never written."""
    edge = -(HEADER_BYTES + SIGNATURE_BYTES * index) % _SECTOR_BYTES
    return 0 < edge < SIGNATURE_BYTES and not (any(signature[:edge]) and any(signature[edge:]))
