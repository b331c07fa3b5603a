"""One peer on one core: what it has, what was asked of it, and what it asked.

The one rule: everything kept for a peer is bounded, and what it sends is taken only if it was asked for. Answers whose
digests rely on earlier answers are handled in the order of asking, whatever order they come in.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import trio

from hyperfs import rle
from hyperfs.core.proofs import Received, request_digest
from hyperfs.errors import EncodingError, PeerMisbehaved
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.events import DataReceived, HaveReceived, UnhaveReceived
from hyperfs.replication.availability import PAGE_BITS, Availability
from hyperfs.replication.deadline import AnswerDeadline
from hyperfs.replication.demand import Flight
from hyperfs.replication.uploads import Uploads
from hyperfs.replication.window import Window

if TYPE_CHECKING:
    from hyperfs.replication.exchange import Exchange

WANT_BLOCKS: Final = 1 << 20
"""Blocks that one Want asks about; the reference counts answers by this length."""
MAX_UNANSWERED_WANTS: Final = 16
MAX_FORGOTTEN: Final = 4096
MAX_PENDING_HAVES: Final = 1024


class PeerLink(Protocol):
    """What a peer needs of the connection it is on."""

    @property
    def name(self) -> str: ...

    def wake(self) -> None:
        """Something is to be sent."""


class Peer:
    """A peer on one core; it exists from our Open until either side closes the channel."""

    def __init__(self, link: PeerLink, channel: Channel, exchange: Exchange) -> None:
        self.link = link
        self.channel = channel
        self.exchange = exchange
        self.availability = Availability()
        self.window = Window()
        self.deadline = AnswerDeadline()
        self.uploads = Uploads(channel, exchange.core)
        self.is_open = False
        self.joined_at = trio.current_time()
        self.heard = trio.Event()
        """Set once the peer has told what it has, is gone, says that it gives nothing, or says nothing for too long."""
        self.remote_uploading = True
        self.remote_downloading = True
        self.remote_wants = False
        self.announcements = 0
        """How often the peer announced something."""
        self.in_flight: dict[int, Flight] = {}
        self.proofs: dict[int, Flight] = {}
        self.seeks: dict[int, Flight] = {}
        self.last_seek = 0
        self.wants_made_for = (-1, -1)
        """For which demands, and which claimed length, all Wants were sent."""
        self.last_answer_at = 0.0
        self.promises_broken = False
        """Whether an answer that others rely on did not come: then a proof that fails may be nobody's fault."""
        self.question_credit = 0
        """Blocks that the peer may still name in answers to hints."""
        self._order: deque[Flight] = deque()
        self._promised: set[int] = set()
        self._forgotten: dict[int, None] = {}
        self._wanted: set[int] = set()
        self._unanswered: set[int] = set()
        self._pending_haves: list[tuple[int, int]] = []

    @property
    def busy(self) -> bool:
        """Whether it owes us an answer."""
        return bool(self.in_flight or self.proofs or self.seeks)

    @property
    def owes_haves(self) -> bool:
        """Whether it has not told yet what it has of all that it was asked about."""
        return bool(self._unanswered)

    def oldest_question(self) -> float | None:
        """Return when the longest unanswered request was asked, None without any."""
        times = [next(iter(asked.values())).asked_at for asked in (self.proofs, self.seeks) if asked]
        while self._order and self._order[0].answered:
            self._order.popleft()
        if self._order:
            times.append(self._order[0].asked_at)
        return min(times) if times else None

    # what it has

    def on_have(self, have: HaveReceived) -> None:
        """Take in an announcement. Raises PeerMisbehaved for a bitfield that is none."""
        self.announcements += 1
        if have.bitfield is None:
            self.availability.add(have.start, have.start + max(1, have.length))
            return
        if have.start % PAGE_BITS == 0:
            length = min(-(-have.length // PAGE_BITS) * PAGE_BITS, WANT_BLOCKS)
            try:
                bits = rle.decode(have.bitfield, limit=WANT_BLOCKS // 8)
            except EncodingError as error:
                raise PeerMisbehaved(f"sent a bitfield that is none: {error}") from error
            if length <= PAGE_BITS:
                # older peers say 0 or 1 here and mean all that the bitfield covers
                length = max(PAGE_BITS, -(-len(bits) * 8 // PAGE_BITS) * PAGE_BITS)
            self.availability.set_bits(have.start, bits, length)
            self._unanswered.discard(have.start)
        self.heard.set()

    def on_unhave(self, unhave: UnhaveReceived) -> list[Flight]:
        """Take back what was announced; return the flights that will not be answered."""
        start, end = unhave.start, unhave.start + max(1, unhave.length)
        self.availability.remove(start, end)
        if len(self.in_flight) < end - start:
            lost = [flight for index, flight in self.in_flight.items() if start <= index < end]
        else:
            lost = [self.in_flight[index] for index in range(start, end) if index in self.in_flight]
        for flight in lost:
            del self.in_flight[flight.index]
            self._forget(flight.index)
            self._break(flight)
        for index in [index for index in self.proofs if start <= index < end]:
            lost.append(self.proofs.pop(index))
        for byte_offset in [offset for offset, flight in self.seeks.items() if start <= flight.index < end]:
            lost.append(self.seeks.pop(byte_offset))
        return lost

    # asking

    def send_wants(self, pages: list[int]) -> bool:
        """Ask what the peer has in ``pages`` (of 1,048,576 blocks) not asked about yet; tell whether all were."""
        for page in pages:
            if page in self._wanted:
                continue
            if len(self._unanswered) >= MAX_UNANSWERED_WANTS:
                return False
            self._wanted.add(page)
            self._unanswered.add(page * WANT_BLOCKS)
            self.channel.send_want(page * WANT_BLOCKS, WANT_BLOCKS)
        return True

    def ask(self, flight: Flight) -> None:
        """Request a block."""
        core = self.exchange.core
        flight.optimistic = bool(self._promised)
        digest, brings = request_digest(flight.index, core.length, self._knows)
        if brings:
            flight.brings = brings
            self._promised.update(brings)
        self.in_flight[flight.index] = flight
        self._order.append(flight)
        self.channel.send_request(flight.index, digest=digest)

    def ask_proof(self, flight: Flight) -> None:
        """Request the proof of a block alone."""
        self.proofs[flight.index] = flight
        digest = self.exchange.core.digest(flight.index)
        self.channel.send_request(flight.index, digest=digest, hash_only=True)

    def ask_whole_proof(self, flight: Flight) -> None:
        """Request the proof of a block alone, with nothing left out that is known here."""
        self.proofs[flight.index] = flight
        self.channel.send_request(flight.index, digest=0, hash_only=True)

    def ask_seek(self, byte_offset: int, flight: Flight) -> None:
        """Request the block that holds ``byte_offset``; ``flight.index`` is where to look if the peer cannot tell."""
        self.seeks[byte_offset] = flight
        self.last_seek = byte_offset
        self.channel.send_request(flight.index, byte_offset=byte_offset)

    def _knows(self, tree_index: int) -> bool:
        return tree_index in self._promised or self.exchange.core.has_node(tree_index)

    # being answered

    def on_data(self, data: DataReceived, ready: list[tuple[Received, Flight | None]]) -> Flight | None:
        """Add to ``ready`` what can be stored now, in order; return the flight that was answered.

        Raises PeerMisbehaved for a block that was not asked for.
        """
        nodes = data.nodes
        received = Received(data.index, data.value, nodes, data.signature)
        if data.value is None:
            flight = self.proofs.pop(data.index, None)
            if flight is None and self.seeks:
                flight = self.seeks.pop(next(iter(self.seeks)))
            ready.append((received, flight))
            return flight
        flight = self.in_flight.pop(data.index, None)
        if flight is None:
            return self._on_other_data(received, ready)
        order = self._order
        flight.answered = True
        if order[0] is flight:
            order.popleft()
            ready.append((received, flight))
            while order and order[0].answered:
                self._release(order.popleft(), ready)
        elif flight.optimistic:
            flight.held = received
        else:
            ready.append((received, flight))
        return flight

    def _on_other_data(self, received: Received, ready: list[tuple[Received, Flight | None]]) -> Flight | None:
        if self.seeks:
            flight = self.seeks.pop(next(iter(self.seeks)))
            ready.append((received, flight))
            return flight
        if received.index in self._forgotten:
            del self._forgotten[received.index]
            return None
        raise PeerMisbehaved(f"sent block {received.index}, which was not asked for")

    def drain(self, ready: list[tuple[Received, Flight | None]]) -> None:
        """Add to ``ready`` what waited only for flights that are resolved by now."""
        order = self._order
        while order and order[0].answered:
            self._release(order.popleft(), ready)

    def kept(self, flight: Flight) -> None:
        """Note that an answer was stored, so what it was to bring is here."""
        if flight.brings:
            self._promised.difference_update(flight.brings)

    def _release(self, flight: Flight, ready: list[tuple[Received, Flight | None]]) -> None:
        if flight.held is not None:
            ready.append((flight.held, flight))
            flight.held = None

    def _break(self, flight: Flight) -> None:
        flight.answered = True
        if flight.brings:
            self.promises_broken = True
            self._promised.difference_update(flight.brings)

    def _forget(self, index: int) -> None:
        self._forgotten[index] = None
        while len(self._forgotten) > MAX_FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]

    def give_up_all(self) -> list[Flight]:
        """Forget everything under way, because the peer is gone or gives nothing any more; return it."""
        held = [flight for flight in self._order if flight.held is not None]
        lost = [*self.in_flight.values(), *self.proofs.values(), *self.seeks.values(), *held]
        for index in self.in_flight:
            self._forget(index)
        for flight in lost:
            flight.held = None
            self._break(flight)
        self.in_flight.clear()
        self.proofs.clear()
        self.seeks.clear()
        self._order.clear()
        self._promised.clear()
        return lost

    # telling

    def announce(self, start: int, end: int) -> None:
        """Tell the peer, with the next output, that blocks [start, end) are here, if it ever wanted to know."""
        if not (self.remote_wants and self.is_open):
            return
        pending = self._pending_haves
        if pending and pending[-1][1] == start:
            pending[-1] = (pending[-1][0], end)
        elif len(pending) < MAX_PENDING_HAVES:
            pending.append((start, end))
        # past the bound the peer does not read; it is not told of every block, and can ask with a Want
        self.link.wake()

    def retract(self, start: int, end: int) -> None:
        """Tell the peer that blocks [start, end) are no longer here."""
        if self.remote_wants and self.is_open:
            self.flush_haves()
            self.channel.send_unhave(start, end - start)
            self.link.wake()

    def flush_haves(self) -> None:
        """Send the announcements that wait."""
        pending, self._pending_haves = self._pending_haves, []
        for start, end in pending:
            self.channel.send_have(start, end - start)
