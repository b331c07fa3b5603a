"""What the peers that are here offer, for whoever waits for nobody else.

The rule: a peer counts from the moment at which it has said what it has, as long as it stays and gives anything; until
all have said that nothing is concluded.
"""

from collections.abc import Callable
from typing import TypeVar

from hyperfs.replication.exchange import Exchange
from hyperfs.replication.peer import Peer

_Found = TypeVar("_Found")


async def until_missed(exchange: Exchange, blocks: range) -> int:
    """Return the first of ``blocks`` that is neither here nor offered, once there is one: perhaps never.

    They have to be wanted meanwhile, so that peers say which of them they have.
    """

    def missed(peers: list[Peer]) -> int | None:
        for missing in exchange.core.missing(blocks.start, blocks.stop):
            end = _offered_end(peers, missing)
            if end < missing.stop:
                return end
        return None

    return await _until(exchange, missed)


async def until_none_offers_any(exchange: Exchange, blocks: range) -> None:
    """Return once nobody offers a single one of ``blocks``: perhaps never."""

    def none_offers(peers: list[Peer]) -> bool | None:
        offered = (peer.availability.next_run(blocks.start, blocks.stop) for peer in peers)
        return True if all(run is None for run in offered) else None

    await _until(exchange, none_offers)


async def _until(exchange: Exchange, look: Callable[[list[Peer]], _Found | None]) -> _Found:
    """Return what ``look`` finds among those who can be asked, once all have said what they have; it may take long."""
    for peer in list(exchange.peers):
        await peer.heard.wait()
    while True:
        peers = [peer for peer in exchange.open_peers if peer.can_be_asked]
        if not any(peer.wants.pending for peer in peers):
            found = look(peers)
            if found is not None:
                return found
        await exchange.wait_change()


def _offered_end(peers: list[Peer], blocks: range) -> int:
    """Return up to which block of ``blocks`` each is offered by somebody."""
    position = blocks.start
    while position < blocks.stop:
        runs = [peer.availability.next_run(position, blocks.stop) for peer in peers]
        end = max((run.stop for run in runs if run is not None and run.start == position), default=position)
        if end == position:
            break
        position = end
    return position
