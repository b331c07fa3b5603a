"""Blocks that a program wants to have here, whether or not anybody reads them."""

from collections.abc import Generator
from typing import Any

import trio

from hyperfs.errors import BlockNotAvailable, Closed, short
from hyperfs.replication.demand import Demand
from hyperfs.replication.exchange import Exchange


class Download:
    """What `OpenCore.download` returned: ``await`` it, or `cancel` it. Left alone, it goes on until all is here."""

    def __init__(self, exchange: Exchange, demand: Demand | None) -> None:
        self._exchange = exchange
        self._demand = demand

    @property
    def done(self) -> bool:
        """Whether all of it has come."""
        return self._demand is None or (self._demand.done.is_set() and self._demand.error is None)

    async def wait(self) -> None:
        """Return once all of it has come.

        Raises `BlockNotAvailable` when it was taken back, or cannot be stored, and `Closed`. Cancelled, it goes on.
        """
        if self._demand is None:
            await trio.lowlevel.checkpoint()
            return
        await self._demand.done.wait()
        if self._demand.error is not None:
            if self._exchange.core.closed:
                raise Closed(f"core {short(self._exchange.core.key)} is closed")
            raise self._demand.error

    def __await__(self) -> Generator[Any, None, None]:
        return self.wait().__await__()

    def cancel(self) -> None:
        """Take it back: nothing more is asked for on its account, and what has come stays. Twice is as good as once."""
        demand = self._demand
        if demand is not None and not demand.done.is_set():
            self._exchange.withdraw(demand)
            demand.fail(BlockNotAvailable(f"the download of core {short(self._exchange.core.key)} was taken back"))
