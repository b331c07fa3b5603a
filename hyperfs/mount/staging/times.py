"""The times of changes.

The rule: within a mount time never goes backward, neither with the system's clock nor between the two clocks that there
are: a write is dated here, a `touch` by the kernel, from a clock of its own that stands still between two of its ticks.
"""

import time
from collections.abc import Callable

from hyperfs.mount.staging.nodes import MILLISECOND_NS

Clock = Callable[[], int]
"""Returns the time in ns since 1970."""

_CLOCK_REALTIME_COARSE = 5
_TICK_NS = 20 * MILLISECOND_NS
"""The kernel's ticks are no longer than half of this."""


def kernel_time() -> int:
    """Return the time that the kernel gives to what is changed now."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


class Times:
    """Dates the changes of one mount."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest = 0

    def now(self) -> int:
        """Return the time of a change, in ns: as exactly as the format keeps it, and no earlier than the last one."""
        now = self._clock()
        self._latest = max(self._latest, now - now % MILLISECOND_NS)
        return self._latest

    def was_set(self, when: int) -> None:
        """Note that something was given a time, in ns: if that is now, what comes next is no earlier."""
        if self.now() < when <= self._clock() + _TICK_NS:
            self._latest = when
