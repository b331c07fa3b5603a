"""How long a core is: peers that claim more than is verified here are asked for the last of it, with its proof.

The rule: one peer is asked at a time, the one that claims most, and who claims what he does not prove only so often.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.replication.demand import Flight
from hyperfs.replication.status import Follow
from hyperfs.replication.under_way import SLOW_SECONDS

if TYPE_CHECKING:
    from hyperfs.replication.exchange import Exchange
    from hyperfs.replication.peer import Peer

MAX_HEADS_ASKED: Final = 8
"""How often `Heads.update` asks one peer, which may say each time that it has more or less than before."""


class Heads:
    """Asks the peers of one core for its newest head."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._core = exchange.core

    async def update(self) -> None:
        """Return once no peer that answers knows of more blocks than are verified here.

        Who goes on claiming what he does not prove is asked a few times. Cancelled, an answer that is under way is
        stored when it comes.
        """
        exchange = self._exchange
        for peer in list(exchange.peers):
            await peer.heard.wait()
        if exchange.reconciliation is not None:
            await exchange.reconciliation.update()
            return
        times: Counter[Peer] = Counter()
        while True:
            claimants = [
                peer
                for peer in exchange.open_peers
                if peer.can_be_asked and peer.availability.claimed_length > self._core.length
                if times[peer] < MAX_HEADS_ASKED
            ]
            if not claimants:
                return
            peer = max(claimants, key=lambda candidate: candidate.availability.claimed_length)
            times[peer] += 1
            flight = self._ask(peer)
            if flight is None or flight.done is None:
                return
            await flight.done.wait()
            if flight.peer.is_open and flight.peer.availability.claimed_length == flight.index + 1 > self._core.length:
                # it was answered with less than it claimed: asking again would go on for ever
                return

    def follow(self, peer: Peer) -> None:
        """Ask ``peer`` for the head that it announced, if heads are followed, and nobody was just asked for it."""
        if self._exchange.follow is Follow.NOTHING or not peer.is_open:
            return
        index = peer.availability.claimed_length - 1
        now = trio.current_time()
        for other in self._exchange.peers:
            flight = other.requests.under_way(index)
            if flight is not None and now - flight.asked_at < SLOW_SECONDS:
                return
        self._ask(peer)

    def _ask(self, peer: Peer) -> Flight | None:
        """Ask ``peer`` for the last block that it announced, or its proof, unless that is under way."""
        index = peer.availability.claimed_length - 1
        if index < self._core.length or not peer.can_be_asked or not peer.availability.has(index):
            return None
        under_way = peer.requests.under_way(index)
        if under_way is not None:
            if under_way.done is None:
                under_way.done = trio.Event()
            return under_way
        flight = Flight(index, peer, trio.current_time(), demands=[], done=trio.Event())
        if self._exchange.follow is Follow.NEWEST:
            self._exchange.under_way.ask(flight)
        else:
            peer.requests.ask_proof(flight)
        peer.link.wake()
        return flight
