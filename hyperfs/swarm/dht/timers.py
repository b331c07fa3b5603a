"""Calls that are due at a time, for whoever says what time it is: a socket's loop, or a simulation.

The one rule: nothing is called from within `Timers.at` or `Timers.after`; `run_due` alone calls.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timer:
    """One call that is due. Made by `Timers`."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Have it not happen. Afterwards, or a second time, nothing comes of it."""
        self._call = None

    @property
    def is_pending(self) -> bool:
        """Whether it is still to come."""
        return self._call is not None

    def fire(self) -> None:
        """Do what was due, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Timers:
    """Calls in the order in which they are due, by the clock ``now`` (seconds)."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Have ``call`` called at the time ``when``, or right after it."""
        timer = Timer(call)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Have ``call`` called in ``seconds``."""
        return self.at(self.now() + seconds, call)

    @property
    def next_at(self) -> float | None:
        """When something is due next; None when nothing is."""
        while self._heap and not self._heap[0][2].is_pending:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self) -> None:
        """Call what is due by now."""
        now = self.now()
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2].fire()
