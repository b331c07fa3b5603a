"""How long the network may keep a process from everything else it does, and one connection the others.

All connections of a `Replicator` share one pace, and each has its account with it. Whoever works on what peers sent
works in turns, and says how long each took: together they take about `TURN_SECONDS` before all other tasks have run
once, however many connections there are. A turn is short as long as the work in it is; to see to that is its maker's
part.

Work is *useful* when it brings what was asked for here. A connection that makes more of other work than it is useful
has, while anything useful goes on and together with all others of its kind, only a small share of the time; answering
requests for blocks is not counted.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

TURN_SECONDS: Final = 0.004
OTHER_SHARE: Final = 0.04
"""How long other work may take beside useful work, as a part of that."""
_OTHER_RATE: Final = 0.01
"""And besides, as a part of all time that passes, however long useful work takes."""
_USEFUL_RATE: Final = 0.01
"""Useful work of less than this part of the time needs no protection."""
_WINDOW_SECONDS: Final = 0.1
"""For so long it is measured how much of it there is."""
_GRACE_SECONDS: Final = 0.01
"""What a connection may make of other work, beyond what it is useful, before it has to wait."""
_MEMORY_SECONDS: Final = 10.0
"""What it did before that counts half, and so on."""
_RESERVED_SECONDS: Final = 0.0001
_MAX_SAVED_SECONDS: Final = 0.01
_MAX_OWED_SECONDS: Final = 0.1
"""What may be saved up for other work, and what it may overdraw."""


class Pace:
    """Shared by the connections of one process; turns go to those who wait for one in the order of waiting."""

    def __init__(self) -> None:
        self._turns = trio.Lock()
        self._taken_seconds = 0.0
        self._useful_seconds = 0.0
        self._measured_since = 0.0
        self._is_useful = False
        self._allowance_seconds = 0.0
        self._allowed_at = 0.0
        self._queue = trio.Lock()

    def _charge(self, useful_seconds: float, other_seconds: float) -> None:
        """Measure how much useful work there is, and what that leaves for other work."""
        now = trio.current_time()
        self._useful_seconds += useful_seconds
        self._allow(OTHER_SHARE * useful_seconds - other_seconds)
        seconds = now - self._measured_since
        if useful_seconds and self._useful_seconds >= _USEFUL_RATE * max(seconds, _WINDOW_SECONDS):
            self._is_useful = True  # as soon as it begins
        if seconds >= _WINDOW_SECONDS:
            self._is_useful = self._useful_seconds >= _USEFUL_RATE * seconds
            self._useful_seconds = 0.0
            self._measured_since = now

    def _allow(self, seconds: float) -> None:
        now = trio.current_time()
        left_seconds = self._allowance_seconds + _OTHER_RATE * (now - self._allowed_at) + seconds
        self._allowance_seconds = max(-_MAX_OWED_SECONDS, min(left_seconds, _MAX_SAVED_SECONDS))
        self._allowed_at = now

    def _other_waits(self) -> float:
        """Return for how many seconds work that is of no use here has to wait at least."""
        now = trio.current_time()
        if not self._is_useful or now - self._measured_since > 2 * _WINDOW_SECONDS:
            return 0.0
        self._allow(0.0)
        return 0.0 if self._allowance_seconds >= 0 else TURN_SECONDS


class Account:
    """What one connection has done at a ``pace``, and may do."""

    def __init__(self, pace: Pace) -> None:
        self.waited_seconds = 0.0
        """How long it was kept waiting for the sake of others."""
        self._pace = pace
        self._useful_seconds = 0.0
        self._other_seconds = 0.0
        self._aged_at = trio.current_time()
        self._uncharged_useful = 0.0
        self._uncharged_other = 0.0
        self._began_at = 0.0

    @asynccontextmanager
    async def turn(self, *, ours: bool = False) -> AsyncGenerator[None]:
        """Work within this block, which must not wait for anything but `rest`; ``ours`` if it is not the peer's doing.

        Cancelled while waiting for its turn, nothing of the block has run.
        """
        if not ours:
            await self.admitted()
        turns = self._pace._turns
        try:
            turns.acquire_nowait()  # without a turn of the scheduler when nobody else has it
        except trio.WouldBlock:
            await turns.acquire()
        try:
            self._began_at = time.perf_counter()
            yield
            await self.rest(useful=ours)
        finally:
            self._charge()
            turns.release()

    async def rest(self, *, useful: bool = False) -> None:
        """Let all other tasks run, if the turns since they last did have been long enough together.

        ``useful`` tells what was done since the last time.
        """
        now = time.perf_counter()
        self._count(now - self._began_at, useful=useful)
        self._began_at = now
        if self._pace._taken_seconds >= TURN_SECONDS:
            await self._let_others()
            self._began_at = time.perf_counter()

    async def worked(self, seconds: float, *, useful: bool) -> None:
        """Count work that was done without having a turn, since it may wait for something else; rest as in a turn."""
        self._count(seconds, useful=useful)
        self._charge()
        if self._pace._taken_seconds >= TURN_SECONDS:
            await self._let_others()

    def _count(self, seconds: float, *, useful: bool) -> None:
        self._pace._taken_seconds += seconds
        if useful:
            self._uncharged_useful += seconds
        else:
            self._uncharged_other += seconds

    def _charge(self) -> None:
        self._useful_seconds += self._uncharged_useful
        self._other_seconds += self._uncharged_other
        self._pace._charge(self._uncharged_useful, self._uncharged_other)
        self._uncharged_useful = self._uncharged_other = 0.0

    async def _let_others(self) -> None:
        self._charge()
        await trio.lowlevel.checkpoint()
        self._pace._taken_seconds = 0.0

    def take_waited(self) -> float:
        """Return `waited_seconds`, and begin anew with it."""
        seconds, self.waited_seconds = self.waited_seconds, 0.0
        return seconds

    async def admitted(self) -> None:
        """Return once this connection may have work done of which only the other side has any use."""
        if self._is_useful() or not self._pace._other_waits():
            return
        began_at = trio.current_time()
        async with self._pace._queue:
            while True:
                seconds = self._pace._other_waits()
                if not seconds:
                    break
                await trio.sleep(seconds)
            # the next one in the queue is not to come in before this one's work has begun
            self._pace._allow(-_RESERVED_SECONDS)
        self.waited_seconds += trio.current_time() - began_at

    def _is_useful(self) -> bool:
        now = trio.current_time()
        if now - self._aged_at >= _MEMORY_SECONDS:
            self._aged_at = now
            self._useful_seconds /= 2
            self._other_seconds /= 2
        return self._other_seconds <= self._useful_seconds + _GRACE_SECONDS
