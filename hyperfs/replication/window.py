"""How many requests to have under way at a peer: as many as bandwidth times delay, measured, and not many more.

The window is what the peer delivered a second, as measured between asking and being answered, times the shortest delay
seen, twice over (so that it doubles each round trip until the line is full), and 50 ms of work on top (so that a near
peer's answers can be handled in batches).

A window that is twice what the line holds makes a queue, and delays then count that queue too. So every 10 s the window
is a quarter for one round trip, and the delay is measured anew: else it would grow with its own queue without end.

What was delivered while the window was not full says nothing of the line, so it never makes the window smaller.

Before anything is measured the window counts in bytes: of small blocks more are asked for at once than of large ones.
"""

from __future__ import annotations

import math
from typing import Final

INITIAL_REQUESTS: Final = 16
INITIAL_BYTES: Final = 128 << 10
"""The first window, where that makes more requests than `INITIAL_REQUESTS`."""
MAX_INITIAL_REQUESTS: Final = 1024
MIN_REQUESTS: Final = 2
MAX_REQUESTS: Final = 4096
MAX_BYTES: Final = 32 << 20
LONGEST_TRIP_TIMES: Final = 4
LONGEST_TRIP_SECONDS: Final = 0.25
"""A round trip is taken to be no longer than so many times what the handshake took, and so long besides."""
_SLACK_SECONDS: Final = 0.05
_MEMORY_SECONDS: Final = 10.0
_RATE_MEMORY_SECONDS: Final = 1.0


class Window:
    """The measured line to one peer, for one core. Times are trio's clock in seconds."""

    __slots__ = (
        "_block_bytes",
        "_full",
        "_initial",
        "_measured",
        "_previous_rate",
        "_probing_since",
        "_rate",
        "_rate_since",
        "_trip",
        "_trip_since",
        "delivered",
        "latency",
        "longest_trip",
        "most_initial",
    )

    def __init__(self) -> None:
        self.delivered = 0
        """Blocks answered so far; noted with each request to measure what came between asking and answer."""
        self.most_initial = MAX_INITIAL_REQUESTS
        """The first window, at most, where more is known of the line."""
        self.longest_trip = math.inf
        """What is not believed to be exceeded by a round trip: over a slow line the first blocks of a window that is
        too large already wait for each other, also while it is a quarter."""
        self.restart()

    def restart(self) -> None:
        """Forget what was measured of the line."""
        self.latency = 0.0
        """Seconds that an answer takes, smoothed, queueing included; 0 before the first."""
        self._initial = INITIAL_REQUESTS
        self._block_bytes = 0.0
        self._rate = self._previous_rate = 0.0
        self._rate_since = 0.0
        self._full = False
        self._measured = False
        self._trip = 0.0
        self._trip_since = 0.0
        self._probing_since: float | None = None

    @property
    def round_trip(self) -> float | None:
        """The shortest delay of the last 10 s, None before the first answer."""
        return self._trip or None

    @property
    def size(self) -> int:
        """How many requests may be under way."""
        if not self._trip:
            return self._initial
        wanted = int(max(self._rate, self._previous_rate) * (2 * self._trip + _SLACK_SECONDS))
        if not self._measured:
            wanted = max(wanted, self._initial)
        if self._probing_since is not None:
            wanted //= 4
        return max(MIN_REQUESTS, min(wanted, MAX_REQUESTS, int(MAX_BYTES / max(1.0, self._block_bytes))))

    def delay(self, queued: int) -> float | None:
        """Return how long an answer is going to take behind ``queued`` others, None before the first one came."""
        if not self._trip:
            return None
        return self._trip + self.seconds_for(queued + 1)

    def seconds_for(self, blocks: int) -> float:
        """Return how long the line takes for so many, 0 before it is measured."""
        rate = max(self._rate, self._previous_rate)
        return blocks / rate if rate else 0.0

    def brings(self, seconds: float) -> int:
        """Return how many blocks come in so long, 0 before that is measured."""
        return int(max(self._rate, self._previous_rate) * seconds)

    def expect(self, block_bytes: float) -> None:
        """Note how large the core's blocks are on average, as far as that is known before any came."""
        if not self._measured:
            fitting = int(INITIAL_BYTES / max(1.0, block_bytes))
            self._initial = min(self.most_initial, max(INITIAL_REQUESTS, min(fitting, MAX_INITIAL_REQUESTS)))

    def note_full(self) -> None:
        """Note that more would be asked for, were the window larger."""
        self._full = True

    def answered(self, count: int, size_bytes: int, asked_at: float, delivered_at_asking: int, now: float) -> None:
        """Note ``count`` answers, ``size_bytes`` together; the last was asked at ``asked_at``.

        ``delivered_at_asking`` is what `delivered` was then.
        """
        self.delivered += count
        self._block_bytes += (size_bytes / count - self._block_bytes) * (0.2 if self._block_bytes else 1.0)
        delay = max(now - asked_at, 1e-6)
        self.latency += (delay - self.latency) * (0.2 if self.latency else 1.0)
        self._measure_trip(delay, asked_at, now)
        if now - self._rate_since > max(_RATE_MEMORY_SECONDS, 4 * self._trip):
            if self._full and self._rate_since:
                self._previous_rate, self._rate, self._measured = self._rate, 0.0, True
            self._full = False
            self._rate_since = now
        self._rate = max(self._rate, (self.delivered - delivered_at_asking) / delay)

    def _measure_trip(self, delay: float, asked_at: float, now: float) -> None:
        delay = min(delay, self.longest_trip)
        if self._probing_since is not None:
            if asked_at >= self._probing_since:
                self._trip, self._trip_since, self._probing_since = delay, now, None
            return
        if not self._trip or delay < self._trip:
            self._trip = delay
        if not self._trip_since:
            self._trip_since = now
        elif now - self._trip_since > _MEMORY_SECONDS:
            self._probing_since = now
