"""Which blocks and tree nodes are on disk, in memory as the `bitfield` file has it: page by page.

The rule: a bit is set only after what it stands for was written. Only pages that anything was set in take memory, so
that a hostile length costs nothing. See docs/formats.md, "A core's files".
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from hyperfs import flat_tree
from hyperfs.core import bits

PAGE_BLOCKS = 8192
BLOCK_BYTES = 1024
TREE_BYTES = 2048
INDEX_BYTES = 512
PAGE_BYTES = BLOCK_BYTES + TREE_BYTES + INDEX_BYTES
_BITS_BYTES = BLOCK_BYTES + TREE_BYTES
_TREE_START = 8 * BLOCK_BYTES


def _summary(value: int) -> int:
    return 3 if value == 0xF else 1 if value else 0


_PAIR_OF_BYTE = np.array([3 if byte == 0xFF else 1 if byte else 0 for byte in range(256)], np.uint8)
_NIBBLE_OF_BYTE = np.array([_summary(byte >> 4) << 2 | _summary(byte & 15) for byte in range(256)], np.uint8)


class Bitfield:
    """Block bits and tree bits; ``generation`` counts how often block bits were cleared."""

    def __init__(self) -> None:
        self.generation = 0
        self._pages: dict[int, bytearray] = {}
        self._dirty: set[int] = set()
        self._summaries: dict[int, int] = {}

    # Blocks

    def get(self, index: int) -> bool:
        """Tell whether block ``index`` is here."""
        page = self._pages.get(index >> 13)
        return page is not None and page[(index & 8191) >> 3] & (128 >> (index & 7)) != 0

    def has(self, start: int, end: int) -> bool:
        """Tell whether all blocks of [start, end) are here."""
        if end - start == 1:
            return self.get(start)
        for number, low, high in _split(start, end, PAGE_BLOCKS):
            page = self._pages.get(number)
            if page is None or not bits.all_set(page, low, high):
                return False
        return True

    def count(self, start: int, end: int) -> int:
        """Return how many blocks of [start, end) are here."""
        pages = self._pages
        if end - start > PAGE_BLOCKS * (len(pages) + 2):
            return sum(self.count(max(start, n * PAGE_BLOCKS), min(end, (n + 1) * PAGE_BLOCKS)) for n in pages)
        return sum(
            bits.count_set(pages[n], low, high) for n, low, high in _split(start, end, PAGE_BLOCKS) if n in pages
        )

    def first_missing(self, start: int, end: int) -> int:
        """Return the first block of [start, end) that is not here, or ``end``."""
        for number, low, high in _split(start, end, PAGE_BLOCKS):
            page = self._pages.get(number)
            found = low if page is None else bits.first_clear(page, low, high)
            if found < high:
                return number * PAGE_BLOCKS + found
        return end

    def first_present(self, start: int, end: int) -> int:
        """Return the first block of [start, end) that is here, or ``end``."""
        for number in sorted(n for n in self._pages if start >> 13 <= n <= (end - 1) >> 13):
            low = max(start - number * PAGE_BLOCKS, 0)
            high = min(end - number * PAGE_BLOCKS, PAGE_BLOCKS)
            found = bits.first_set(self._pages[number], low, high)
            if found < high:
                return number * PAGE_BLOCKS + found
        return end

    def raw(self, start: int, end: int) -> bytes:
        """Return the bits of [start, end), both multiples of 8; zeros past the last page."""
        return b"".join(
            bytes(self._pages[number][low >> 3 : high >> 3]) if number in self._pages else bytes((high - low) >> 3)
            for number, low, high in _split(start, end, PAGE_BLOCKS)
        )

    def set_blocks(self, start: int, end: int) -> None:
        """Note that blocks [start, end) are here."""
        for number, low, high in _split(start, end, PAGE_BLOCKS):
            bits.set_range(self._page(number), low, high)

    def clear_blocks(self, start: int, end: int) -> None:
        """Note that blocks [start, end) are not here any more; raises the generation first."""
        self.generation += 1
        for number in [n for n in self._pages if start >> 13 <= n <= (end - 1) >> 13]:
            low = max(start - number * PAGE_BLOCKS, 0)
            bits.clear_range(self._page(number), low, min(end - number * PAGE_BLOCKS, PAGE_BLOCKS))

    # Tree nodes

    def has_node(self, tree_index: int) -> bool:
        """Tell whether the tree node is here."""
        page = self._pages.get(tree_index >> 14)
        return page is not None and page[BLOCK_BYTES + ((tree_index & 16383) >> 3)] & (128 >> (tree_index & 7)) != 0

    def set_nodes(self, tree_indices: Iterable[int]) -> None:
        """Note that these tree nodes are here."""
        number = -1
        page = bytearray()
        for tree_index in tree_indices:
            if tree_index >> 14 != number:
                number = tree_index >> 14
                page = self._page(number)
            page[BLOCK_BYTES + ((tree_index & 16383) >> 3)] |= 128 >> (tree_index & 7)

    def set_node_range(self, start: int, end: int) -> None:
        """Note that all tree nodes of [start, end) are here."""
        for number, low, high in _split(start, end, 2 * PAGE_BLOCKS):
            bits.set_range(self._page(number), _TREE_START + low, _TREE_START + high)

    def clear_nodes(self, tree_indices: Iterable[int]) -> bool:
        """Note that these tree nodes are not here; tell whether any was."""
        found = False
        for tree_index in tree_indices:
            if self.has_node(tree_index):
                found = True
                at = _TREE_START + (tree_index & 16383)
                bits.clear_range(self._page(tree_index >> 14), at, at + 1)
        return found

    def lacking_nodes(self, end: int, gaps: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Yield ranges of tree indices below ``end`` in which nodes are missing besides ``gaps``, one a page here."""
        holes = Counter(gap >> 14 for gap in gaps if gap < end)
        for number in sorted(self._pages):
            size = min(2 * PAGE_BLOCKS, end - 2 * PAGE_BLOCKS * number)
            if size > bits.count_set(self._pages[number], _TREE_START, _TREE_START + size) + holes[number]:
                yield 2 * PAGE_BLOCKS * number, 2 * PAGE_BLOCKS * number + size

    def tree_end(self) -> int:
        """Return a tree index past every node that is here."""
        for number in sorted(self._pages, reverse=True):
            tree = self._pages[number][BLOCK_BYTES:_BITS_BYTES].rstrip(b"\x00")
            if tree:
                return number * 2 * PAGE_BLOCKS + 8 * len(tree)
        return 0

    def cut(self, length: int) -> bool:
        """Clear what lies at or past block ``length`` and leaf ``2 * length``; tell whether anything did."""
        found = False
        for number in [n for n in self._pages if n >= length >> 13]:
            low = max(0, length - number * PAGE_BLOCKS)
            page = self._pages[number]
            if (
                bits.first_set(page, low, PAGE_BLOCKS) < PAGE_BLOCKS
                or bits.first_set(page, _TREE_START + 2 * low, 8 * _BITS_BYTES) < 8 * _BITS_BYTES
            ):
                found = True
                self._dirty.add(number)
                bits.clear_range(page, low, PAGE_BLOCKS)
                bits.clear_range(page, _TREE_START + 2 * low, 8 * _BITS_BYTES)
        return found

    def clear_unproven(self) -> None:
        """Clear the blocks of which a node is missing: the leaf, or one of those left of it, which tell where it is.

        A crash may tear a page of the file. The nodes beside those that are missing are cleared as well, so that they
        are not left out of an answer that is to bring these.
        """
        for number in sorted(self._pages):
            page = self._pages[number]
            nodes = np.unpackbits(np.frombuffer(page[BLOCK_BYTES:_BITS_BYTES], np.uint8))
            proven = np.array([self._clear_unproven_above(number)], np.uint8)
            for depth in range(PAGE_BLOCKS.bit_length() - 1, -1, -1):
                level = nodes[(1 << depth) - 1 :: 2 << depth]
                if len(level) > len(proven):
                    proven = np.repeat(proven, 2)
                    proven[1::2] &= level[0::2]  # where a right child begins its left sibling tells
                level &= proven
            here = np.unpackbits(np.frombuffer(page[:BLOCK_BYTES], np.uint8)) & nodes[0::2]
            proven_bits = np.packbits(here).tobytes() + np.packbits(nodes).tobytes()
            if proven_bits != page[:_BITS_BYTES]:
                self.generation += 1
                self._page(number)[:_BITS_BYTES] = proven_bits

    def _clear_unproven_above(self, number: int) -> bool:
        """Tell whether the nodes are here that tell where a page begins; clear those above it that lack one beside."""
        node = flat_tree.index(PAGE_BLOCKS.bit_length() - 1, number)
        above: list[int] = []
        unproven: list[int] = []
        while flat_tree.left_span(node):
            above.append(node)
            if flat_tree.sibling(node) < node and not self.has_node(flat_tree.sibling(node)):
                unproven = list(above)
            node = flat_tree.parent(node)
        self.clear_nodes(unproven)
        return not unproven

    # Pages

    def load(self, number: int, page: bytes) -> None:
        """Take over a page as the file has it, of any page size; its index part is made again when needed."""
        if page[:_BITS_BYTES].strip(b"\x00"):
            self._pages[number] = bytearray(page[:_BITS_BYTES].ljust(PAGE_BYTES, b"\x00"))

    def block_pages(self) -> Iterator[tuple[int, bytes]]:
        """Yield (first block, 1024 bytes of block bits) for every page in memory."""
        for number, page in self._pages.items():
            yield number * PAGE_BLOCKS, bytes(page[:BLOCK_BYTES])

    @property
    def dirty(self) -> bool:
        """Whether anything changed since `take_dirty`."""
        return bool(self._dirty)

    def mark_dirty(self, numbers: Iterable[int]) -> None:
        """Have these pages taken again: writing them failed."""
        self._dirty.update(numbers)

    def take_dirty(self, page_bytes: int = PAGE_BYTES) -> list[tuple[int, bytes]]:
        """Return (page number, page as the file has it) for what changed, and count it as clean.

        In files of an older page size the index stays zero, which is always safe.
        """
        if page_bytes != PAGE_BYTES:
            taken = [(n, bytes(self._pages[n][:_BITS_BYTES]) + bytes(page_bytes - _BITS_BYTES)) for n in self._dirty]
        else:
            for number in list(self._dirty):
                self._index_page(number)
                self._index_above(number)
            taken = [(number, bytes(self._pages[number])) for number in sorted(self._dirty)]
        self._dirty.clear()
        return taken

    def _page(self, number: int) -> bytearray:
        self._dirty.add(number)
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = bytearray(PAGE_BYTES)
        return page

    def _index_page(self, number: int) -> None:
        """Make the summary of a page's own blocks again; the last byte is a node above it and stays."""
        page = self._pages[number]
        index = np.zeros(INDEX_BYTES, np.uint8)
        pairs = _PAIR_OF_BYTE[np.frombuffer(page[:BLOCK_BYTES], np.uint8)].reshape(-1, 4)
        level = pairs[:, 0] << 6 | pairs[:, 1] << 4 | pairs[:, 2] << 2 | pairs[:, 3]
        index[0::2] = level
        step = 1
        while len(level) > 1:
            nibbles = _NIBBLE_OF_BYTE[level]
            level = nibbles[0::2] << 4 | nibbles[1::2]
            step *= 2
            index[step - 1 :: 2 * step] = level
        page[_BITS_BYTES : PAGE_BYTES - 1] = index[:-1].tobytes()
        self._summaries[2 * number] = int(level[0])

    def _index_above(self, number: int) -> None:
        """Node 2k + 1 of the tree over pages, whose leaf 2k is page k's top, is the last byte of page k."""
        node, span = 2 * number, 1
        end = 2 * (max(self._pages) + 1)
        while True:
            node = (node | span) & ~(span << 1)
            left, right = node - span, node + span
            span <<= 1
            if node >= end and node == span - 1:
                return
            byte = int(_NIBBLE_OF_BYTE[self._summary_of(left)]) << 4 | int(_NIBBLE_OF_BYTE[self._summary_of(right)])
            if self._summaries.get(node, 0) == byte and node in self._summaries:
                return
            self._summaries[node] = byte
            holder = node >> 1
            if node < end and (byte or holder in self._pages):
                self._page(holder)[-1] = byte
                if 2 * holder not in self._summaries:
                    self._index_page(holder)

    def _summary_of(self, node: int) -> int:
        if node & 1 == 0 and node >> 1 in self._pages and node not in self._summaries:
            self._index_page(node >> 1)
        return self._summaries.get(node, 0)


def _split(start: int, end: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (page number, first bit in it, end bit in it) for a range of bits over pages of ``size``."""
    while start < end:
        number, low = divmod(start, size)
        high = min(size, low + end - start)
        yield number, low, high
        start += high - low
