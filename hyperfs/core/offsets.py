"""Where each local block lies in the `data` file, looked up in the tree once for many.

The rule: only blocks whose bit was set before the tree was read are remembered. Such a block's place depends on nodes
that were verified and written before its bit, so what is remembered never changes.
"""

from array import array
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hyperfs import flat_tree
from hyperfs.core.sleep import TreeFile
from hyperfs.errors import DamagedStore

SEGMENT_BLOCKS = 256
_SEGMENT_DEPTH = 8
_SEGMENT_NODES = 2 * SEGMENT_BLOCKS - 1
_MAX_SEGMENTS = 1024
_MAX_SIZES = 1 << 16
_UNKNOWN = -1

Segment = tuple["array[int]", "array[int]"]


class BlockBits(Protocol):
    """Which blocks are here; ``generation`` changes before any block goes away."""

    @property
    def generation(self) -> int: ...

    def get(self, index: int) -> bool: ...

    def has(self, start: int, end: int) -> bool: ...

    def count(self, start: int, end: int) -> int: ...

    def raw(self, start: int, end: int) -> bytes: ...


class Offsets:
    """Starts and sizes of blocks, by segments of 256; at most 1,024 segments are kept, the oldest goes first."""

    def __init__(self, tree: TreeFile, bits: BlockBits, trusts: Callable[[int], bool]) -> None:
        self._trusts = trusts
        self._tree = tree
        self._bits = bits
        self._segments: dict[int, Segment] = {}
        self._sizes: dict[int, int] = {}
        self._tried: dict[int, npt.NDArray[np.bool_]] = {}
        """By segment that is being read, which blocks were here when that began."""

    def of(self, index: int) -> tuple[int, int]:
        """Return (byte offset, size) of block ``index``, whose bit must be set. Raises `WouldWait`."""
        segment = self._segments.get(index >> 8)
        if segment is None:
            segment = self._load(index >> 8)
        start = segment[0][index & 255]
        if start < 0:
            return self._learn_one(segment, index)
        return start, segment[1][index & 255]

    def start_of(self, index: int) -> int | None:
        """Return where block ``index`` (present or not) begins, or None when the tree here does not tell."""
        total = 0
        for root in flat_tree.full_roots(index):
            size = self._size(root)
            if size is None:
                return None
            total += size
        return total

    def learn(self, index: int, start: int, size: int) -> None:
        """Note where a block lies that was just stored, if its segment is kept."""
        segment = self._segments.get(index >> 8)
        if segment is not None:
            segment[0][index & 255] = start
            segment[1][index & 255] = size

    def forget(self) -> None:
        """Drop everything, as after a damaged file was put right."""
        self._segments.clear()
        self._sizes.clear()
        self._tried.clear()

    def _size(self, tree_index: int) -> int | None:
        size = self._sizes.get(tree_index)
        if size is None:
            node = self._tree.node(tree_index)
            if node is None or not self._trusts(tree_index):
                return None
            size = node.size
            if len(self._sizes) >= _MAX_SIZES:
                self._sizes.clear()
            self._sizes[tree_index] = size
        return size

    def _learn_one(self, segment: Segment, index: int) -> tuple[int, int]:
        start = self.start_of(index)
        leaf = self._tree.node(2 * index)
        if start is None or leaf is None:
            raise DamagedStore(f"{self._tree.name} lacks nodes of block {index}, which the bitfield has")
        if self._bits.get(index):
            segment[0][index & 255] = start
            segment[1][index & 255] = leaf.size
        return start, leaf.size

    def _load(self, number: int) -> Segment:
        first = number * SEGMENT_BLOCKS
        present = np.unpackbits(np.frombuffer(self._bits.raw(first, first + SEGMENT_BLOCKS), np.uint8)).astype(bool)
        # What is read in a thread is as old as the first try: of blocks that came since it may lack the nodes.
        present &= self._tried.setdefault(number, present)
        base = self.start_of(first)
        nodes = self._tree.sizes(2 * first, _SEGMENT_NODES)
        del self._tried[number]
        sizes = nodes[0::2]
        starts = np.full(SEGMENT_BLOCKS, _UNKNOWN, np.int64)
        if base is not None:
            if present.all():
                starts[0] = base
                np.cumsum(sizes[:-1], out=starts[1:])
                starts[1:] += base
            else:
                starts = np.where(present, _descend(nodes, base), _UNKNOWN)
        segment = (array("q", starts.tobytes()), array("q", sizes.tobytes()))
        if len(self._segments) >= _MAX_SEGMENTS:
            del self._segments[next(iter(self._segments))]
        self._segments[number] = segment
        return segment


def _descend(sizes: npt.NDArray[np.int64], base: int) -> npt.NDArray[np.int64]:
    """Return the leaves' starts, from the sizes of all nodes of a segment; right for leaves whose uncles are there."""
    starts = np.array([base], np.int64)
    for depth in range(_SEGMENT_DEPTH - 1, -1, -1):
        below = np.empty(2 * len(starts), np.int64)
        below[0::2] = starts
        below[1::2] = starts + sizes[(1 << depth) - 1 :: 1 << (depth + 2)]
        starts = below
    return starts
