"""One direction of a long line, without I/O: which packets arrive, and when.

The rule: a packet waits for those before it to be sent at the line's rate, is dropped when more than the queue holds
would wait, and arrives a fixed time after it was sent, unless it is lost on the way. Time is whatever the caller's
clock says; a caller never goes back in it.
"""

import random
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conditions:
    """How far and how good a line is, the same both ways.

    ``round_trip`` is in seconds, ``rate`` in bits a second (None is any), ``loss`` the part of the packets that is
    lost, ``queue_bytes`` how much waits at the near end.
    """

    round_trip: float
    rate: float | None = None
    loss: float = 0.0
    queue_bytes: int = 1 << 23


class Line:
    """One direction. The same ``seed`` loses the same packets."""

    def __init__(self, conditions: Conditions, *, seed: int = 0) -> None:
        self._delay = conditions.round_trip / 2
        self._seconds_a_byte = 0.0 if conditions.rate is None else 8 / conditions.rate
        self._longest_wait = conditions.queue_bytes * self._seconds_a_byte
        self._loss = conditions.loss
        self._random = random.Random(seed).random
        self._sent_until = 0.0
        self._under_way: deque[tuple[float, bytes]] = deque()
        self.carried = 0
        """Packets that arrived, or will."""
        self.dropped = 0
        """Packets for which there was no room, or that were lost."""

    def put(self, now: float, packet: bytes) -> None:
        """Take a packet in at the near end."""
        begin = self._sent_until
        if begin < now:
            begin = now
        elif begin - now > self._longest_wait:
            self.dropped += 1
            return
        self._sent_until = begin = begin + len(packet) * self._seconds_a_byte
        if self._loss and self._random() < self._loss:
            self.dropped += 1
            return
        self.carried += 1
        self._under_way.append((begin + self._delay, packet))

    @property
    def next_arrival(self) -> float | None:
        """When the next packet arrives, None while none is under way."""
        return self._under_way[0][0] if self._under_way else None

    def take(self, now: float) -> bytes | None:
        """Return the next packet that has arrived at the far end, or None."""
        if self._under_way and self._under_way[0][0] <= now:
            return self._under_way.popleft()[1]
        return None
