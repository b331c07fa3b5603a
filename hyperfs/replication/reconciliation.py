"""What is kept of a core of ours beyond what any core needs: whether its peers have more of it, or something else.

A peer is asked for blocks of a core of ours only after its signed tree was found to be of one history
with ours. So a backup that was restored takes over what was written after it, and a second writer is found out; see
`Core.reconcile`, and docs/keeping.md, "One writer".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.core.proofs import Received
from hyperfs.core.reader import Priority
from hyperfs.errors import Fork, InvalidProof, PeerMisbehaved, short
from hyperfs.replication.demand import Demand, Flight
from hyperfs.replication.requests import Answers

if TYPE_CHECKING:
    from hyperfs.replication.exchange import Exchange
    from hyperfs.replication.peer import Peer

logger = logging.getLogger(__name__)

_ROUNDS: Final = 8
"""How often `update` asks a peer again that announced more meanwhile."""


class Reconciliation:
    """Compares the peers of one writable core with it, and catches up with them."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._core = exchange.core
        self._same: dict[Peer, int] = {}
        """By peer, how many of its blocks were found to be of our history."""
        self._asked: dict[Peer, int] = {}
        """By peer, at which of its announcements the last comparison was asked for."""
        self._flights: dict[Peer, Flight] = {}
        self._excluded: set[Peer] = set()
        self._catching_up: Demand | None = None

    def trusts(self, peer: Peer) -> bool:
        """Tell whether ``peer`` was found to be of one history with us, so that it may be asked for blocks."""
        return peer in self._same and peer not in self._excluded

    def announced(self, peer: Peer) -> None:
        """Compare with ``peer`` after it announced something."""
        self._compare(peer)
        self.catch_up()

    def left(self, peer: Peer) -> None:
        """Forget ``peer``: it is gone."""
        self._same.pop(peer, None)
        self._asked.pop(peer, None)
        self._flights.pop(peer, None)
        self._excluded.discard(peer)
        self.catch_up()

    def exclude(self, peer: Peer) -> None:
        """Ask ``peer`` for nothing of this core any more: it has another history. It may still ask us."""
        self._excluded.add(peer)
        self._exchange.lost(peer.requests.give_up())

    async def update(self) -> None:
        """Return once every peer that answers was compared with."""
        for _ in range(_ROUNDS):
            under_way = [flight for peer in self._exchange.open_peers if (flight := self._compare(peer))]
            if not under_way:
                return
            for flight in under_way:
                assert flight.done is not None
                await flight.done.wait()

    async def take(self, peer: Peer, answers: Answers) -> Answers:
        """Act on what of ``answers`` was asked for here, and return the rest. Raises PeerMisbehaved.

        Cancelled, the comparison counts as not made; see `Core.reconcile` for what that leaves in the core.
        """
        rest = []
        for received, flight in answers:
            if flight is not None and self._flights.get(peer) is flight:
                await self._take_proof(peer, received, flight)
            elif flight is not None or received.value is not None:
                rest.append((received, flight))
        return rest

    async def _take_proof(self, peer: Peer, received: Received, flight: Flight) -> None:
        try:
            length = await self._core.reconcile(received, origin=peer, name=peer.link.name)
        except Fork:
            self.exclude(peer)
        except InvalidProof as error:
            if peer not in self._same:
                raise PeerMisbehaved(f"sent what does not verify: {error}") from error
            # who remembers what was asked before may leave out what he thinks is known here
            logger.info("%s proved nothing new of core %s: %s", peer.link.name, short(self._core.key), error)
        else:
            if length:
                self._same[peer] = max(length, self._same.get(peer, 0))
        finally:
            self._flights.pop(peer, None)
            assert flight.done is not None
            flight.done.set()
        self._compare(peer)
        self.catch_up()

    def catch_up(self) -> None:
        """Fetch what our peers are ahead by; go on without what none of them has."""
        fork_guard = self._core.fork_guard
        if fork_guard.behind is None:
            return
        owed = fork_guard.awaited
        if not owed or self._core.has(owed.start, owed.stop):
            return
        if self._catching_up is None or self._catching_up.done.is_set():
            self._catching_up = self._exchange.demand([owed], Priority.AHEAD)
        else:
            self._exchange.asking.refill_all()
        if self._nobody_has(owed):
            logger.warning("core %s: some of what was signed before is with no peer; it is left out", self._core)
            self._exchange.withdraw(self._catching_up)
            fork_guard.stop_awaiting()

    def _nobody_has(self, owed: range) -> bool:
        peers = [
            peer
            for peer in self._exchange.open_peers
            if peer.can_be_asked and peer.availability.claimed_length and peer not in self._excluded
        ]
        if not peers or self._exchange.under_way:
            return False
        if not all(peer in self._same and not peer.wants.pending and not peer.requests.pending for peer in peers):
            return False
        return not any(
            peer.availability.next_run(missing.start, missing.stop) is not None
            for missing in self._core.missing(owed.start, owed.stop)
            for peer in peers
        )

    def _compare(self, peer: Peer) -> Flight | None:
        """Ask ``peer`` to prove its newest tree, unless it was found to be ours; return the question under way."""
        under_way = self._flights.get(peer)
        if under_way is not None and under_way.done is not None and not under_way.done.is_set():
            return under_way
        claimed = peer.availability.claimed_length
        if not (peer.is_open and peer.can_be_asked) or peer in self._excluded:
            return None
        if claimed <= self._same.get(peer, 0) or self._asked.get(peer) == peer.announcements:
            return None
        length = self._core.length
        # the proof of either of the first two holds the roots of the shorter tree; of the third it may not
        choices = (min(length, claimed) - 1, length, claimed - 1)
        index = next((at for at in choices if 0 <= at < claimed and peer.availability.has(at)), None)
        if index is None or index in peer.requests.proofs:
            return None
        self._asked[peer] = peer.announcements
        flight = Flight(index, peer, trio.current_time(), demands=[], done=trio.Event())
        self._flights[peer] = flight
        peer.requests.ask_whole_proof(flight)
        peer.link.wake()
        return flight
