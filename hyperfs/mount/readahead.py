"""How much of an open file to fetch before it is asked for.

The rule: nothing ahead of a reader who jumps about; ahead of one who reads on, a window that grows with each read, so
that its end is soon, and stays, further away than a far peer's answer takes. Pure: it plans, others fetch.
"""

FIRST_WINDOW = 128 * 1024
LARGEST_WINDOW = 16 * 1024 * 1024
_GROWTH = 4
"""Each of the first reads takes a round trip, so that many small steps would take long: five reads on it is largest."""
_REORDERED = 2 * 1024 * 1024
"""The kernel sends the requests of its own readahead side by side, so they come a little out of order."""


class Readahead:
    """The plan for one open file. Positions and sizes in bytes."""

    def __init__(self) -> None:
        self._expected = 0
        self._asked_to = 0
        self._window = 0

    def jumps(self, position: int) -> bool:
        """Tell whether a read at ``position`` is elsewhere: what was planned before is of no use to its reader."""
        return not self._expected - _REORDERED <= position <= self._expected + _REORDERED

    @property
    def reads_on(self) -> bool:
        """Whether the last read went on where others had ended."""
        return self._window > 0

    def plan(self, position: int, size: int, file_size: int) -> tuple[int, int] | None:
        """Note a read; return (position, size) of what to fetch beyond it now, or None."""
        end = position + size
        if self.jumps(position):
            self._window = 0
            self._expected = self._asked_to = end
            return None
        if position == 0 == self._expected:
            self._expected = self._asked_to = end
            return None
        if end <= self._expected:
            return None
        self._window = min(LARGEST_WINDOW, max(FIRST_WINDOW, _GROWTH * self._window))
        self._expected = end
        start = max(self._asked_to, end)
        target = min(end + self._window, file_size)
        if (target - start < self._window // 4 and target < file_size) or start >= target:
            return None
        self._asked_to = target
        return start, target - start

    def demote(self) -> None:
        """Begin small again: the reader may be gone."""
        self._window = 0
        self._asked_to = self._expected
