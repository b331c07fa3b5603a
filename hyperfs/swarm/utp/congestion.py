"""How much may be under way on one connection: LEDBAT (RFC 6817) as libutp has it, and when to send again.

The rule: the window grows while packets take little longer than the fastest ever did, and shrinks when they queue up
for more than 100 ms on their way, so that a transfer yields to whatever else uses the line.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from hyperfs.swarm.utp.packets import MICROSECONDS_MASK

TARGET_DELAY_SECONDS: Final = 0.1
MAX_WINDOW_BYTES: Final = 1 << 20
_GAIN_BYTES: Final = 3000
"""By how much the window grows in a round trip at most, once it has met its limit."""
_SHRINK_SECONDS: Final = 0.1
"""How long after one loss the next counts."""
_UNUSED_SECONDS: Final = 1.0
"""A window that was not filled for so long grows no more."""
_FIRST_TIMEOUT_SECONDS: Final = 1.0
_LEAST_TIMEOUT_SECONDS: Final = 0.5
_MOST_TIMEOUT_SECONDS: Final = 4.0
_MOST_TIMEOUTS: Final = 4
"""Of which each doubles the time-out."""
_BASE_MINUTES: Final = 13
_DELAY_SAMPLES: Final = 3


class Delays:
    """How long packets queue on their way, by samples of two clocks that agree on nothing but their speed."""

    def __init__(self) -> None:
        self._origin: int | None = None
        self._minutes: deque[float] = deque(maxlen=_BASE_MINUTES)
        self._minute_ends = 0.0
        self._latest: deque[float] = deque(maxlen=_DELAY_SAMPLES)

    def add(self, microseconds: int, now: float) -> None:
        """Take a sample: receiver's clock less sender's, modulo 2^32 microseconds."""
        if self._origin is None:
            self._origin = microseconds
        half = (MICROSECONDS_MASK + 1) // 2
        seconds = (((microseconds - self._origin + half) & MICROSECONDS_MASK) - half) / 1e6
        if not self._minutes or now >= self._minute_ends:
            self._minutes.append(seconds)
            self._minute_ends = now + 60.0
        else:
            self._minutes[-1] = min(self._minutes[-1], seconds)
        self._latest.append(seconds)

    @property
    def queued_seconds(self) -> float:
        """The least of the last samples, less the least of the last minutes."""
        return min(self._latest) - min(self._minutes) if self._latest else 0.0


class Congestion:
    """The congestion window of one connection whose packets carry ``packet_bytes``, and its time-out."""

    def __init__(self, packet_bytes: int) -> None:
        self.window_bytes = float(2 * packet_bytes)
        self._timeout_seconds = _FIRST_TIMEOUT_SECONDS
        self._timeouts = 0
        self._packet_bytes = packet_bytes
        self._delays = Delays()
        self._slow_start = True
        self._threshold = float(MAX_WINDOW_BYTES)
        self._round_trip: float | None = None
        self._variance = 0.0
        self._shrunk_at = float("-inf")
        self._filled_at = float("-inf")

    @property
    def timeout_seconds(self) -> float:
        """For how long to wait for an acknowledgement; twice as long after each time that none came."""
        return min(self._timeout_seconds * (1 << self._timeouts), _MOST_TIMEOUT_SECONDS)

    def filled(self, now: float) -> None:
        """Note that more would have been sent, had the window allowed it."""
        self._filled_at = now

    def measured(self, microseconds: int, now: float) -> None:
        """Take what the other side says of how long our packet took; see `Delays.add`."""
        self._delays.add(microseconds, now)

    def acknowledged(self, size: int, round_trip: float | None, now: float) -> None:
        """Note that ``size`` bytes have arrived; ``round_trip`` is what one took that was sent once, in seconds."""
        self._timeouts = 0
        if round_trip is not None:
            self._time(round_trip)
        if not size or now - self._filled_at > _UNUSED_SECONDS:
            return
        queued = self._delays.queued_seconds
        if round_trip is not None:
            queued = min(queued, round_trip)
        share = min(size, self.window_bytes) / max(size, self.window_bytes)
        if self._slow_start and queued > 0.9 * TARGET_DELAY_SECONDS:
            self._slow_start = False
            self._threshold = self.window_bytes
        if self._slow_start:
            self.window_bytes += size
            self._slow_start = self.window_bytes < self._threshold
        else:
            self.window_bytes += _GAIN_BYTES * share * (TARGET_DELAY_SECONDS - queued) / TARGET_DELAY_SECONDS
        self.window_bytes = min(max(self.window_bytes, self._packet_bytes), MAX_WINDOW_BYTES)

    def lost(self, now: float) -> None:
        """Note that a packet is lost, though later ones came."""
        if now - self._shrunk_at < max(_SHRINK_SECONDS, self._round_trip or 0.0):
            return
        self._shrunk_at = now
        self._slow_start = False
        self.window_bytes = max(self.window_bytes / 2, 2 * self._packet_bytes)
        self._threshold = self.window_bytes

    def timed_out(self) -> None:
        """Note that nothing came for a whole time-out."""
        self._threshold = max(self.window_bytes / 2, 2 * self._packet_bytes)
        self._slow_start = True
        self.window_bytes = float(self._packet_bytes)
        self._timeouts = min(self._timeouts + 1, _MOST_TIMEOUTS)

    def _time(self, round_trip: float) -> None:
        if self._round_trip is None:
            self._round_trip, self._variance = round_trip, round_trip / 2
        else:
            self._variance += (abs(self._round_trip - round_trip) - self._variance) / 4
            self._round_trip += (round_trip - self._round_trip) / 8
        self._timeout_seconds = max(self._round_trip + 4 * self._variance, _LEAST_TIMEOUT_SECONDS)
