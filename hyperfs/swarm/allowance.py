"""How much is answered to addresses that may be forged, so that nobody can have us flood somebody else.

The rules: an address has proven itself once it sent something that only a receiver of ours can know: a token, or the
answer to a request. Others share one rate, and each has a small one of its own. What is over is not answered.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from hyperfs.token_bucket import TokenBucket

PROVEN_SECONDS: Final = 960.0
"""As long as what somebody announces is kept."""
MAX_HOSTS: Final = 8192


@dataclass(frozen=True, slots=True)
class Rates:
    """Answers a second; each may be saved up for ``burst_seconds``."""

    unproven_host: float = 20.0
    """to one address that has not proven itself"""
    unproven: float = 250.0
    """to all of these"""
    proven_host: float = 500.0
    """to one that has"""
    burst_seconds: float = 4.0


class Allowance:
    """Decides whether a datagram from a host is answered. Keeps at most `MAX_HOSTS` hosts of either kind."""

    def __init__(self, rates: Rates, now: float) -> None:
        self._rates = rates
        self._all = TokenBucket(rates.unproven, rates.burst_seconds, now)
        self._hosts: OrderedDict[str, TokenBucket] = OrderedDict()
        self._proven: OrderedDict[str, float] = OrderedDict()
        self._proven_hosts: OrderedDict[str, TokenBucket] = OrderedDict()
        self.refused = 0
        """How many datagrams were not answered."""

    @property
    def hosts(self) -> int:
        """How many hosts something is kept of, each counted once for every kind."""
        return len(self._hosts) + len(self._proven) + len(self._proven_hosts)

    def proven(self, host: str, now: float) -> None:
        """Note that ``host`` received something from us just now."""
        self._proven[host] = now + PROVEN_SECONDS
        self._proven.move_to_end(host)
        while len(self._proven) > MAX_HOSTS or next(iter(self._proven.values())) <= now:
            self._proven.popitem(last=False)

    def is_proven(self, host: str, now: float) -> bool:
        """Tell whether ``host`` received something from us not long ago."""
        return self._proven.get(host, 0.0) > now

    def may_answer(self, host: str, now: float) -> bool:
        """Tell whether ``host`` may be answered now, and count that."""
        proven = self.is_proven(host, now)
        if not proven and not self._all.has(now):  # a flood of forged addresses is not worth a look at each
            self.refused += 1
            return False
        rate = self._rates.proven_host if proven else self._rates.unproven_host
        of_host = self._bucket(self._proven_hosts if proven else self._hosts, host, rate, now)
        allowed = of_host.take(now) and (proven or self._all.take(now))
        self.refused += not allowed
        return allowed

    def _bucket(self, buckets: OrderedDict[str, TokenBucket], host: str, rate: float, now: float) -> TokenBucket:
        bucket = buckets.get(host)
        if bucket is None:
            bucket = buckets[host] = TokenBucket(rate, self._rates.burst_seconds, now)
            # One that was left alone for so long is full again, which is what a new one would be.
            while len(buckets) > MAX_HOSTS or next(iter(buckets.values())).at < now - self._rates.burst_seconds:
                buckets.popitem(last=False)
        else:
            buckets.move_to_end(host)
        return bucket
