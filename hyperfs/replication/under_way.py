"""The blocks of one core that are asked for, and of which peers.

The rule: a block that is under way was asked of a peer, or of several when the first is slow; once none of them is left
to answer, the demands that wait for it have it back, to be asked for again.

Who owes blocks and answers nothing, for longer than others would take, is *silent*: what he owes is asked of others at
once, and of him a proof alone, for which nobody waits. Once that has come he is asked for one block at a time, as long
as others answer, and for a while that is longer each time.

Who has nothing else to do is asked for what another is asked for and would bring later, instead of that one; and who
would bring a block sooner that somebody begins to wait for, besides the one that has been asked. So a far peer beside a
near one, or a slow one, holds nobody up; no block changes hands twice for that. In a crowd (see `Asking`) that is done
only for what somebody waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.core.reader import Priority
from hyperfs.replication.demand import Demand, Flight
from hyperfs.replication.peer import Liveness, Peer

if TYPE_CHECKING:
    from hyperfs.replication.exchange import Exchange

SLOW_SECONDS: Final = 0.5
"""A peer is slow when a block takes longer than this, and than four of its usual answers."""
NEW_SECONDS: Final = 0.05
"""The same for a peer that has not answered yet; what counts for it is how fast others answer, or its handshake was."""
NEW_REQUESTS: Final = 2
"""What such a peer is asked for at one time."""
_ARRIVING_BYTES: Final = 4096
"""A message that is not whole yet and has so much already is a block."""
_ARRIVING_TIMES: Final = 8
"""What is coming may take so many times as long as what is not."""
_SOONER_TIMES: Final = 2
_SOONER_SECONDS: Final = 0.02
"""So much sooner a peer that has nothing else to do has to be to be asked for what another is asked for."""
_LOOKS_AT_ONCE: Final = 256
"""Requests of one peer that are looked at, and given to others, at one time."""


class UnderWay:
    """What is under way of one core; it knows the peers from ``exchange``."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._flights: dict[int, list[Flight]] = {}
        """By block, in the order of asking; those of one block share their demands."""

    def __len__(self) -> int:
        """Return how many blocks are under way."""
        return len(self._flights)

    def join(self, index: int, demand: Demand) -> bool:
        """Have ``demand`` wait for a block if that is under way; tell whether it is."""
        flights = self._flights.get(index)
        if flights is None:
            return False
        flights[0].demands.append(demand)
        if demand.priority is Priority.URGENT and len(flights) == 1:
            self._hurry(flights[0])
        return True

    def ask(self, flight: Flight) -> None:
        """Ask the peer of ``flight`` for its block, beside others if they are asked for it as well."""
        flights = self._flights.setdefault(flight.index, [])
        if flights:
            flight.demands = flights[0].demands
        flights.append(flight)
        flight.peer.requests.ask(flight)

    def arrived(self, index: int, by: Flight) -> Sequence[Demand]:
        """Note that a block came with the answer ``by``: take it back from the others; return who waited for it."""
        flights = self._flights.pop(index, None)
        if flights is None:
            return ()
        for flight in flights:
            if flight is not by and flight.peer.requests.cancel(flight):
                flight.peer.link.attend_soon(flight.peer)
        return flights[0].demands

    def lost(self, lost: Iterable[Flight]) -> bool:
        """Note that flights are not answered; tell whether a block has to be asked for again because of it."""
        again: dict[Demand, list[int]] = {}
        for flight in lost:
            if flight.done is not None:
                flight.done.set()
            if self._drop(flight):
                for demand in flight.demands:
                    if not demand.withdrawn:
                        again.setdefault(demand, []).append(flight.index)
        for demand, indices in again.items():
            demand.put_back(indices)
        return bool(again)

    def take_back(self, demand: Demand) -> None:
        """Take back what ``demand`` waits for and nobody else does, unless it makes others' proofs short."""
        # the last ones first: they rely on those before
        for flights in reversed([flights for flights in self._flights.values() if demand in flights[0].demands]):
            if not any(flight.wanted for flight in flights):
                for flight in reversed(flights.copy()):
                    self._cancel(flight)

    def _cancel(self, flight: Flight) -> None:
        if flight.peer.requests.cancel(flight):
            flight.peer.link.attend_soon(flight.peer)  # what had to wait for room may be asked for
            self._drop(flight)

    def _drop(self, flight: Flight) -> bool:
        """Count a flight out; tell whether its block is not under way any more because of that."""
        flights = self._flights.get(flight.index, [])
        if flight in flights:
            flights.remove(flight)
            if not flights:
                del self._flights[flight.index]
                return True
        return False

    # who is slow

    def room(self, peer: Peer) -> int:
        """Return for how many blocks more ``peer`` may be asked, and not even for one that somebody waits for."""
        size = peer.window.size
        if self.is_doubtful(peer):
            size = NEW_REQUESTS if peer.liveness is Liveness.NEW else 0 if peer.requests.proofs else 1
        return size - len(peer.requests)

    def is_doubtful(self, peer: Peer) -> bool:
        """Tell whether ``peer`` has still to show that it answers, where others do, or did not fail to yet."""
        return peer.liveness is not Liveness.ANSWERING and any(
            other.liveness is not peer.liveness for other in self._others(peer)
        )

    def overdue_seconds(self, peer: Peer) -> float:
        """Return after how long a block that ``peer`` was asked for is overdue."""
        if peer.liveness is Liveness.ANSWERING:
            usual = peer.window.latency or peer.link.handshake_seconds
            return max(SLOW_SECONDS * 0.5**peer.silences, NEW_SECONDS, 4 * usual)
        others = [other.window.latency for other in self._others(peer) if other.liveness is Liveness.ANSWERING]
        usual = max(NEW_SECONDS, 4 * min(others)) if others else max(2 * NEW_SECONDS, 4 * peer.link.handshake_seconds)
        # the first answer over a long line takes several round trips if it is a large block
        return min(usual, max(SLOW_SECONDS, 4 * peer.link.handshake_seconds))

    def look_after(self, peer: Peer, now: float) -> None:
        """Ask others for what ``peer`` takes too long to bring, if somebody waits for it or they have nothing to do."""
        first = next(iter(peer.requests.blocks.values()), None)
        if first is None:
            return
        overdue = self.overdue_seconds(peer)
        arriving = first if self._is_arriving(first, overdue, now) else None
        if arriving is None and now - max(first.asked_at, peer.last_answer_at) >= overdue:
            self._relieve(peer, first, now)
        for flight in list(islice(peer.requests.blocks.values(), _LOOKS_AT_ONCE)):
            if now - flight.asked_at < overdue:
                break
            flights = self._flights.get(flight.index, [])
            if flights and flights[0] is flight is not arriving and now - flights[-1].asked_at >= overdue:
                self._ask_others(flights, now)
        for other in self._others(peer):
            if not len(other.requests) and self.hasten(other, self.room(other), now):
                other.link.wake()

    def _is_arriving(self, flight: Flight, overdue: float, now: float) -> bool:
        """Tell whether what comes over the line is likely to be the answer, and does not take all too long.

        Only in a crowd: there lines are shared, and an answer on its way was only slower than others before it.
        """
        link = flight.peer.link
        return (
            self._exchange.asking.is_crowded
            and link.arriving_bytes >= _ARRIVING_BYTES
            and now - link.heard_at < overdue
            and now - flight.asked_at < _ARRIVING_TIMES * overdue
        )

    # who is sooner

    def seconds_left(self, flight: Flight, now: float) -> float:
        """Return how much longer an answer is likely to take: what its peer's usually take; or, past that, as long."""
        usual = flight.peer.window.latency or 2 * max(NEW_SECONDS, flight.peer.link.handshake_seconds)
        return abs(usual - (now - flight.asked_at))

    def hasten(self, peer: Peer, most: int, now: float) -> int:
        """Ask ``peer``, who has nothing else to do, for what others are going to bring later than it would.

        Those are not asked for it any more. At most ``most`` blocks; return how many.
        """
        asked = 0
        crowded = self._exchange.asking.is_crowded
        for other in self._others(peer):
            if other.liveness is not Liveness.ANSWERING:
                continue  # it is found out, or given up, otherwise
            owed = len(other.requests)
            for flight in list(islice(reversed(other.requests.blocks.values()), most - asked)):
                if not self._is_sooner(peer, flight, now, owed):
                    break
                owed -= 1
                if crowded and not flight.urgent:
                    continue  # what is sent twice, somebody else waits for longer
                if self._take_over(peer, flight, now):
                    asked += 1
            if asked >= most:
                break
        return asked

    def _take_over(self, peer: Peer, flight: Flight, now: float) -> bool:
        index = flight.index
        if flight.hastened or flight.done is not None or len(self._flights.get(index, ())) != 1:
            return False
        if not peer.availability.has(index) or index in peer.requests.blocks or not flight.peer.requests.cancel(flight):
            return False
        flight.peer.link.wake()
        self._flights[index].remove(flight)
        hastened = Flight(index, peer, now, demands=flight.demands)
        hastened.hastened = True
        self.ask(hastened)
        return True

    def _hurry(self, flight: Flight) -> None:
        """Ask somebody else besides for a block that somebody waits for from now on, if he brings it sooner."""
        now = trio.current_time()
        for other in self._others(flight.peer):
            if self._is_sooner(other, flight, now) and other.availability.has(flight.index):
                self.ask(Flight(flight.index, other, now, demands=flight.demands))
                other.link.wake()
                return

    def _is_sooner(self, peer: Peer, flight: Flight, now: float, owed: int = 1) -> bool:
        """Tell whether ``peer``, asked now for a block, would bring it clearly sooner than who was asked for it.

        ``owed`` is for how many blocks that one was asked up to it.
        """
        delay = peer.window.delay(len(peer.requests))
        if delay is None or peer.liveness is not Liveness.ANSWERING:
            return False
        delay += self._exchange.asking.spared_seconds(peer)
        left = max(self.seconds_left(flight, now), flight.peer.window.seconds_for(owed))
        return left > _SOONER_TIMES * delay + _SOONER_SECONDS

    # who is silent

    def _relieve(self, peer: Peer, first: Flight, now: float) -> None:
        """Take back what a silent peer owes, as far as others have it that are not silent."""
        others = [
            other
            for other in self._others(peer)
            if other.liveness is not Liveness.SILENT and other.availability.has(first.index)
        ]
        if not others:
            return
        if peer.liveness is not Liveness.SILENT:
            peer.fell_silent(now)
            if first.index not in peer.requests.proofs:
                peer.requests.ask_proof(Flight(first.index, peer, now, demands=[]))
        # one stays as long as nobody is known to answer, to be asked of more and more
        stays = None if any(other.liveness is Liveness.ANSWERING for other in others) else first
        relieved = [
            flight
            for flight in list(islice(reversed(peer.requests.blocks.values()), _LOOKS_AT_ONCE))
            if flight is not stays
            if any(other.availability.has(flight.index) for other in others) and peer.requests.cancel(flight)
        ]
        peer.link.wake()
        self._exchange.lost(relieved)

    def _ask_others(self, flights: list[Flight], now: float) -> None:
        """Ask one more peer for a block; as long as none is known to answer, as many as were asked before."""
        index, asked = flights[0].index, {flight.peer for flight in flights}
        others = [
            other
            for other in self._exchange.askable_peers
            if other not in asked and other.liveness is not Liveness.SILENT and other.availability.has(index)
            if index not in other.requests.blocks
        ]
        if not any(flight.urgent for flight in flights):
            others = [other for other in others if 2 * self.room(other) > other.window.size]
        spared = self._exchange.asking.spared_seconds
        others.sort(key=lambda other: (other.liveness is Liveness.NEW, spared(other), len(other.requests)))
        count = 1 if others and others[0].liveness is Liveness.ANSWERING else len(flights)
        for other in others[:count]:
            self.ask(Flight(index, other, now, demands=flights[0].demands))
            other.link.wake()

    def _others(self, peer: Peer) -> Iterable[Peer]:
        return (other for other in self._exchange.askable_peers if other is not peer)
