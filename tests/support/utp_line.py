"""Two uTP endpoints and a line between them that loses, doubles, delays and reorders, on a clock of its own.

The one rule: everything that happens follows from the seed.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.timers import Timers
from hyperfs.swarm.utp.connection import State
from hyperfs.swarm.utp.endpoint import UtpEndpoint, UtpLink

HOME = Address("10.0.0.1", 1)
AWAY = Address("10.0.0.2", 2)


@dataclass
class Faults:
    """How a line behaves: shares of datagrams, seconds, and bytes a second of each direction (0: any number)."""

    lost: float = 0.0
    doubled: float = 0.0
    delay: float = 0.02
    jitter: float = 0.0
    rate: float = 0.0
    queue_seconds: float = 0.5
    """A datagram that would have to wait longer is lost."""


class Line:
    """The line, with ``home`` and ``away`` at its ends."""

    def __init__(self, seed: int = 0, faults: Faults | None = None) -> None:
        self.now = 1000.0
        self.faults = faults or Faults()
        self.sent: list[tuple[Address, bytes]] = []
        """Every datagram that was sent, with whom it was sent to."""
        self.drop: Callable[[Address, bytes], bool] = lambda to, data: False
        """Whether a datagram is lost besides."""
        self.longest_queue = 0.0
        self._rng = random.Random(seed)
        self._order = count()
        self._under_way: list[tuple[float, int, Address, bytes]] = []
        self._free_at = {HOME: 0.0, AWAY: 0.0}
        self._timers = Timers(lambda: self.now)
        self.home = UtpEndpoint(self._timers, lambda data, to: self._send(data, to), rng=random.Random(seed + 1))
        self.away = UtpEndpoint(self._timers, lambda data, to: self._send(data, to), rng=random.Random(seed + 2))

    def connect(self) -> tuple[UtpLink, UtpLink]:
        """Return one connection that ``home`` began, at both its ends, once ``home`` has said a byte."""
        accepted: list[UtpLink] = []
        self.away.on_accept = accepted.append
        link = self.home.connect(AWAY, lambda: None)
        assert link is not None
        self.run_until(lambda: link.connection.state is State.CONNECTED)
        link.write(b"!")
        self.run_until(lambda: bool(accepted))
        assert accepted[0].read(1) == b"!"
        return link, accepted[0]

    def run_until(self, condition: Callable[[], bool], *, seconds: float = 600.0) -> None:
        """Let time pass until ``condition`` holds. Fails when it does not within so many seconds of the line's."""
        end = self.now + seconds
        while not condition():
            assert self._step(end), f"nothing more happens, or not within {seconds} s"

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._step(end):
            pass
        self.now = end

    def _step(self, end: float) -> bool:
        times = [one for one in (self._timers.next_at, self._under_way[0][0] if self._under_way else None) if one]
        if not times or min(times) > end:
            return False
        self.now = max(self.now, min(times))
        self._timers.run_due()
        while self._under_way and self._under_way[0][0] <= self.now:
            _, _, to, data = heapq.heappop(self._under_way)
            endpoint, source = (self.home, AWAY) if to == HOME else (self.away, HOME)
            endpoint.receive(data, source)
        self.home.flush()
        self.away.flush()
        return True

    def _send(self, data: bytes, to: Address) -> None:
        self.sent.append((to, data))
        faults = self.faults
        if self.drop(to, data) or self._rng.random() < faults.lost:
            return
        starts = self.now
        if faults.rate:
            starts = max(self.now, self._free_at[to])
            if starts - self.now > faults.queue_seconds:
                return
            self.longest_queue = max(self.longest_queue, starts - self.now)
            self._free_at[to] = starts + len(data) / faults.rate
        for _ in range(1 + (self._rng.random() < faults.doubled)):
            arrives = starts + faults.delay + self._rng.random() * faults.jitter
            heapq.heappush(self._under_way, (arrives, next(self._order), to, data))
