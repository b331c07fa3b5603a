"""How long the network may keep a process from everything else it does.

All connections of a `Replicator` share one pace. Whoever works on what peers sent works in turns, and says how long
each took: together they take about `TURN_SECONDS` before all other tasks have run once, however many connections there
are. A turn is short as long as the work in it is; to see to that is its maker's part.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

TURN_SECONDS: Final = 0.004


class Pace:
    """Shared by the connections of one process; turns go to those who wait for one in the order of waiting."""

    def __init__(self) -> None:
        self._turns = trio.Lock()
        self._began_at = 0.0
        self._taken_seconds = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Work within this block, which must not wait for anything but `rest`.

        Cancelled while waiting for its turn, nothing of the block has run.
        """
        try:
            self._turns.acquire_nowait()  # without a turn of the scheduler when nobody else has it
        except trio.WouldBlock:
            await self._turns.acquire()
        try:
            self._began_at = time.perf_counter()
            yield
            await self.rest()
        finally:
            self._turns.release()

    async def rest(self) -> None:
        """Let all other tasks run, if the turns since they last did have been long enough together."""
        now = time.perf_counter()
        await self.worked(now - self._began_at)
        self._began_at = time.perf_counter()

    async def worked(self, seconds: float) -> None:
        """Count work that was done without having a turn, since it may wait for something else; rest as in a turn."""
        self._taken_seconds += seconds
        if self._taken_seconds >= TURN_SECONDS:
            await trio.lowlevel.checkpoint()
            self._taken_seconds = 0.0
