"""Which blocks of a core a peer says it has.

The one rule: what a peer can make us keep is bounded. Pages of 8192 bits hold what is mixed, a mark what is whole, and
a few long runs stand for themselves; announcements past these bounds are ignored, so the peer is merely asked less.
"""

from __future__ import annotations

from typing import Final

from bitarray import bitarray

PAGE_BITS: Final = 8192
MAX_PAGES: Final = 16384
"""Pages kept for one peer and core: 134 million blocks, at most 16 MiB."""
MAX_MIXED_PAGES: Final = 4096
"""Of these, pages that are neither empty nor whole: at most 4 MiB."""
LONG_RUN: Final = 64 * PAGE_BITS
MAX_LONG_RUNS: Final = 64


class Availability:
    """The blocks that a peer has announced, and the length of the core that it claims."""

    __slots__ = ("_mixed", "_pages", "_runs", "claimed_length")

    def __init__(self) -> None:
        self._pages: dict[int, bitarray | None] = {}
        self._mixed = 0
        self._runs: list[tuple[int, int]] = []
        self.claimed_length = 0
        """The highest block announced + 1: a claim, no more."""

    def add(self, start: int, end: int) -> None:
        """Note that blocks [start, end) are there."""
        if end <= start:
            return
        self.claimed_length = max(self.claimed_length, end)
        if end - start > LONG_RUN:
            self._add_run(start, end)
            return
        for page, low, high in _spans(start, end):
            self._fill(page, low, high, value=True)

    def remove(self, start: int, end: int) -> None:
        """Note that blocks [start, end) are not there."""
        kept: list[tuple[int, int]] = []
        for run_start, run_end in self._runs:
            if run_start < min(start, run_end):
                kept.append((run_start, min(start, run_end)))
            if max(end, run_start) < run_end:
                kept.append((max(end, run_start), run_end))
        self._runs = kept[:MAX_LONG_RUNS]
        first, last = start // PAGE_BITS, (max(start, end - 1)) // PAGE_BITS
        pages = [page for page in self._pages if first <= page <= last]
        for page in pages:
            base = page * PAGE_BITS
            self._fill(page, max(0, start - base), min(PAGE_BITS, end - base), value=False)
        if start < self.claimed_length <= end:
            self.claimed_length = self._last(start)

    def set_bits(self, start: int, bits: bytes, length: int) -> None:
        """Replace what is known of [start, start + length), a multiple of 8192 each, by ``bits``, high bit first.

        ``bits`` may be shorter than ``length``: the rest is not there.
        """
        self.remove(start, start + length)
        page_bytes = PAGE_BITS // 8
        for offset in range(0, min(len(bits), length // 8), page_bytes):
            chunk = bits[offset : min(offset + page_bytes, length // 8)]
            if not any(chunk):
                continue
            page_bits = bitarray(endian="big")
            page_bits.frombytes(bytes(chunk))
            if len(page_bits) < PAGE_BITS:
                page_bits.extend(bitarray(PAGE_BITS - len(page_bits)))
            base = start + offset * 8
            if self._put(base // PAGE_BITS, page_bits):
                self.claimed_length = max(self.claimed_length, base + page_bits.find(1, right=True) + 1)

    def has(self, block_index: int) -> bool:
        """Tell whether a block was announced."""
        page = block_index // PAGE_BITS
        if page in self._pages:
            bits = self._pages[page]
            if bits is None or bits[block_index % PAGE_BITS]:
                return True
        return any(start <= block_index < end for start, end in self._runs)

    def next_run(self, start: int, end: int) -> range | None:
        """Return the first run of announced blocks within [start, end); it may be cut at a page's end."""
        end = min(end, self.claimed_length)
        if start >= end:
            return None
        found = self._next_page_run(start, end)
        for run_start, run_end in self._runs:
            low, high = max(start, run_start), min(end, run_end)
            if low < high and (found is None or low < found.start):
                found = range(low, high)
        return found

    def _next_page_run(self, start: int, end: int) -> range | None:
        if not self._pages:
            return None
        page = start // PAGE_BITS
        last = (end - 1) // PAGE_BITS
        if last - page > len(self._pages):
            candidates = sorted(candidate for candidate in self._pages if page <= candidate <= last)
        else:
            candidates = [candidate for candidate in range(page, last + 1) if candidate in self._pages]
        for candidate in candidates:
            base = candidate * PAGE_BITS
            low, high = max(0, start - base), min(PAGE_BITS, end - base)
            bits = self._pages[candidate]
            if bits is None:
                return range(base + low, base + high)
            first = bits.find(1, low, high)
            if first >= 0:
                stop = bits.find(0, first, high)
                return range(base + first, base + (stop if stop >= 0 else high))
        return None

    def _add_run(self, start: int, end: int) -> None:
        for position, (run_start, run_end) in enumerate(self._runs):
            if start <= run_end and run_start <= end:
                self._runs[position] = (min(start, run_start), max(end, run_end))
                return
        if len(self._runs) < MAX_LONG_RUNS:
            self._runs.append((start, end))

    def _fill(self, page: int, low: int, high: int, *, value: bool) -> None:
        known = page in self._pages
        bits = self._pages.get(page)
        if known and bits is None and value:
            return
        if low == 0 and high == PAGE_BITS:
            self._discard(page)
            if value:
                self._put_whole(page)
            return
        if bits is None:
            if not known and (not value or len(self._pages) >= MAX_PAGES):
                return
            if self._mixed >= MAX_MIXED_PAGES:
                self._discard(page)
                return
            bits = bitarray(PAGE_BITS, endian="big")
            bits.setall(known)
            self._pages[page] = bits
            self._mixed += 1
        bits[low:high] = value
        if value and bits.all():
            self._pages[page] = None
            self._mixed -= 1

    def _put(self, page: int, bits: bitarray) -> bool:
        if bits.all():
            return self._put_whole(page)
        if len(self._pages) >= MAX_PAGES or self._mixed >= MAX_MIXED_PAGES:
            return False
        self._pages[page] = bits
        self._mixed += 1
        return True

    def _put_whole(self, page: int) -> bool:
        if len(self._pages) >= MAX_PAGES:
            return False
        self._pages[page] = None
        return True

    def _discard(self, page: int) -> None:
        if page in self._pages and self._pages.pop(page) is not None:
            self._mixed -= 1

    def _last(self, limit: int) -> int:
        """Return the end of what is announced below ``limit``."""
        end = max((min(run_end, limit) for start, run_end in self._runs if start < limit), default=0)
        for page in sorted((page for page in self._pages if page * PAGE_BITS < limit), reverse=True):
            base = page * PAGE_BITS
            bits = self._pages[page]
            high = min(PAGE_BITS, limit - base)
            last = high - 1 if bits is None else bits.find(1, 0, high, right=True)
            if last >= 0:
                return max(end, base + last + 1)
        return end


def _spans(start: int, end: int) -> list[tuple[int, int, int]]:
    """Cut [start, end) at pages: (page, first bit, last bit + 1) each."""
    return [
        (page, max(0, start - page * PAGE_BITS), min(PAGE_BITS, end - page * PAGE_BITS))
        for page in range(start // PAGE_BITS, (end - 1) // PAGE_BITS + 1)
    ]
