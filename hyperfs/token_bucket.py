"""A rate that may be saved up for a while."""

from __future__ import annotations


class TokenBucket:
    """Allows ``rate`` a second, and what was not used of it for ``burst_seconds`` at most. ``now`` is in seconds."""

    __slots__ = ("_most", "_rate", "_tokens", "at")

    def __init__(self, rate: float, burst_seconds: float, now: float) -> None:
        self._rate = rate
        self._most = self._tokens = rate * burst_seconds
        self.at = now
        """When one was asked for last."""

    def has(self, now: float) -> bool:
        """Tell whether one more fits at the time ``now``."""
        return self._tokens + (now - self.at) * self._rate >= 1

    def take(self, now: float) -> bool:
        """Tell whether one more fits at the time ``now``, and count it then."""
        self._tokens = min(self._most, self._tokens + (now - self.at) * self._rate)
        self.at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
