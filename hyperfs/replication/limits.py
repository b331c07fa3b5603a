"""How many bytes a second all connections together may send, and receive.

Who wants to send or has received something takes turns in the order of asking, each for one piece. The connections of
one host take turns among themselves before that, so that all hosts have equal shares. What was not used is saved up for
a tenth of a second at most, and a piece is small, so over ten seconds the rate holds within a few hundredths. What is
very small, such as requests, counts but does not wait unless there was very much of it: what is received may come in
nothing else.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakValueDictionary

import trio

SMALL_BYTES: Final = 4096
SMALL_SECONDS: Final = 0.25
"""What is so small does not wait as long as less than what takes so long was let through before its time."""
STRANGERS_PART: Final = 16
_PIECES_A_SECOND: Final = 20
_MIN_PIECE_BYTES: Final = 8192
_SAVED_SECONDS: Final = 0.1


class RateLimit:
    """One direction's. Bytes a second; 0 is no limit."""

    def __init__(self) -> None:
        self._rate = 0
        self._owed_bytes = 0.0
        """What was let through before its time; below 0 what is saved up."""
        self._reckoned_at = 0.0
        self._turns = trio.Lock()
        self._turns_of_host: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._changed = trio.Event()

    @property
    def rate(self) -> int:
        """The limit; setting it counts at once, also for who waits."""
        return self._rate

    @rate.setter
    def rate(self, bytes_a_second: int) -> None:
        self._rate = bytes_a_second
        self._owed_bytes = 0.0
        self._reckoned_at = trio.current_time()
        self._changed.set()
        self._changed = trio.Event()

    def piece(self, most: int) -> int:
        """Return how many bytes to take at one time, ``most`` where there is no limit."""
        return min(most, max(_MIN_PIECE_BYTES, self._rate // _PIECES_A_SECOND)) if self._rate else most

    async def take(self, size_bytes: int, host: str = "") -> float:
        """Wait until ``size_bytes`` from or to ``host`` may go; return for how many seconds.

        Cancelled, they do not count.
        """
        if not self._rate:
            return 0.0
        began_at = trio.current_time()
        if size_bytes > SMALL_BYTES or self._wait_seconds() > SMALL_SECONDS:
            turns_of_host = self._turns_of_host.get(host)
            if turns_of_host is None:
                turns_of_host = self._turns_of_host[host] = trio.Lock()
            async with turns_of_host, self._turns:
                while (seconds := self._wait_seconds()) > 0:
                    with trio.move_on_after(seconds):
                        await self._changed.wait()
        self._owed_bytes += size_bytes
        return trio.current_time() - began_at

    def _wait_seconds(self) -> float:
        now = trio.current_time()
        if not self._rate:
            self._owed_bytes = 0.0
            return 0.0
        paid = (now - self._reckoned_at) * self._rate
        self._owed_bytes = max(-_SAVED_SECONDS * self._rate, self._owed_bytes - paid)
        self._reckoned_at = now
        # a part of a byte may take less time than a clock has digits for
        return self._owed_bytes / self._rate if self._owed_bytes > 1 else 0.0


class Limits:
    """Both directions'."""

    def __init__(self) -> None:
        self.up = RateLimit()
        self.down = RateLimit()
        self._up_to_strangers = RateLimit()
        self._down_from_strangers = RateLimit()

    async def sending(self, size_bytes: int, host: str, *, to_stranger: bool) -> float:
        """Wait until ``size_bytes`` may be sent to ``host``; return for how many seconds. As `received` otherwise."""
        return await _take(self.up, self._up_to_strangers, size_bytes, host, of_stranger=to_stranger)

    async def received(self, size_bytes: int, host: str, *, by_stranger: bool) -> float:
        """Wait until more than ``size_bytes``, which came from ``host``, may be received; return for how many seconds.

        Strangers, who have shown to know no key, have `STRANGERS_PART` of the limit together: each could otherwise have
        as much of it as an honest peer, by sending what is of no use. Cancelled, the bytes do not count.
        """
        return await _take(self.down, self._down_from_strangers, size_bytes, host, of_stranger=by_stranger)


async def _take(limit: RateLimit, of_strangers: RateLimit, size_bytes: int, host: str, *, of_stranger: bool) -> float:
    part = max(1, limit.rate // STRANGERS_PART) if limit.rate else 0
    if of_strangers.rate != part:
        of_strangers.rate = part
    waited = await of_strangers.take(size_bytes, host) if of_stranger else 0.0
    return waited + await limit.take(size_bytes, host)
