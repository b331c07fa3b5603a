"""One shared core: who has it, what is wanted of it, and what is asked of whom.

The one rule: a block is asked of a peer only if that peer announced it, and of a second one only when the first is slow
and somebody waits. Urgent demands go before readahead, that before the background, and within a class the older first.
A demand that nobody can meet waits; it is its caller who has the deadline.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.core.nonblocking import run_with_reads
from hyperfs.core.proofs import Received
from hyperfs.core.reader import Priority
from hyperfs.errors import BlockNotAvailable, BlockTooFar, DamagedStore, Fork, InvalidProof, PeerMisbehaved, short
from hyperfs.replication.demand import Demand, Flight
from hyperfs.replication.peer import WANT_BLOCKS, Peer
from hyperfs.replication.reconciliation import Reconciliation
from hyperfs.replication.status import Follow

if TYPE_CHECKING:
    from hyperfs.core.core import Core

logger = logging.getLogger(__name__)

HEDGE_SECONDS: Final = 0.5
"""A peer is slow when an urgent block takes longer than this, and than four of its usual answers."""
MAX_UNATTENDED: Final = 256
"""Demands that nobody waits for; past that the oldest is given up."""
_WANTS_OF_A_DEMAND: Final = 64


class OutOfStep(Exception):
    """A proof failed that relied on an answer which never came: nobody's fault, but the channel is of no more use."""


class Exchange:
    """The peers and the demands of one core. Listens to the core, and tells its peers what changes."""

    def __init__(self, core: Core, follow: Follow, *, uploading: bool = True) -> None:
        self.core = core
        self.follow = follow
        self.uploading = uploading
        """Whether peers get anything; if not they are only asked. Changed by `set_uploading`."""
        self.reconciliation = Reconciliation(self) if core.writable else None
        """What is kept of a core of ours: whether others have more of it."""
        self.peers: dict[Peer, None] = {}
        self.alone_since = trio.current_time()
        """Since when no peer has been here; only of meaning while none is."""
        self._demands: dict[Priority, dict[Demand, None]] = {priority: {} for priority in Priority}
        self._asked: dict[int, Flight] = {}
        self._hedged: dict[int, Flight] = {}
        self._announced_length = core.durable_length
        self._changed = trio.Event()
        self._demands_made = 0
        self._unattended: list[Demand] = []
        core.add_listener(self)

    # what it tells

    @property
    def open_peers(self) -> list[Peer]:
        """The peers whose channel is open."""
        return [peer for peer in self.peers if peer.is_open]

    @property
    def in_flight(self) -> int:
        """Blocks under way."""
        return len(self._asked)

    @property
    def demands(self) -> int:
        """Demands that are not met."""
        return sum(map(len, self._demands.values()))

    @property
    def wanted(self) -> bool:
        """Whether a reader waits, and there is no peer to ask."""
        return bool(self._demands[Priority.URGENT]) and not self.open_peers

    @property
    def claimed_length(self) -> int:
        """The greatest length that a peer claims."""
        return max((peer.availability.claimed_length for peer in self.peers), default=0)

    # wanting

    def demand(self, ranges: Sequence[range], priority: Priority) -> Demand:
        """Want ``ranges`` from now on, until `withdraw`."""
        demand = Demand(ranges, priority)
        self._demands[priority][demand] = None
        self._demands_made += 1
        self.refill_all()
        return demand

    def prefetch(self, ranges: Sequence[range], priority: Priority) -> None:
        """Want ``ranges`` without anybody waiting: the demand ends once it is met, or when there are too many such."""
        self._unattended.append(self.demand(ranges, priority))
        if len(self._unattended) > MAX_UNATTENDED:
            self._unattended = [demand for demand in self._unattended if not demand.done.is_set()]
        while len(self._unattended) > MAX_UNATTENDED:
            self.withdraw(self._unattended.pop(0))

    def withdraw(self, demand: Demand) -> None:
        """Stop wanting; what is under way runs out by itself."""
        demand.withdrawn = True
        self._demands[demand.priority].pop(demand, None)

    async def fetch(self, ranges: Sequence[range], priority: Priority) -> None:
        """Return once all of ``ranges`` is here. Raises BlockNotAvailable when the core is shared no longer."""
        while any(not self.core.has(blocks.start, blocks.stop) for blocks in ranges):
            demand = self.demand(ranges, priority)
            try:
                await demand.done.wait()
            finally:
                self.withdraw(demand)
            if demand.error is not None:
                raise demand.error

    async def seek(self, byte_offset: int, blocks: range) -> None:
        """Return once the tree here tells which block holds ``byte_offset``."""
        tried: set[tuple[Peer, int]] = set()
        while await run_with_reads(self.core.seek_local, byte_offset) is None:
            flight = None
            for peer in sorted(self.open_peers, key=lambda candidate: len(candidate.in_flight)):
                if peer.remote_uploading and (peer, peer.announcements) not in tried:
                    tried.add((peer, peer.announcements))
                    flight = self._ask_seek(peer, byte_offset, blocks)
                    if flight is not None:
                        break
            if flight is not None and flight.done is not None:
                await flight.done.wait()
            else:
                await self._changed.wait()

    def _ask_seek(self, peer: Peer, byte_offset: int, blocks: range) -> Flight | None:
        run = peer.availability.next_run(blocks.start, blocks.stop)
        if byte_offset in peer.seeks:
            return peer.seeks[byte_offset]
        # an offset asked twice running is not answered the second time
        if run is None or peer.last_seek == byte_offset:
            return None
        flight = Flight(run.start, peer, trio.current_time(), demands=[], done=trio.Event())
        peer.ask_seek(byte_offset, flight)
        peer.link.wake()
        return flight

    async def update(self) -> None:
        """Return once no peer that answers knows of more blocks than are verified here."""
        for peer in list(self.peers):
            await peer.heard.wait()
        if self.reconciliation is not None:
            await self.reconciliation.update()
            return
        while True:
            claimants = [
                peer
                for peer in self.open_peers
                if peer.remote_uploading and peer.availability.claimed_length > self.core.length
            ]
            if not claimants:
                return
            peer = max(claimants, key=lambda candidate: candidate.availability.claimed_length)
            flight = self._ask_head(peer)
            if flight is None or flight.done is None:
                return
            await flight.done.wait()
            if flight.peer.is_open and flight.peer.availability.claimed_length == flight.index + 1 > self.core.length:
                # it was answered with less than it claimed: asking again would go on for ever
                return

    def _ask_head(self, peer: Peer) -> Flight | None:
        """Ask ``peer`` for the last block that it announced, or its proof, unless that is under way."""
        index = peer.availability.claimed_length - 1
        if index < self.core.length or not peer.remote_uploading or not peer.availability.has(index):
            return None
        under_way = peer.proofs.get(index) or peer.in_flight.get(index)
        if under_way is not None:
            if under_way.done is None:
                under_way.done = trio.Event()
            return under_way
        flight = Flight(index, peer, trio.current_time(), demands=[], done=trio.Event())
        if self.follow is Follow.NEWEST:
            peer.ask(flight)
            self._asked.setdefault(index, flight)
        else:
            peer.ask_proof(flight)
        peer.link.wake()
        return flight

    def _follow(self, peer: Peer) -> None:
        if self.follow is Follow.NOTHING or not peer.is_open:
            return
        index = peer.availability.claimed_length - 1
        now = trio.current_time()
        for other in self.peers:
            flight = other.proofs.get(index) or other.in_flight.get(index)
            if flight is not None and now - flight.asked_at < HEDGE_SECONDS:
                return
        self._ask_head(peer)

    # peers

    def join(self, peer: Peer) -> None:
        """Count a peer in, whose channel may still be opening."""
        self.peers[peer] = None

    def opened(self, peer: Peer) -> None:
        """Begin: the channel of ``peer`` is open both ways."""
        peer.is_open = True
        peer.last_answer_at = trio.current_time()
        peer.uploads.enabled = self.uploading
        downloading = not self.core.writable or bool(self.demands)
        if not (self.uploading and downloading):
            peer.channel.send_status(uploading=self.uploading, downloading=downloading)
        self._send_wants(peer)
        self.refill(peer)
        peer.link.wake()

    def set_uploading(self, *, uploading: bool) -> None:
        """Let peers have blocks from now on, or no more."""
        if uploading == self.uploading:
            return
        self.uploading = uploading
        for peer in self.open_peers:
            peer.uploads.enabled = uploading
            peer.channel.send_status(uploading=uploading, downloading=True)
            for blocks in self.core.present(0, self._announced_length):
                if uploading:
                    peer.announce(blocks.start, blocks.stop)
                else:
                    peer.retract(blocks.start, blocks.stop)
            peer.link.wake()

    def leave(self, peer: Peer) -> None:
        """Count a peer out, and ask others for what it owed."""
        if self.peers.pop(peer, self) is self:
            return
        was_open = peer.is_open
        peer.is_open = False
        peer.heard.set()
        peer.uploads.clear()
        self.lost(peer.give_up_all())
        if was_open and not self.open_peers:
            self.alone_since = trio.current_time()
        for demands in self._demands.values():
            for demand in demands:
                demand.passed.pop(peer, None)
        self._sweep()
        if self.reconciliation is not None:
            self.reconciliation.left(peer)

    def close(self) -> None:
        """Stop: the core is shared no longer."""
        self.core.remove_listener(self)
        error = BlockNotAvailable(f"{short(self.core.key)} is not shared with peers any more")
        for demands in self._demands.values():
            for demand in demands:
                demand.fail(error)

    # asking

    def refill_all(self) -> None:
        """Ask every peer for as much as it may be asked for."""
        for peer in sorted(self.open_peers, key=lambda candidate: len(candidate.in_flight)):
            self.refill(peer)

    def refill(self, peer: Peer) -> None:
        """Ask ``peer`` for as much as it may be asked for, and about what it has."""
        if not (peer.is_open and peer.remote_uploading):
            return
        self._send_wants(peer)
        if self.reconciliation is not None and not self.reconciliation.trusts(peer):
            return
        size = peer.window.size
        room = size - len(peer.in_flight)
        asked = 0
        for priority, demands in self._demands.items():
            if not demands:
                continue
            if priority is Priority.URGENT:
                spare = room + max(8, size // 2)
            elif room - asked >= max(1, size // 8) or not peer.in_flight:
                spare = room - asked
            else:
                if any(demand.todo for demand in demands):
                    peer.window.note_full()
                break
            for demand in list(demands):
                if spare <= 0:
                    peer.window.note_full()
                    break
                if demand.passed.get(peer) == peer.announcements:
                    continue
                taken = self._ask_for(demand, peer, spare)
                asked += taken
                spare -= taken
                if spare <= 0 and demand.todo:
                    peer.window.note_full()
                if demand.check():
                    self._demands[priority].pop(demand, None)
        if asked:
            peer.link.wake()

    def _ask_for(self, demand: Demand, peer: Peer, most: int) -> int:
        """Ask ``peer`` for at most ``most`` blocks that ``demand`` wants; return how many."""
        kept: list[range] = []
        asked = 0
        now = trio.current_time()
        todo = demand.todo
        while todo and asked < most:
            wanted = todo.popleft()
            position, end = wanted.start, wanted.stop
            while position < end and asked < most:
                missing = next(iter(self.core.missing(position, end)), None)
                if missing is None:
                    position = end
                    break
                run = peer.availability.next_run(missing.start, missing.stop)
                if run is None:
                    kept.append(missing)
                    position = missing.stop
                    continue
                if run.start > missing.start:
                    kept.append(range(missing.start, run.start))
                position = run.start
                for index in run:
                    if asked >= most:
                        break
                    position = index + 1
                    demand.pending += 1
                    flight = self._asked.get(index)
                    if flight is not None:
                        flight.demands.append(demand)
                        continue
                    flight = Flight(index, peer, now, demands=[demand])
                    self._asked[index] = flight
                    peer.ask(flight)
                    asked += 1
            if position < end:
                todo.appendleft(range(position, end))
        exhausted = not todo
        todo.extendleft(reversed(kept))
        if exhausted and kept:
            demand.passed[peer] = peer.announcements
        return asked

    def _send_wants(self, peer: Peer) -> None:
        """Ask what ``peer`` has where blocks are wanted, and of the first page, by which its length is learned."""
        claimed = peer.availability.claimed_length
        if peer.wants_made_for == (self._demands_made, claimed):
            return
        pages = [0]
        for demands in self._demands.values():
            for demand in demands:
                for wanted in islice(demand.todo, _WANTS_OF_A_DEMAND):
                    first = wanted.start // WANT_BLOCKS
                    # of a long range only what the peer may have: its end may be far away
                    end = wanted.stop if len(wanted) <= WANT_BLOCKS else min(wanted.stop, claimed)
                    pages.extend(range(first, max(first, (end - 1) // WANT_BLOCKS) + 1))
        if peer.send_wants(pages):
            peer.wants_made_for = (self._demands_made, claimed)

    # answers

    def announced(self, peer: Peer) -> None:
        """Go on after ``peer`` announced something."""
        self._changed.set()
        self._changed = trio.Event()
        if self.reconciliation is not None:
            self.reconciliation.announced(peer)
        elif peer.availability.claimed_length > self.core.length:
            self._follow(peer)
        self.refill(peer)

    def lost(self, flights: Iterable[Flight]) -> None:
        """Ask again, others if possible, for what a peer will not answer."""
        again = False
        for flight in flights:
            if flight.done is not None:
                flight.done.set()
            other = self._hedged.pop(flight.index, None)
            if other is not None:
                # whoever is left of the two carries on, with the demands that both share
                if self._asked.get(flight.index) is flight:
                    self._asked[flight.index] = other
                continue
            if self._asked.get(flight.index) is not flight:
                continue
            del self._asked[flight.index]
            for demand in flight.demands:
                if not demand.withdrawn:
                    demand.put_back(flight.index)
                    again = True
        if again:
            self.refill_all()

    async def take(self, peer: Peer, answers: list[tuple[Received, Flight | None]]) -> None:
        """Verify and store answers, in order.

        Raises PeerMisbehaved when one does not verify; OutOfStep when that may be nobody's fault.
        """
        stored = False
        if self.reconciliation is not None:
            answers = await self.reconciliation.take(peer, answers)
        try:
            await self.core.store([received for received, _ in answers], origin=peer)
            stored = True
        except Fork as error:
            if self.reconciliation is not None:
                logger.error("%s: %s", peer.link.name, error)
                self.reconciliation.exclude(peer)
                return
            logger.error("%s: %s; nothing of it is kept, and what was here before stays", peer.link.name, error)
            raise PeerMisbehaved(f"sent a fork of {short(self.core.key)}: {error}") from error
        except InvalidProof as error:
            if peer.promises_broken:
                raise OutOfStep(str(error)) from error
            raise PeerMisbehaved(f"sent what does not verify: {error}") from error
        except BlockTooFar as error:
            logger.warning("%s", error)
            for received, flight in answers:
                if flight is not None and not self.core.has(received.index, received.index + 1):
                    for demand in flight.demands:
                        demand.fail(error)
                        self.withdraw(demand)
        except (OSError, DamagedStore) as error:
            self._fail(answers, BlockNotAvailable(f"a block of {short(self.core.key)} cannot be stored: {error}"))
            raise
        finally:
            self._settle(peer, answers, all_stored=stored)
        if self.reconciliation is not None:
            self.reconciliation.catch_up()

    def _settle(self, peer: Peer, answers: list[tuple[Received, Flight | None]], *, all_stored: bool) -> None:
        failed: list[Flight] = []
        asked = self._asked
        for received, flight in answers:
            if flight is None:
                continue
            index = flight.index
            if not all_stored and not (received.value is not None and self.core.has(index, index + 1)):
                failed.append(flight)
                continue
            peer.kept(flight)
            if flight.done is not None:
                flight.done.set()
            current = asked.get(index)
            if current is None or received.value is None or received.index != index:
                continue
            del asked[index]
            self._hedged.pop(index, None)
            for demand in current.demands:
                demand.pending -= 1
                if not demand.pending and demand.check():
                    self._demands[demand.priority].pop(demand, None)
        if failed:
            self.lost(failed)

    def _fail(self, answers: list[tuple[Received, Flight | None]], error: BlockNotAvailable) -> None:
        for _, flight in answers:
            for demand in flight.demands if flight is not None else ():
                demand.fail(error)

    def _sweep(self) -> None:
        """Drop from the demands what has come by another way."""
        for demands in self._demands.values():
            for demand in list(demands):
                demand.todo.extend(
                    [missing for wanted in _drained(demand) for missing in self.core.missing(wanted.start, wanted.stop)]
                )
                if demand.check():
                    demands.pop(demand, None)

    def hedge(self, peer: Peer, now: float) -> None:
        """Ask another peer for urgent blocks that ``peer`` takes long to bring."""
        slow_seconds = max(HEDGE_SECONDS, 4 * peer.window.latency)
        for index, flight in list(peer.in_flight.items()):
            if now - flight.asked_at < slow_seconds:
                break
            if index in self._hedged or self._asked.get(index) is not flight or not flight.urgent:
                continue
            others = [
                other
                for other in self.open_peers
                if other is not peer and other.remote_uploading and index not in other.in_flight
                if other.availability.has(index)
            ]
            if others:
                other = min(others, key=lambda candidate: len(candidate.in_flight))
                second = Flight(index, other, now, demands=flight.demands)
                self._hedged[index] = second
                other.ask(second)
                other.link.wake()

    # what happens to the core

    def extended(self, core: Core, old_length: int, new_length: int) -> None:
        """Nothing: peers hear of blocks, not of lengths."""

    def stored(self, core: Core, start: int, end: int, origin: object) -> None:
        """Tell the peers, but not the one it came from; what we append ourselves waits until it is durable."""
        if origin is None or not self.uploading:
            return
        for peer in self.peers:
            if peer is not origin:
                peer.announce(start, end)

    def cleared(self, core: Core, start: int, end: int) -> None:
        """Tell the peers that blocks are gone."""
        if self.uploading:
            for peer in self.peers:
                peer.retract(start, end)

    def durable(self, core: Core, length: int) -> None:
        """Tell the peers what was appended, now that a crash cannot take it back."""
        if length > self._announced_length:
            # of what peers were ahead by, after a backup was restored, some may not be here
            for blocks in self.core.present(self._announced_length, length) if self.uploading else ():
                for peer in self.peers:
                    peer.announce(blocks.start, blocks.stop)
            self._announced_length = length


def _drained(demand: Demand) -> list[range]:
    ranges = list(demand.todo)
    demand.todo.clear()
    return ranges
