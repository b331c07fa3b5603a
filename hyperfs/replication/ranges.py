"""Sets of blocks as ranges.

Ranges are disjoint, not empty, and in ascending order; finding, adding and taking out takes a search, however many
there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """A set of block numbers."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[range] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for blocks in ranges:
            self.add(blocks.start, blocks.stop)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Ranges:
        """Return the set of ``numbers``, given in any order."""
        made = cls()
        for number in sorted(numbers):
            if made._stops and made._stops[-1] >= number:
                made._stops[-1] = number + 1
            else:
                made._starts.append(number)
                made._stops.append(number + 1)
        return made

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        """Return how many ranges there are."""
        return len(self._starts)

    def __iter__(self) -> Iterator[range]:
        return map(range, self._starts, self._stops)

    def first_from(self, position: int) -> range | None:
        """Return the first range that ends behind ``position``, without what lies before that, or None."""
        at = bisect_right(self._stops, position)
        if at == len(self._starts):
            return None
        return range(max(position, self._starts[at]), self._stops[at])

    def meets(self, start: int, stop: int) -> bool:
        """Tell whether anything of [start, stop) is in the set."""
        at = bisect_right(self._stops, start)
        return at < len(self._starts) and self._starts[at] < stop

    def add(self, start: int, stop: int) -> None:
        """Put [start, stop) into the set."""
        if stop <= start:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def remove(self, start: int, stop: int) -> None:
        """Take [start, stop) out of the set."""
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if first >= last or stop <= start:
            return
        head, tail = self._starts[first], self._stops[last - 1]
        kept = [(low, high) for low, high in ((head, start), (stop, tail)) if low < high]
        self._starts[first:last] = [low for low, _ in kept]
        self._stops[first:last] = [high for _, high in kept]

    def clear(self) -> None:
        """Take everything out."""
        self._starts.clear()
        self._stops.clear()
