"""One shared core: who has it, what is wanted of it, and what became of the answers.

A demand that nobody can meet waits; it is its caller who has the deadline. Whom to ask is for `Asking` to say; what is
asked besides blocks is with `Heads` and `Seeks`; what has to be done for a peer is done a little at a time, by
`Exchange.attend`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.core.proofs import MAX_LENGTH
from hyperfs.core.reader import Priority
from hyperfs.errors import (
    BlockNotAvailable,
    BlockTooFar,
    Closed,
    DamagedStore,
    Fork,
    InvalidProof,
    PeerMisbehaved,
    short,
)
from hyperfs.replication.asking import Asking
from hyperfs.replication.demand import Demand, Demands, Flight
from hyperfs.replication.finishing import finish
from hyperfs.replication.heads import Heads
from hyperfs.replication.observer import ExchangeObserver
from hyperfs.replication.peer import Liveness, Peer
from hyperfs.replication.reconciliation import Reconciliation
from hyperfs.replication.requests import Answers
from hyperfs.replication.seeks import Seeks
from hyperfs.replication.status import Follow
from hyperfs.replication.under_way import UnderWay
from hyperfs.replication.window import LONGEST_TRIP_SECONDS, LONGEST_TRIP_TIMES, MIN_REQUESTS

if TYPE_CHECKING:
    from hyperfs.core.core import Core

logger = logging.getLogger(__name__)

AWAITED_SECONDS: Final = 20.0
"""As long as a reader would wait."""
MAX_UNATTENDED: Final = 256
"""Demands that nobody waits for; past that the oldest is given up."""


class OutOfStep(Exception):
    """A proof failed whose peer may take something to be here that is not: the channel is of no more use to anybody."""


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
        self.demands = Demands()
        """Those that are not met."""
        self.under_way = UnderWay(self)
        self.asking = Asking(self)
        self.longest_claim = 0
        """The greatest length that any peer has claimed so far, who may be gone."""
        self._announced_length = core.durable_length
        self.heads = Heads(self)
        self.seeks = Seeks(self)
        self._changed = trio.Event()
        self._opened = trio.Event()
        self._unattended: list[Demand] = []
        self._passing: dict[Peer, None] = {}
        """The peers whose connections are not to stay."""
        self._attended: dict[Peer, int] = {}
        """How many announcements of each peer were followed up."""
        self.downloading = True
        """Whether anything is asked of anybody. Changed by `set_downloading`."""
        self.everything: Demand | None = None
        """What `want_everything` wants."""
        self.observer: ExchangeObserver | None = None
        self.extension_names: tuple[str, ...] = ()
        """The extensions of this core alone, whose messages ``observer`` gets. Changed by `set_extensions`."""
        core.add_listener(self)

    # what it tells

    @property
    def open_peers(self) -> list[Peer]:
        """The peers whose channel is open."""
        return [peer for peer in self.peers if peer.is_open]

    @property
    def askable_peers(self) -> list[Peer]:
        """Those of them that may be asked for blocks."""
        trusts = None if self.reconciliation is None else self.reconciliation.trusts
        return [peer for peer in self.peers if peer.is_open and peer.can_be_asked and (trusts is None or trusts(peer))]

    @property
    def wanted(self) -> bool:
        """Whether somebody waits, and there is no peer to ask.

        Who waits for the core to grow may do so for ever; he counts for `AWAITED_SECONDS` after the last peer left.
        """
        if self.open_peers:
            return False
        if self.demands.by_priority[Priority.URGENT] or self.seeks.sought:
            return True
        is_awaited = self.core.is_awaited and not self.core.writable
        return is_awaited and trio.current_time() - self.alone_since < AWAITED_SECONDS

    @property
    def claimed_length(self) -> int:
        """The greatest length that a peer claims."""
        return max((peer.availability.claimed_length for peer in self.peers), default=0)

    # wanting

    def demand(self, ranges: Sequence[range], priority: Priority) -> Demand:
        """Want ``ranges`` from now on, until `withdraw`."""
        demand = Demand(ranges, priority)
        self.demands.add(demand)
        self.asking.refill_all()
        return demand

    def prefetch(self, ranges: Sequence[range], priority: Priority) -> None:
        """Want ``ranges`` without anybody waiting: the demand ends once it is met, or when there are too many such."""
        self._unattended.append(self.demand(ranges, priority))
        if len(self._unattended) > MAX_UNATTENDED:
            self._unattended = [demand for demand in self._unattended if not demand.done.is_set()]
        while len(self._unattended) > MAX_UNATTENDED:
            self.withdraw(self._unattended.pop(0))

    def want_everything(self) -> None:
        """Want all blocks that there are and will be, after everything else, until `close`."""
        if self.everything is None:
            self.everything = self.demand([range(MAX_LENGTH)], Priority.BACKGROUND)

    def withdraw(self, demand: Demand) -> None:
        """Stop wanting, and take back what was asked for nobody else's sake and does not make others' proofs short."""
        demand.withdrawn = True
        self.demands.drop(demand)
        if demand.pending and not demand.done.is_set():
            self.under_way.take_back(demand)
        self._look_for_ends()

    async def fetch(self, ranges: Sequence[range], priority: Priority) -> None:
        """Return once all of ``ranges`` is here. Raises BlockNotAvailable when the core is shared no longer.

        Cancelled, what was asked for is taken back, as `withdraw` does; what has come by then stays.
        """
        while any(not self.core.has(blocks.start, blocks.stop) for blocks in ranges):
            demand = self.demand(ranges, priority)
            try:
                await demand.done.wait()
            finally:
                self.withdraw(demand)
            if demand.error is not None:
                raise demand.error

    async def wait_change(self) -> None:
        """Return once there is another block here, or a peer announced something, or took it back, or left."""
        await self._changed.wait()

    def _look_for_ends(self) -> None:
        """Have it looked at whether anything is still wanted of peers whose connections are not to stay."""
        for peer in self._passing:
            peer.link.attend_soon(peer)

    def _look_again(self) -> None:
        """Have who waits for a change look at what is here and who is there again."""
        self._changed.set()
        self._changed = trio.Event()

    # peers

    def join(self, peer: Peer) -> None:
        """Count a peer in, whose channel may still be opening."""
        self.peers[peer] = None
        if not peer.link.live:
            self._passing[peer] = None

    async def wait_peer(self) -> None:
        """Return once there is a peer whose channel is open."""
        while not self.open_peers:
            await self._opened.wait()

    def opened(self, peer: Peer) -> None:
        """Begin: the channel of ``peer`` is open both ways."""
        peer.is_open = True
        self._opened.set()
        self._opened = trio.Event()
        peer.last_answer_at = trio.current_time()
        peer.window.longest_trip = LONGEST_TRIP_TIMES * peer.link.handshake_seconds + LONGEST_TRIP_SECONDS
        if peer.only_asked:
            # it is somebody who answers, and how much at a time, on another connection
            peer.liveness = Liveness.ANSWERING
            others = [other.window.size for other in self.open_peers if other.link.bundle is peer.link.bundle]
            peer.window.most_initial = max(MIN_REQUESTS, min(others))
        peer.haves.uploading = uploading = self._uploads_to(peer)
        peer.downloading = self.downloading and peer.terms.downloading
        downloading = peer.downloading and (not self.core.writable or bool(self.demands))
        if not downloading:
            peer.is_done = True
        if not peer.downloading:
            peer.heard.set()
        if not (uploading and downloading):
            peer.channel.send_status(uploading=uploading, downloading=downloading)
        if self.observer is not None:
            peer.uploads.on_upload = partial(self.observer.uploaded, peer)
            self.observer.peer_opened(peer)
        self.asking.refill(peer)
        peer.link.wake()

    def set_uploading(self, *, uploading: bool) -> None:
        """Let peers have blocks from now on, or no more."""
        if uploading == self.uploading:
            return
        self.uploading = uploading
        for peer in self.open_peers:
            if peer.only_asked:
                continue
            peer.haves.uploading = self._uploads_to(peer)
            peer.channel.send_status(uploading=peer.haves.uploading, downloading=peer.downloading)
            peer.haves.changed(0, self.core.length)
            peer.link.attend_soon(peer)

    def set_downloading(self, *, downloading: bool) -> None:
        """Ask peers for what is wanted from now on, or for nothing more: what is under way is given up."""
        if downloading == self.downloading:
            return
        self.downloading = downloading
        for peer in self.open_peers:
            peer.downloading = downloading and peer.terms.downloading
            peer.channel.send_status(uploading=peer.haves.uploading, downloading=peer.downloading)
            if peer.downloading:
                peer.is_done = False
                peer.announcements += 1
                self.announced(peer, range(MAX_LENGTH))
            else:
                self.lost(peer.requests.give_up())
                peer.link.attend_soon(peer)

    def set_extensions(self, names: Sequence[str]) -> None:
        """List these extensions to the peers of this core, besides those of all cores."""
        self.extension_names = tuple(names)
        for peer in self.peers:
            peer.link.channels.list_extensions(peer)

    def _uploads_to(self, peer: Peer) -> bool:
        return self.uploading and peer.terms.uploading and not peer.only_asked

    def leave(self, peer: Peer) -> None:
        """Count a peer out, and ask others for what it owed."""
        if self.peers.pop(peer, self) is self:
            return
        self._passing.pop(peer, None)
        was_open = peer.is_open
        peer.is_open = False
        peer.heard.set()
        peer.uploads.clear()
        peer.availability.clear()
        self._attended.pop(peer, None)
        self._look_again()
        self.lost(peer.requests.give_up())
        if was_open and not self.open_peers:
            self.alone_since = trio.current_time()
        for demand in self.demands:
            demand.forget(peer)
        self.asking.let_go_on()
        if self.reconciliation is not None:
            self.reconciliation.left(peer)
        if was_open and self.observer is not None:
            self.observer.peer_left(peer)

    def close(self) -> None:
        """Stop: the core is shared no longer."""
        self.core.remove_listener(self)
        error = BlockNotAvailable(f"{short(self.core.key)} is not shared with peers any more")
        for demand in self.demands:
            demand.fail(error)

    # asking

    def attend(self, peer: Peer) -> None:
        """Do what came up for ``peer`` since the last time: follow what it announced, and ask it for more."""
        if not peer.is_open:
            return
        if peer.announcements != self._attended.get(peer):
            self._attended[peer] = peer.announcements
            self._look_again()
            if self.reconciliation is not None:
                self.reconciliation.announced(peer)
            elif peer.availability.claimed_length > self.core.length:
                self.heads.follow(peer)
        self.asking.refill(peer)
        if peer in self._passing:
            finish(self, peer)

    # answers

    def announced(self, peer: Peer, blocks: range) -> None:
        """Note that ``peer`` said something new of ``blocks``; what follows from that is done by `attend`."""
        self.longest_claim = max(self.longest_claim, peer.availability.claimed_length)
        for demand in self.demands:
            demand.see_again(peer, blocks.start, blocks.stop)
        peer.link.attend_soon(peer)

    def lost(self, flights: Iterable[Flight]) -> None:
        """Ask again, others if possible, for what a peer will not answer."""
        self._look_again()
        if self.under_way.lost(flights):
            for peer in self.open_peers:
                peer.link.attend_soon(peer)

    async def take(self, peer: Peer, answers: Answers) -> None:
        """Verify and store answers, in order.

        Raises PeerMisbehaved when one does not verify; OutOfStep when that may be nobody's fault. What cannot be stored
        here fails whoever waits for it. Cancelled, what was not stored is asked for again.
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
            before, answers = answers[: error.position], answers[error.position :]
            self._settle(peer, before, all_stored=True)
            if peer.requests.unsure:
                raise OutOfStep(str(error)) from error
            raise PeerMisbehaved(f"sent what does not verify: {error}") from error
        except BlockTooFar as error:
            logger.warning("%s", error)
            self._fail([one for one in answers if not self.core.has(one[0].index, one[0].index + 1)], error)
        except Closed as error:
            self._fail(answers, BlockNotAvailable(str(error)))
        except (OSError, DamagedStore) as error:
            logger.error("core %s: what %s sent cannot be stored: %s", short(self.core.key), peer.link.name, error)
            self._fail(answers, BlockNotAvailable(f"a block of {short(self.core.key)} cannot be stored: {error}"))
        finally:
            self._settle(peer, answers, all_stored=stored)
        if self.reconciliation is not None:
            self.reconciliation.catch_up()

    def _settle(self, peer: Peer, answers: Answers, *, all_stored: bool) -> None:
        failed: list[Flight] = []
        for received, flight in answers:
            if flight is None:
                continue
            index = flight.index
            if not all_stored and not (received.value is not None and self.core.has(index, index + 1)):
                peer.requests.failed(flight)
                failed.append(flight)
                continue
            peer.requests.stored(flight)
            if received.value is not None:
                peer.downloaded_blocks += 1
                peer.downloaded_bytes += len(received.value)
            if peer in self._passing:
                peer.link.attend_soon(peer)
            if peer.channel.remote_ack and received.value is not None:
                peer.channel.send_have(received.index, ack=True)
                peer.link.wake()
            if flight.done is not None:
                flight.done.set()
            if received.value is None or received.index != index:
                continue
            for demand in self.under_way.arrived(index, flight):
                demand.pending -= 1
                if not demand.pending:
                    self.demands.drop_if_met(demand)
        if failed:
            self.lost(failed)
        self.asking.let_go_on()

    def _fail(self, answers: Answers, error: BlockNotAvailable) -> None:
        for _, flight in answers:
            for demand in flight.demands if flight is not None else ():
                demand.fail(error)
                self.demands.drop(demand)

    # what happens to the core

    def extended(self, core: Core, old_length: int, new_length: int) -> None:
        """Nothing: peers hear of blocks, not of lengths."""

    def stored(self, core: Core, start: int, end: int, origin: object) -> None:
        """Want it no more, and tell the peers, but not the one it came from.

        Of what we append ourselves they hear when it is durable.
        """
        self._look_again()
        for demand in [demand for demand in self.demands if demand.todo.meets(start, end)]:
            demand.todo.remove(start, end)
            self.demands.drop_if_met(demand)
        self._look_for_ends()
        if origin is not None:
            self._tell(start, end, origin)

    def cleared(self, core: Core, start: int, end: int) -> None:
        """Tell the peers that blocks are gone."""
        self._tell(start, end)

    def durable(self, core: Core, length: int) -> None:
        """Tell the peers what was appended, now that a crash cannot take it back."""
        if length > self._announced_length:
            # of what peers were ahead by, after a backup was restored, some may not be here
            for blocks in self.core.present(self._announced_length, length):
                self._tell(blocks.start, blocks.stop)
            self._announced_length = length

    def _tell(self, start: int, end: int, origin: object = None) -> None:
        if self.uploading:
            for peer in self.peers:
                if peer is not origin and peer.is_open and not peer.only_asked:
                    peer.haves.changed(start, end)
                    if peer.haves:
                        peer.link.attend_soon(peer)
