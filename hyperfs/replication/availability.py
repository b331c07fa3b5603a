"""Which blocks of a core a peer says it has.

What a peer can make us keep is bounded, and so is what each thing it says can make us do. Pages of 8192 bits hold what
is mixed, a mark what is whole, and a few long runs stand for themselves; announcements past these bounds are ignored,
so the peer is merely asked less. The pages of all cores that are shared with one peer come out of one `PageBudget`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from hyperfs.core import bits
from hyperfs.core.proofs import MAX_LENGTH

PAGE_BITS: Final = 8192
MAX_PAGES: Final = 16384
"""Pages kept for one connection: 134 million blocks."""
MAX_MIXED_PAGES: Final = 4096
"""Of these, pages that are neither empty nor whole: at most 4 MiB."""
LONG_RUN: Final = 64 * PAGE_BITS
MAX_LONG_RUNS: Final = 64

_LOOKED_RUNS: Final = 64
"""Pages, or runs, that are looked at to tell whether all is there."""
_PAGE_BYTES: Final = PAGE_BITS // 8
_PAGE_COST_BYTES: Final = 128
"""What a page takes besides its bits."""
_WHOLE: Final = b"\xff" * _PAGE_BYTES
_EMPTY: Final = bytes(_PAGE_BYTES)


class PageBudget:
    """How many pages the cores of one connection have left together."""

    __slots__ = ("mixed", "pages")

    def __init__(self) -> None:
        self.pages = MAX_PAGES
        self.mixed = MAX_MIXED_PAGES

    @property
    def size_bytes(self) -> int:
        """About what the pages take that are kept."""
        return (MAX_PAGES - self.pages) * _PAGE_COST_BYTES + (MAX_MIXED_PAGES - self.mixed) * _PAGE_BYTES


class Availability:
    """The blocks that a peer has announced, and the length of the core that it claims."""

    __slots__ = ("_budget", "_covered", "_numbers", "_pages", "_runs", "claimed_length")

    def __init__(self, budget: PageBudget | None = None) -> None:
        self._budget = budget or PageBudget()
        # the numbers of the pages, ascending; no page is empty, and None stands for a whole one
        self._numbers: list[int] = []
        self._pages: dict[int, bytearray | None] = {}
        self._runs: list[tuple[int, int]] = []
        self._covered: tuple[int, bool] | None = None
        """What `covers` said last, and of what length, since anything has changed."""
        self.claimed_length = 0
        """The highest block announced + 1: a claim, no more."""

    def add(self, start: int, end: int) -> None:
        """Note that blocks [start, end) are there. Blocks that no core can have are left out."""
        end = min(end, MAX_LENGTH)
        if end <= start:
            return
        self._covered = None
        if end > self.claimed_length:
            self.claimed_length = end
        if end - start == 1:
            self._add_one(start)
            return
        if end - start > LONG_RUN:
            self._add_run(start, end)
            return
        for number, low, high in _spans(start, end):
            self._set(number, low, high)

    def _add_one(self, block_index: int) -> None:
        """Do for one block, of which most announcements are, what `_set` does for more."""
        number, bit = divmod(block_index, PAGE_BITS)
        page = self._pages.get(number, _EMPTY)
        if isinstance(page, bytearray):
            byte = page[bit >> 3] | 128 >> (bit & 7)
            page[bit >> 3] = byte
            if byte != 0xFF or page != _WHOLE:
                return
        self._set(number, bit, bit + 1)

    def remove(self, start: int, end: int) -> None:
        """Note that blocks [start, end) are not there."""
        self._covered = None
        kept: list[tuple[int, int]] = []
        for run_start, run_end in self._runs:
            if run_start < min(start, run_end):
                kept.append((run_start, min(start, run_end)))
            if max(end, run_start) < run_end:
                kept.append((max(end, run_start), run_end))
        self._runs = kept[:MAX_LONG_RUNS]
        if end > start and self._numbers:
            self._remove_pages(start, end)
        if start < self.claimed_length <= end:
            self.claimed_length = self._last(start)

    def set_bits(self, start: int, bitfield: bytes, length: int) -> None:
        """Replace what is known of [start, start + length), a multiple of 8192 each, by ``bitfield``, high bit first.

        ``bitfield`` may be shorter than ``length``: the rest is not there.
        """
        self.remove(start, start + length)
        for offset in range(0, min(len(bitfield), length // 8), _PAGE_BYTES):
            page = bitfield[offset : offset + _PAGE_BYTES].ljust(_PAGE_BYTES, b"\x00")
            base = start + offset * 8
            if page != _EMPTY and base < MAX_LENGTH and self._put(base // PAGE_BITS, page):
                self.claimed_length = max(self.claimed_length, base + _last_set(page, PAGE_BITS) + 1)

    def clear(self) -> None:
        """Forget everything, and give the pages back."""
        self.remove(0, MAX_LENGTH)

    def has(self, block_index: int) -> bool:
        """Tell whether a block was announced."""
        page = self._pages.get(block_index // PAGE_BITS, _EMPTY)
        if page is None or page[(block_index % PAGE_BITS) >> 3] & (128 >> (block_index & 7)):
            return True
        return any(start <= block_index < end for start, end in self._runs)

    def covers(self, length: int) -> bool:
        """Tell whether all blocks below ``length`` were announced; of very many that is not looked for."""
        if self._covered is None or self._covered[0] != length:
            self._covered = (length, self._covers(length))
        return self._covered[1]

    def _covers(self, length: int) -> bool:
        position = 0
        for _ in range(_LOOKED_RUNS):
            if position >= length:
                return True
            run = self.next_run(position, length)
            if run is None or run.start > position:
                return False
            position = run.stop
        return False

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
        at = bisect_left(self._numbers, start // PAGE_BITS)
        # a page is not empty, so of all behind the first one only the next is looked at
        for number in self._numbers[at : at + 2]:
            base = number * PAGE_BITS
            low, high = max(0, start - base), min(PAGE_BITS, end - base)
            if low >= high:
                break
            page = self._pages[number]
            if page is None:
                return range(base + low, base + high)
            first = bits.first_set(page, low, high)
            if first < high:
                return range(base + first, base + bits.first_clear(page, first, high))
        return None

    def _add_run(self, start: int, end: int) -> None:
        for position, (run_start, run_end) in enumerate(self._runs):
            if start <= run_end and run_start <= end:
                self._runs[position] = (min(start, run_start), max(end, run_end))
                return
        if len(self._runs) < MAX_LONG_RUNS:
            self._runs.append((start, end))

    def _set(self, number: int, low: int, high: int) -> None:
        known = self._pages.get(number, _EMPTY)
        if known is None:
            return
        if high - low == PAGE_BITS:
            self._put(number, _WHOLE)
        elif isinstance(known, bytearray):
            bits.set_range(known, low, high)
            if known == _WHOLE:
                self._pages[number] = None
                self._budget.mixed += 1
        else:
            page = bytearray(_PAGE_BYTES)
            bits.set_range(page, low, high)
            self._put(number, page)

    def _remove_pages(self, start: int, end: int) -> None:
        first, last = start // PAGE_BITS, (end - 1) // PAGE_BITS
        begin, stop = bisect_left(self._numbers, first), bisect_right(self._numbers, last)
        kept = []
        for number in self._numbers[begin:stop]:
            low, high = max(0, start - number * PAGE_BITS), min(PAGE_BITS, end - number * PAGE_BITS)
            page = self._pages[number]
            if high - low < PAGE_BITS:
                if page is None and self._budget.mixed > 0:
                    page = self._pages[number] = bytearray(_WHOLE)
                    self._budget.mixed -= 1
                if page is not None:
                    bits.clear_range(page, low, high)
                    if page != _EMPTY:
                        kept.append(number)
                        continue
            del self._pages[number]
            self._budget.pages += 1
            self._budget.mixed += page is not None
        self._numbers[begin:stop] = kept

    def _put(self, number: int, page: bytes | bytearray) -> bool:
        """Keep a page that is not empty, in place of what was known of it; tell whether there was room."""
        budget = self._budget
        is_new = number not in self._pages
        was_mixed = not is_new and self._pages[number] is not None
        is_mixed = page != _WHOLE
        if (is_new and budget.pages <= 0) or (is_mixed and not was_mixed and budget.mixed <= 0):
            return False
        if is_new:
            budget.pages -= 1
            self._numbers.insert(bisect_left(self._numbers, number), number)
        budget.mixed += was_mixed - is_mixed
        self._pages[number] = bytearray(page) if is_mixed else None
        return True

    def _last(self, limit: int) -> int:
        """Return the end of what is announced below ``limit``."""
        end = max((min(run_end, limit) for start, run_end in self._runs if start < limit), default=0)
        at = bisect_left(self._numbers, -(-limit // PAGE_BITS))
        for number in reversed(self._numbers[max(0, at - 2) : at]):
            base = number * PAGE_BITS
            page = self._pages[number]
            high = min(PAGE_BITS, limit - base)
            last = high - 1 if page is None else _last_set(page, high)
            if last >= 0:
                return max(end, base + last + 1)
        return end


def _last_set(page: bytes | bytearray, end: int) -> int:
    """Return the last bit of [0, end) that is 1, or -1."""
    value = int.from_bytes(page[: (end + 7) >> 3], "big") >> (-end & 7)
    return end - (value & -value).bit_length() if value else -1


def _spans(start: int, end: int) -> list[tuple[int, int, int]]:
    """Cut [start, end) at pages: (page, first bit, last bit + 1) each."""
    return [
        (page, max(0, start - page * PAGE_BITS), min(PAGE_BITS, end - page * PAGE_BITS))
        for page in range(start // PAGE_BITS, (end - 1) // PAGE_BITS + 1)
    ]
