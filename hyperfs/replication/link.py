"""One connection: a stream, the protocol on it, and the peers (one a core) that it carries.

Some tasks share it. The reader takes what came in large pieces and handles all of it, but for the blocks: `Storing`
hashes, verifies and writes those, to ask for more then, while the reader goes on. The writer sends what the protocol
has to say, and only when that is out makes the next answers. The watch sends keep-alives and ends what is dead.

The one rule: whatever a peer does, or does not do, ends at most its own connection, with one line in the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

from hyperfs.errors import DamagedStore, PeerMisbehaved, short
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import (
    CancelReceived,
    ChannelClosed,
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
from hyperfs.replication.deadline import DEAD_SECONDS
from hyperfs.replication.exchange import Exchange, OutOfStep
from hyperfs.replication.extensions import Extension, Extensions
from hyperfs.replication.meter import Meter
from hyperfs.replication.pace import Pace
from hyperfs.replication.peer import Peer
from hyperfs.replication.status import Ending, EndReason, PeerStatus
from hyperfs.replication.storing import Storing

if TYPE_CHECKING:
    from hyperfs.core.reader import Hint

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS: Final = 10.0
HANDSHAKE_SECONDS: Final = 20.0
STALL_SECONDS: Final = 60.0
"""How long one piece of output may take to be sent."""
RECEIVE_BYTES: Final = 256 << 10
SEND_BYTES: Final = 512 << 10
ANSWER_BYTES: Final = 256 << 10
"""Answers made at one time, shared by the channels that wait."""
MAX_UNSENT_BYTES: Final = 4 << 20
"""Output, answers aside, that a peer may leave unread before it is dropped."""
_SLICE_SECONDS: Final = 0.005
_MIN_SLICE_BYTES: Final = 8 << 10
_TICK_SECONDS: Final = 0.25


class LinkHost(Protocol):
    """What a link needs of the `Replicator`."""

    @property
    def extensions(self) -> Sequence[Extension]:
        """The extensions that are spoken with peers that know them too."""

    @property
    def pace(self) -> Pace:
        """What all connections keep to together."""

    @property
    def exchanges(self) -> list[Exchange]:
        """The exchanges of all shared cores."""

    def exchange_of(self, discovery_key: bytes) -> Exchange | None:
        """Return the exchange of a core that is shared, None for any other."""

    def handshaken(self, link: Link) -> Ending | None:
        """Take note of who ``link`` leads to; return why it has to end, if so."""


class Link:
    """One connection, from the first byte to the last. Made for one call of `run`."""

    def __init__(
        self, host: LinkHost, stream: trio.abc.Stream, *, initiator: bool, name: str, static_key: NoiseKeyPair
    ) -> None:
        self.name = name
        self.initiator = initiator
        self.remote_key: bytes | None = None
        self.ready = trio.Event()
        """Set once the handshake is done and the first channels are asked for, or everything is over."""
        self.ended = trio.Event()
        self.downloads = Meter()
        self.uploads = Meter()
        self._host = host
        self._stream = stream
        self._protocol = Connection(initiator=initiator, static_key=static_key)
        self._peers: dict[Channel, Peer] = {}
        self._pace = host.pace
        self._extensions = Extensions(host.extensions, host.pace)
        self._storing = Storing(self.downloads)
        self._ending: Ending | None = None
        self._scope = trio.CancelScope()
        self._output_waits = trio.Event()
        self._stirred = trio.Event()
        self._slice_bytes = RECEIVE_BYTES
        self._began_at = self._heard_at = self._sent_at = trio.current_time()
        self._heard_bytes = 0

    async def run(self) -> Ending:
        """Carry the connection to its end; see `Replicator.run`."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guard, self._write)
                    nursery.start_soon(self._watch)
                    nursery.start_soon(self._extensions.work)
                    nursery.start_soon(self._storing.hash)
                    nursery.start_soon(self._guard, self._storing.store)
                    await self._guard(self._read)
        except Exception as error:  # a bug that one peer meets must not end the others
            logger.exception("connection to %s failed", self.name)
            self.end(EndReason.CLOSED, f"failed: {error!r}")
        finally:
            for peer in list(self._peers.values()):
                peer.exchange.leave(peer)
            self._peers.clear()
            for peer, flights in self._storing.unstored():
                peer.exchange.lost(flights)
            self.ready.set()
            self.ended.set()
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await self._stream.aclose()
        ending = self._ending or Ending(EndReason.CLOSED, "ended", self.remote_key)
        if ending.reason is EndReason.MISBEHAVED:
            logger.warning("dropped %s: it %s", self.name, ending.message)
        else:
            logger.info("connection to %s ended: %s", self.name, ending.message)
        return ending

    def end(self, reason: EndReason, message: str) -> None:
        """End the connection; the first reason is the one that counts."""
        if self._ending is None:
            self._ending = Ending(reason, message, self.remote_key)
        self._scope.cancel()

    def wake(self) -> None:
        """Have the writer look for output, and the watch for what is under way."""
        self._output_waits.set()
        self._stirred.set()

    # cores

    def share(self, exchange: Exchange) -> None:
        """Open the channel of a core, unless it is open or the handshake is not done yet."""
        if self._protocol.is_ready and self._protocol.channel(exchange.core.discovery_key) is None:
            self._open(exchange)
            self.wake()

    def unshare(self, exchange: Exchange) -> None:
        """Close the channel of a core."""
        for peer in [peer for peer in self._peers.values() if peer.exchange is exchange]:
            peer.channel.close()
            self._leave(peer.channel)
            self.wake()

    def send_hint(self, peer: Peer, hint: Hint) -> None:
        """Send a hint to a peer on this link, if it understands it."""
        if peer.is_open and self._extensions.ask(peer, hint):
            self.wake()

    def status(self) -> PeerStatus:
        """Return what the connection is doing."""
        now = trio.current_time()
        trips = [trip for peer in self._peers.values() if (trip := peer.window.round_trip) is not None]
        return PeerStatus(
            name=self.name,
            remote_key=self.remote_key,
            initiator=self.initiator,
            connected_seconds=now - self._began_at,
            cores=tuple(peer.exchange.core.key for peer in self._peers.values() if peer.is_open),
            downloaded_bytes=self.downloads.bytes,
            uploaded_bytes=self.uploads.bytes,
            downloaded_blocks=self.downloads.blocks,
            uploaded_blocks=self.uploads.blocks,
            download_rate=self.downloads.rate(now),
            upload_rate=self.uploads.rate(now),
            in_flight=sum(len(peer.in_flight) for peer in self._peers.values()),
            round_trip_seconds=min(trips, default=None),
        )

    def _open(self, exchange: Exchange) -> Peer | None:
        channel = self._protocol.open_channel(exchange.core.key, extensions=self._extensions.names)
        if channel is None:
            return None
        peer = Peer(self, channel, exchange)
        self._peers[channel] = peer
        exchange.join(peer)
        if channel.is_open:
            exchange.opened(peer)
        return peer

    def _leave(self, channel: Channel) -> None:
        peer = self._peers.pop(channel, None)
        if peer is not None:
            peer.exchange.leave(peer)

    # reading

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work``, and end the connection for what goes wrong in it."""
        try:
            await work()
        except PeerMisbehaved as error:
            self.end(EndReason.MISBEHAVED, str(error))
        except OutOfStep as error:
            self.end(EndReason.CLOSED, f"an answer that others relied on did not come, so a proof failed: {error}")
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
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                await self._storing.finish()
                self.end(EndReason.CLOSED, "closed by the other side")
                return
            self._heard_at = trio.current_time()
            self._heard_bytes += len(data)
            await self._take(memoryview(data))

    async def _take(self, data: memoryview) -> None:
        """Handle ``data`` in slices short enough for whatever else runs in this process."""
        while data:
            began = time.perf_counter()
            size = self._slice_bytes
            for event in self._protocol.receive(data[:size]):
                if isinstance(event, DataReceived):
                    self._on_data(event)
                else:
                    self._handle(event)
                if self._ending is not None:
                    return
            if self._protocol.pending_output:
                if self._protocol.pending_output > MAX_UNSENT_BYTES:
                    raise PeerMisbehaved(f"left {self._protocol.pending_output} bytes unread")
                self._output_waits.set()
            elapsed = time.perf_counter() - began
            if elapsed > _SLICE_SECONDS:
                self._slice_bytes = max(_MIN_SLICE_BYTES, size // 2)
            elif elapsed < _SLICE_SECONDS / 3:
                self._slice_bytes = min(RECEIVE_BYTES, size * 2)
            await self._storing.received(min(size, len(data)))
            data = data[size:]
            if data:
                await trio.lowlevel.checkpoint()

    def _on_data(self, data: DataReceived) -> None:
        peer = self._peers.get(data.channel)
        if peer is None:
            return
        peer.last_answer_at = self._heard_at
        peer.on_data(data, self._storing.answers_of(peer))

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived() | WantReceived():
                peer = self._peers.get(event.channel)
                if peer is not None:
                    if isinstance(event, WantReceived):
                        peer.remote_wants = True
                    peer.uploads.add(event)
                    self._output_waits.set()
            case HaveReceived():
                peer = self._peers.get(event.channel)
                if peer is not None:
                    peer.on_have(event)
                    peer.exchange.announced(peer)
            case UnhaveReceived():
                peer = self._peers.get(event.channel)
                if peer is not None:
                    lost = peer.on_unhave(event)
                    peer.drain(self._storing.answers_of(peer))
                    peer.exchange.lost(lost)
            case CancelReceived():
                peer = self._peers.get(event.channel)
                if peer is not None:
                    peer.uploads.cancel(event)
            case StatusReceived():
                self._on_status(event)
            case ExtensionReceived():
                peer = self._peers.get(event.channel)
                if peer is not None and peer.exchange.uploading:
                    self._extensions.receive(peer, event.name, event.payload)
            case HandshakeDone():
                self._on_handshake(event)
            case ChannelRequested():
                self._on_requested(event.discovery_key)
            case ChannelOpened():
                peer = self._peers[event.channel]
                peer.exchange.opened(peer)
            case ChannelRefused() | ChannelClosed():
                self._leave(event.channel)
            case _:
                pass  # Options are kept by the channel; Unwant changes nothing, as in the reference

    def _on_status(self, status: StatusReceived) -> None:
        peer = self._peers.get(status.channel)
        if peer is None:
            return
        peer.remote_downloading = status.downloading
        if peer.remote_uploading == status.uploading:
            return
        peer.remote_uploading = status.uploading
        if not status.uploading:
            peer.heard.set()
            peer.exchange.lost(peer.give_up_all())
        else:
            peer.exchange.announced(peer)

    def _on_handshake(self, event: HandshakeDone) -> None:
        self.remote_key = event.remote_static_key
        ending = self._host.handshaken(self)
        if ending is not None:
            self.end(ending.reason, ending.message)
            return
        if self.initiator:
            for exchange in self._host.exchanges:
                self.share(exchange)
        self.ready.set()
        logger.info("connected to %s", self.name)

    def _on_requested(self, discovery_key: bytes) -> None:
        exchange = self._host.exchange_of(discovery_key)
        if exchange is None:
            self._protocol.refuse(discovery_key)
        elif self._open(exchange) is None:
            logger.warning("refused %s to %s: it does not know the key", short(discovery_key), self.name)

    # writing

    async def _write(self) -> None:
        try:
            while self._ending is None:
                if self._output_waits.is_set():
                    self._output_waits = trio.Event()
                for peer in self._peers.values():
                    peer.flush_haves()
                output = self._protocol.take_output()
                if output:
                    await self._send(memoryview(output))
                elif not await self._answer():
                    await self._output_waits.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # what the peer sent before it left is still to be read; the reader, or the watch, meets the end
            return

    async def _send(self, output: memoryview) -> None:
        for start in range(0, len(output), SEND_BYTES):
            with trio.move_on_after(STALL_SECONDS) as scope:
                await self._stream.send_all(output[start : start + SEND_BYTES])
            if scope.cancelled_caught:
                self.end(EndReason.MISBEHAVED, f"read nothing for {STALL_SECONDS:.0f} s")
                return
            self._sent_at = trio.current_time()

    async def _answer(self) -> bool:
        """Make some answers for every peer that waits; tell whether any did."""
        waiting = [peer for peer in self._peers.values() if peer.uploads]
        for peer in waiting:
            blocks, size_bytes = peer.uploads.blocks, peer.uploads.bytes
            await peer.uploads.answer(ANSWER_BYTES // len(waiting))
            self.uploads.add(peer.uploads.blocks - blocks, peer.uploads.bytes - size_bytes, trio.current_time())
        return bool(waiting)

    # watching

    async def _watch(self) -> None:
        while True:
            now = trio.current_time()
            due = self._heard_at + DEAD_SECONDS
            if now >= due or (self.remote_key is None and now >= self._began_at + HANDSHAKE_SECONDS):
                self.end(EndReason.TIMED_OUT, "heard nothing of it for too long")
            if now - self._sent_at >= KEEP_ALIVE_SECONDS:
                self._sent_at = now
                self._protocol.send_keep_alive()
                self._output_waits.set()
            due = min(due, self._sent_at + KEEP_ALIVE_SECONDS)
            self._stirred = trio.Event()
            for peer in list(self._peers.values()):
                if now - peer.joined_at >= DEAD_SECONDS:
                    peer.heard.set()
                asked_at = peer.oldest_question()
                if asked_at is None:
                    continue
                due = min(due, now + _TICK_SECONDS)
                waiting_since = max(asked_at, peer.last_answer_at)
                if peer.deadline.has_passed(waiting_since, now, self._heard_bytes):
                    self.end(EndReason.TIMED_OUT, f"left a request unanswered for {now - waiting_since:.0f} s")
                peer.exchange.hedge(peer, now)
            await trio.sleep(max(0.0, due - now)) if due <= now + _TICK_SECONDS else await self._idle(due)

    async def _idle(self, due: float) -> None:
        with trio.move_on_at(due):
            await self._stirred.wait()
