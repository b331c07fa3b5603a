"""One connection: a stream, the protocol on it, and the peers (one a core) that it carries.

Some tasks share it. The reader takes what came in large pieces and handles all of it, but for the blocks: `Storing`
hashes, verifies and writes those, to ask for more then, while the reader goes on. The writer sends what the protocol
has to say, and only when that is out makes the next answers. `Watch` sends keep-alives and ends what is dead.

Whatever a peer does, or does not do, ends at most its own connection, with one line in the log; and what it sends is
handled in turns that are short, and that all connections share.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

from hyperfs.core.proofs import MAX_LENGTH
from hyperfs.errors import DamagedStore, PeerMisbehaved
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import (
    CancelReceived,
    ChannelClosed,
    ChannelEvent,
    ChannelOpened,
    ChannelRefused,
    ChannelRequested,
    DataReceived,
    Event,
    ExtensionReceived,
    HandshakeDone,
    HaveReceived,
    RequestReceived,
    StatusReceived,
    UnhaveReceived,
    WantReceived,
)
from hyperfs.protocol.noise import NoiseKeyPair
from hyperfs.replication.bundle import Bundle
from hyperfs.replication.channels import Channels
from hyperfs.replication.exchange import Exchange
from hyperfs.replication.extensions import Extension, Extensions
from hyperfs.replication.limits import Limits
from hyperfs.replication.memory import Memory
from hyperfs.replication.meter import Meter
from hyperfs.replication.pace import Account, Pace
from hyperfs.replication.peer import Peer
from hyperfs.replication.status import Ending, EndReason, PeerStatus, Terms
from hyperfs.replication.storing import Storing
from hyperfs.replication.watch import Watch

if TYPE_CHECKING:
    from hyperfs.core.reader import Hint

logger = logging.getLogger(__name__)

RECEIVE_BYTES: Final = 256 << 10
SEND_BYTES: Final = 512 << 10
ANSWER_BYTES: Final = 256 << 10
"""Answers made at one time, shared by the channels that wait."""
LEAST_ANSWER_BYTES: Final = 16 << 10
"""The same where memory is scarce."""
MAX_UNSENT_BYTES: Final = 4 << 20
"""Output, answers aside, that a peer may leave unread before it is dropped."""
_FRAMES_AT_ONCE: Final = 256


class LinkHost(Protocol):
    """What a link needs of the `Replicator`."""

    @property
    def extensions(self) -> Sequence[Extension]:
        """The extensions that are spoken with peers that know them too."""

    @property
    def pace(self) -> Pace:
        """What all connections keep to together."""

    @property
    def limits(self) -> Limits:
        """The rates of all connections together."""

    @property
    def memory(self) -> Memory:
        """What all connections hold together."""

    @property
    def exchanges(self) -> list[Exchange]:
        """The exchanges of all shared cores."""

    def exchange_of(self, discovery_key: bytes) -> Exchange | None:
        """Return the exchange of a core that is shared, None for any other."""

    def terms_of(self, exchange: Exchange) -> Terms:
        """Return what goes over the connection of one of these cores."""

    def handshaken(self, link: Link) -> Ending | None:
        """Take note of who ``link`` leads to; return why it has to end, if so."""


class Link:
    """One connection, from the first byte to the last. Made for one call of `run`."""

    def __init__(
        self,
        host: LinkHost,
        stream: trio.abc.Stream,
        *,
        initiator: bool,
        name: str,
        static_key: NoiseKeyPair,
        is_tcp: bool = True,
        bundle: Bundle | None = None,
        is_extra: bool = False,
        live: bool = True,
        encrypted: bool = True,
    ) -> None:
        self.name = name
        self.live = live
        """Whether it stays when everything that is wanted has come."""
        self.is_extra = is_extra
        """Whether it is there for downloading alone, beside another one to the same peer; see `Bundle`."""
        self.initiator = initiator
        self.is_tcp = is_tcp
        self.remote_key: bytes | None = None
        self.handshake_seconds = 0.0
        """How long it took, once it is done, without what a limit of ours added to it."""
        self.ready = trio.Event()
        """Set once the handshake is done and the first channels are asked for, or everything is over."""
        self.ended = trio.Event()
        self.downloads = Meter()
        self.uploads = Meter()
        self._host = host
        self._limits = host.limits
        self._memory = host.memory
        self._sending_bytes = 0
        self._host_name = name.rpartition(":")[0]
        self._limited_seconds = 0.0
        self._stream = stream
        self._protocol = Connection(initiator=initiator, static_key=static_key, encrypted=encrypted)
        self._account = Account(host.pace)
        self._extensions = Extensions(() if is_extra else host.extensions, self._account)
        self.channels = Channels(self, host, self._protocol, self._extensions)
        self._storing = Storing(self.downloads, self._account, host.memory, self.channels.reopen, self._brought)
        self.bundle = bundle
        self._counted_bytes = 0
        self._ending: Ending | None = None
        self._scope = trio.CancelScope()
        self._output_waits = trio.Event()
        self._taken = trio.Event()
        self._watch = Watch(self, self.channels.peers, self._account, self._protocol.send_keep_alive)

    async def run(self) -> Ending:
        """Carry the connection to its end; see `Replicator.run`.

        Cancelled, it closes the stream, and what was asked for is asked of others.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guard, self._write)
                    nursery.start_soon(self._watch.run)
                    nursery.start_soon(self._extensions.work)
                    nursery.start_soon(self._storing.hash)
                    nursery.start_soon(self._guard, self._storing.store)
                    await self._guard(self._read)
        except Exception as error:  # a bug that one peer meets must not end the others
            logger.exception("connection to %s failed", self.name)
            self.end(EndReason.CLOSED, f"failed: {error!r}")
        finally:
            self.channels.end()
            self._protocol.discard_input()
            self._memory.forget(self)
            for peer, flights in self._storing.unstored():
                peer.exchange.lost(flights)
            self.ready.set()
            self.ended.set()
            self._taken.set()
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await self._stream.aclose()
        ending = self._ending or Ending(EndReason.CLOSED, "ended", self.remote_key)
        if ending.reason is EndReason.MISBEHAVED:
            logger.warning("dropped %s: it %s", self.name, ending.message)
        else:
            logger.info("connection to %s ended: %s", self.name, ending.message)
        return ending

    @property
    def is_stranger(self) -> bool:
        """Whether the peer has shown to know no key."""
        return not self._protocol.has_proven

    @property
    def is_ending(self) -> bool:
        """Whether somebody has ended it."""
        return self._ending is not None

    @property
    def held_bytes(self) -> int:
        """What is in memory for the peer's sake, and may grow with what it does."""
        return self.channels.held_bytes + self._protocol.held_bytes + self._storing.held_bytes + self._sending_bytes

    @property
    def arriving_bytes(self) -> int:
        """How much is here of a message that is not whole yet."""
        return self._protocol.partial_bytes

    @property
    def heard_at(self) -> float:
        """When anything came last, by trio's clock."""
        return self._watch.heard_at

    @property
    def stream(self) -> trio.abc.Stream:
        """What it runs over."""
        return self._stream

    def end(self, reason: EndReason, message: str) -> None:
        """End the connection; the first reason is the one that counts."""
        if self._ending is None:
            self._ending = Ending(reason, message, self.remote_key)
        self._scope.cancel()

    def wake(self) -> None:
        """Have the writer look for output, and the watch for what is under way."""
        self._output_waits.set()
        self._watch.stir()

    def attend_soon(self, peer: Peer) -> None:
        """Have `Exchange.attend` called for ``peer``, and tell it what is here now, before more is sent."""
        self.channels.due[peer] = None
        self.wake()

    # what it is asked to send, and tells

    async def send_extension(self, peer: Peer, name: str, payload: bytes) -> None:
        """Send a message of an extension of the core's own, once the peer has taken most of what it was sent before.

        Nothing is sent to one that has left, or of an extension that is listed no more. Raises ValueError for what does
        not fit a frame. Cancelled, nothing is.
        """
        while peer.is_open and self._protocol.pending_output > SEND_BYTES:
            await self._taken.wait()
        if peer.is_open and name in peer.exchange.extension_names:
            peer.channel.send_extension(name, payload)
            self.wake()

    def send_hint(self, peer: Peer, hint: Hint) -> None:
        """Send a hint to a peer on this link, if it understands it."""
        if peer.is_open and self._extensions.ask(peer, hint):
            self.wake()

    def status(self) -> PeerStatus:
        """Return what the connection is doing, together with the extra ones to the same peer."""
        now = trio.current_time()
        links = [self, *(link for link in (self.bundle.links if self.bundle is not None else ()) if link is not self)]
        trips = [trip for peer in self.channels.peers.values() if (trip := peer.window.round_trip) is not None]
        return PeerStatus(
            name=self.name,
            remote_key=self.remote_key,
            initiator=self.initiator,
            connected_seconds=now - self._watch.began_at,
            cores=tuple(peer.exchange.core.key for peer in self.channels.peers.values() if peer.is_open),
            downloaded_bytes=sum(link.downloads.bytes for link in links),
            uploaded_bytes=self.uploads.bytes,
            downloaded_blocks=sum(link.downloads.blocks for link in links),
            uploaded_blocks=self.uploads.blocks,
            download_rate=sum(link.downloads.rate(now) for link in links),
            upload_rate=self.uploads.rate(now),
            in_flight=sum(len(peer.requests) for link in links for peer in link.channels.peers.values()),
            round_trip_seconds=min(trips, default=None),
        )

    def note_full(self, peer: Peer, wanted_bytes: int) -> None:
        """Note that ``wanted_bytes`` more would be asked of ``peer``, could more be under way."""
        if self.bundle is not None:
            self.bundle.note_full(self, peer, wanted_bytes)

    def _brought(self, peer: Peer) -> None:
        if self.bundle is not None:
            size_bytes, self._counted_bytes = self.downloads.bytes - self._counted_bytes, self.downloads.bytes
            self.bundle.brought(self, peer, size_bytes)

    # reading

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work``, and end the connection for what goes wrong in it."""
        try:
            await work()
        except PeerMisbehaved as error:
            self.end(EndReason.MISBEHAVED, str(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.end(EndReason.CLOSED, "connection lost")
        except OSError as error:
            logger.error("cannot store what %s sent: %s", self.name, error)
            self.end(EndReason.CLOSED, f"what it sent cannot be stored: {error}")
        except DamagedStore as error:
            logger.error("cannot go on with %s: %s", self.name, error)
            self.end(EndReason.CLOSED, f"a core here is damaged: {error}")

    async def _read(self) -> None:
        while True:
            data = await self._stream.receive_some(self._limits.down.piece(RECEIVE_BYTES))
            if not data:
                await self._storing.finish()
                self.end(EndReason.CLOSED, "closed by the other side")
                return
            self._watch.heard(len(data))
            waited = await self._limits.received(len(data), self._host_name, by_stranger=self.is_stranger)
            self._limited_seconds += waited
            self._account.waited_seconds += waited
            await self._take(memoryview(data))

    async def _take(self, data: memoryview) -> None:
        size = len(data)
        while True:
            async with self._account.turn():
                for event in self._protocol.receive(data, at_most=_FRAMES_AT_ONCE):
                    if isinstance(event, HaveReceived) and event.bitfield is not None:
                        await self._take_bitfield(event)
                    else:
                        self._handle(event)
                    if self._ending is not None:
                        return
                    await self._account.rest(useful=isinstance(event, DataReceived))
                if self._protocol.pending_output:
                    if self._protocol.pending_output > MAX_UNSENT_BYTES:
                        raise PeerMisbehaved(f"left {self._protocol.pending_output} bytes unread")
                    self._output_waits.set()
            if not self._protocol.has_frames:
                break
            data = memoryview(b"")
        self._storing.add(size)
        self._memory.note(self)
        await self._storing.wait_room()

    async def _take_bitfield(self, have: HaveReceived) -> None:
        peer = self.channels.peers.get(have.channel)
        if peer is not None:
            said = await peer.on_bitfield(have, self._account)
            if peer.channel in self.channels.peers:
                peer.exchange.announced(peer, said)

    def _handle(self, event: Event) -> None:
        match event:
            case HandshakeDone():
                self._on_handshake(event)
            case ChannelRequested():
                self.channels.requested(event.discovery_key)
            case ChannelOpened():
                self.channels.opened(event.channel)
            case ChannelRefused() | ChannelClosed():
                self.channels.left(event.channel)
            case _:
                peer = self.channels.peers.get(event.channel)
                if peer is not None:
                    self._handle_of(peer, event)

    def _handle_of(self, peer: Peer, event: ChannelEvent) -> None:
        match event:
            case DataReceived():
                if peer.requests.answered(event, self._storing.answers_of(peer)) is not None:
                    peer.on_answer(self._watch.heard_at, block=event.value is not None)
            case RequestReceived() | WantReceived():
                peer.uploads.add(event)
                self._output_waits.set()
            case HaveReceived():
                peer.exchange.announced(peer, peer.on_have(event))
            case UnhaveReceived():
                lost = peer.on_unhave(event)
                peer.requests.drain(self._storing.answers_of(peer))
                peer.exchange.lost(lost)
            case CancelReceived():
                peer.uploads.cancel(event)
            case StatusReceived():
                self._on_status(peer, event)
            case ExtensionReceived():
                if event.name in peer.exchange.extension_names:
                    if peer.exchange.observer is not None:
                        peer.exchange.observer.received(peer, event.name, event.payload)
                elif peer.exchange.uploading:
                    self._extensions.receive(peer, event.name, event.payload)
            case _:
                pass  # Options are kept by the channel; Unwant changes nothing, as in the reference

    def _on_status(self, peer: Peer, status: StatusReceived) -> None:
        peer.remote_downloading = status.downloading
        if not self.live:
            self.attend_soon(peer)
        if peer.remote_uploading == status.uploading:
            return
        peer.remote_uploading = status.uploading
        if not status.uploading:
            peer.heard.set()
            peer.exchange.lost(peer.requests.give_up())
            peer.announcements += 1
            self.attend_soon(peer)
        else:
            peer.announcements += 1
            peer.exchange.announced(peer, range(MAX_LENGTH))

    def _on_handshake(self, event: HandshakeDone) -> None:
        self.remote_key = event.remote_static_key
        self.handshake_seconds = trio.current_time() - self._watch.began_at - self._limited_seconds
        ending = self._host.handshaken(self)
        if ending is not None:
            self.end(ending.reason, ending.message)
            return
        if self.is_extra:
            for exchange in [] if self.bundle is None else self.bundle.exchanges:
                if self._host.exchange_of(exchange.core.discovery_key) is exchange:
                    self.channels.offer(exchange)
        elif self.initiator:
            for exchange in self._host.exchanges:
                self.channels.share(exchange)
        self.ready.set()
        logger.info("connected to %s", self.name)

    # writing

    async def _write(self) -> None:
        try:
            while self._ending is None:
                if self._output_waits.is_set():
                    self._output_waits = trio.Event()
                await self._attend()
                output = self._protocol.take_output()
                if output:
                    self._sending_bytes = len(output)
                    self._memory.note(self)
                    taken, self._taken = self._taken, trio.Event()
                    taken.set()
                    await self._send(memoryview(output))
                    self._sending_bytes = 0
                elif not await self._answer() and not self.channels.due:
                    if self.channels.are_done:
                        await self._end_output()
                        return
                    await self._output_waits.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # what the peer sent before it left is still to be read; the reader, or the watch, meets the end
            return

    async def _end_output(self) -> None:
        """Say nothing more: the other side, once it has read all, says so, too."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            self.end(EndReason.CLOSED, "everything that was wanted is here")

    async def _attend(self) -> None:
        """Do what is due for each peer, a little for each; it is due again if that was not all."""
        for peer in list(self.channels.due):
            if self._protocol.pending_output > SEND_BYTES:
                return
            async with self._account.turn(ours=True):
                if self.channels.due.pop(peer, peer) is peer:
                    continue
                peer.exchange.attend(peer)
                peer.haves.send()
                if peer.haves:
                    self.channels.due[peer] = None

    async def _send(self, output: memoryview) -> None:
        sent = 0
        while sent < len(output):
            piece = output[sent : sent + self._limits.up.piece(SEND_BYTES)]
            is_stranger = self.is_stranger and not self.initiator
            self._limited_seconds += await self._limits.sending(len(piece), self._host_name, to_stranger=is_stranger)
            with self._watch.sending():
                await self._stream.send_all(piece)
            sent += len(piece)

    async def _answer(self) -> bool:
        """Make some answers for every peer that waits; tell whether any did."""
        waiting = [peer for peer in self.channels.peers.values() if peer.uploads]
        size_bytes = self._memory.room(least=LEAST_ANSWER_BYTES, most=ANSWER_BYTES)
        for peer in waiting:
            blocks, before_bytes = peer.uploads.blocks, peer.uploads.bytes
            await peer.uploads.answer(size_bytes // len(waiting), self._account)
            self.uploads.add(peer.uploads.blocks - blocks, peer.uploads.bytes - before_bytes, trio.current_time())
        return bool(waiting)
