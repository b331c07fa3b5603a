"""Which block holds a byte: peers are asked for the nodes of the tree that tell.

The rule: each peer is asked for one offset once, and again only after it announced something new.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from hyperfs.core.nonblocking import run_with_reads
from hyperfs.replication.asking import by_use
from hyperfs.replication.demand import Flight

if TYPE_CHECKING:
    from hyperfs.replication.exchange import Exchange
    from hyperfs.replication.peer import Peer


class Seeks:
    """Asks the peers of one core where bytes lie."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._core = exchange.core
        self.sought: dict[object, range] = {}
        """Blocks of which one is sought that holds a byte, for each who seeks."""
        self.begun = 0
        """How many were ever begun."""

    async def seek(self, byte_offset: int, blocks: range) -> None:
        """Return once the tree here tells which block holds ``byte_offset``, which is one of ``blocks``.

        Cancelled, an answer that is under way is stored when it comes.
        """
        with self.seeking(blocks):
            await self._seek(byte_offset, blocks)

    @contextmanager
    def seeking(self, blocks: range) -> Iterator[None]:
        """Have peers say what they have of ``blocks``, and be looked for, while one of these is sought."""
        token = object()
        self.sought[token] = blocks
        self.begun += 1
        self._exchange.asking.refill_all()
        try:
            yield
        finally:
            del self.sought[token]

    async def _seek(self, byte_offset: int, blocks: range) -> None:
        tried: set[tuple[Peer, int]] = set()
        while await run_with_reads(self._core.seek_local, byte_offset) is None:
            flight = None
            for peer in sorted(self._exchange.open_peers, key=by_use):
                if peer.can_be_asked and (peer, peer.announcements) not in tried:
                    tried.add((peer, peer.announcements))
                    flight = self._ask(peer, byte_offset, blocks)
                    if flight is not None:
                        break
            if flight is not None and flight.done is not None:
                await flight.done.wait()
            else:
                await self._exchange.wait_change()

    def _ask(self, peer: Peer, byte_offset: int, blocks: range) -> Flight | None:
        run = peer.availability.next_run(blocks.start, blocks.stop)
        if byte_offset in peer.requests.seeks:
            return peer.requests.seeks[byte_offset]
        # an offset asked twice running is not answered the second time
        if run is None or peer.requests.last_seek == byte_offset:
            return None
        flight = Flight(run.start, peer, trio.current_time(), demands=[], done=trio.Event())
        peer.requests.ask_seek(byte_offset, flight)
        peer.link.wake()
        return flight
