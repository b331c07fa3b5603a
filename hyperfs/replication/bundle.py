"""The connections to one peer that this process dials by one route: who it is, however many ways lead there.

The first one is a peer's like any other. The others, *extra* ones, are there for downloading alone, while that pays
(`hyperfs.replication.widening`): each goes by a key of its own, so that nobody takes it for a double of the first,
tells nothing of what is here, and carries only the cores that so much is wanted of. What is asked for is spread over
all of them by what each brings; when one ends, the others are asked for what it owed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.replication.status import EndReason
from hyperfs.replication.widening import Widening

if TYPE_CHECKING:
    from hyperfs.replication.exchange import Exchange
    from hyperfs.replication.link import Link
    from hyperfs.replication.peer import Peer


MUCH_BYTES: Final = 512 << 10
"""What has to be wanted beyond what is under way for more than one connection."""


class Bundle:
    """Made by who dials, for as long as he does; the links come and go."""

    def __init__(self) -> None:
        self.links: dict[Link, None] = {}
        self.exchanges: dict[Exchange, None] = {}
        """The cores of which more is wanted than one connection brings."""
        self._widening = Widening()
        self._extra = 0
        self._more = trio.Event()

    @property
    def extra_links(self) -> list[Link]:
        """The extra ones."""
        return [link for link in self.links if link.is_extra]

    @property
    def missing(self) -> int:
        """How many extra ones are to be opened."""
        return max(0, self._widening.wanted - 1 - self._extra)

    def note_full(self, link: Link, peer: Peer, wanted_bytes: int) -> None:
        """Note that ``wanted_bytes`` more would be asked of ``peer``, could more be under way."""
        if wanted_bytes < MUCH_BYTES or peer.exchange.core.writable:
            return
        if self._widening.note_full(trio.current_time(), round_trip=_round_trip(link, peer)):
            self._more.set()
        if self._widening.wanted > 1:
            self.exchanges[peer.exchange] = None
            for extra in self.extra_links:
                extra.channels.offer(peer.exchange)

    def brought(self, link: Link, peer: Peer, size_bytes: int) -> None:
        """Note that ``peer`` brought so much."""
        if self._widening.brought(size_bytes, trio.current_time(), round_trip=_round_trip(link, peer)):
            self._more.set()

    async def wait_missing(self) -> None:
        """Return once more connections are wanted; before that, end the extra ones once they are of no use."""
        while not self.missing:
            self._more = trio.Event()
            with trio.move_on_after(1.0 if self.extra_links else float("inf")):
                await self._more.wait()
            if self.extra_links and self._widening.is_idle(trio.current_time()):
                self.end_extra_links("it is not needed any more")

    def end_extra_links(self, message: str) -> None:
        """End the extra ones, for a reason that the log shows."""
        self.exchanges.clear()
        for link in self.extra_links:
            link.end(EndReason.CLOSED, message)

    @contextmanager
    def extra(self) -> Iterator[None]:
        """Count one in that is opened, and carried to its end, within this block.

        When it ends otherwise than by us, the peer or the way there takes no more: there are not to be more than are
        left.
        """
        self._extra += 1
        try:
            yield
        finally:
            self._extra -= 1
            if self.missing:
                self._widening.settle(1 + self._extra)


def _round_trip(link: Link, peer: Peer) -> float:
    """Return the shortest one known; a large block takes several, which the handshake does not."""
    return min(peer.window.round_trip or link.handshake_seconds, link.handshake_seconds)
