"""Replicators joined in one process, and a peer that says whatever a test wants.

The rule: nothing here waits for a clock. `join` connects two replicators over memory streams; `ScriptedPeer` does an
honest handshake with the project's own protocol and from there on sends what it is told to, true or not.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import ChannelOpened, Event, HandshakeDone, RequestReceived, WantReceived
from hyperfs.protocol.noise import NoiseKeyPair
from hyperfs.replication import Ending, Follow, Replicator
from hyperfs.storage import MemoryDirectory
from hyperfs.trie import HypertrieExtension

from .clocks import settled
from .line import Conditions, Line

KEY_PAIR = key_pair(b"replicated".ljust(32, b"."))
LIMIT_SECONDS = 60.0
_PIECE_BYTES = 16384
_ENDLESS = 1 << 60
"""A stream's line drops nothing."""
_E = TypeVar("_E")


def block(index: int) -> bytes:
    """Return what block ``index`` of a core made by `writer` holds."""
    return b"block %d" % index


async def writer(count: int, *, blocks: Iterable[bytes] | None = None) -> Core:
    """Return a writable core in memory of ``count`` blocks, or of ``blocks``, that is durable."""
    core = await Core.open(MemoryDirectory(), key_pair=KEY_PAIR)
    await core.append([block(index) for index in range(count)] if blocks is None else list(blocks))
    await core.sync()
    return core


async def reader(replicator: Replicator, *, follow: Follow = Follow.NOTHING) -> Core:
    """Return an empty reader's core in memory, shared by and reading from ``replicator``."""
    core = await Core.open(MemoryDirectory(), key=KEY_PAIR.public, source=replicator)
    replicator.add_core(core, follow=follow)
    return core


def serving(core: Core) -> Replicator:
    """Return a replicator that shares ``core``."""
    replicator = Replicator(extensions=[HypertrieExtension()])
    replicator.add_core(core, follow=Follow.NOTHING)
    return replicator


class Joined:
    """Two replicators, connected: the ``dialler`` and the ``listener``; how it ended on each side once it has."""

    def __init__(self) -> None:
        self.dialler_ending: Ending | None = None
        self.listener_ending: Ending | None = None
        self.over = trio.Event()
        self._scope = trio.CancelScope()

    def cut(self) -> None:
        """Break the connection."""
        self._scope.cancel()


def join(
    nursery: trio.Nursery,
    dialler: Replicator,
    listener: Replicator,
    *,
    dialled: str = "listener:1",
    accepted: str = "dialler:1",
    is_tcp: bool = True,
) -> Joined:
    """Connect two replicators over memory streams until either ends it, or ``nursery`` does."""
    joined = Joined()
    left, right = trio.testing.memory_stream_pair()

    async def run_dialler() -> None:
        joined.dialler_ending = await dialler.run(left, initiator=True, name=dialled, is_tcp=is_tcp)

    async def run_listener() -> None:
        joined.listener_ending = await listener.run(right, initiator=False, name=accepted, is_tcp=is_tcp)

    async def run() -> None:
        with joined._scope:
            async with trio.open_nursery() as both:
                both.start_soon(run_dialler)
                both.start_soon(run_listener)
        joined.over.set()

    nursery.start_soon(run)
    return joined


@asynccontextmanager
async def nursery_to_cancel() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that is cancelled when its block ends, and a limit within which everything has to happen."""
    with trio.fail_after(LIMIT_SECONDS):
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()


class ScriptedPeer:
    """The dialler of a connection to ``replicator``, made by `scripted`: it does nothing by itself."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.key = NoiseKeyPair.generate()
        self.protocol = Connection(initiator=True, static_key=self.key)
        self.ending: Ending | None = None
        self.ended = trio.Event()
        self._events: list[Event] = []

    async def send(self) -> None:
        """Send what the protocol has to say."""
        await self.stream.send_all(bytes(self.protocol.take_output()))

    async def send_bytes(self, data: bytes) -> None:
        """Send plain bytes, encrypted as the stream is."""
        self.protocol._output.write(data)
        await self.send()

    async def next(self, kind: type[_E]) -> _E:
        """Return the next event of a ``kind``, leaving out others before it; EndOfChannel when there is none."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, kind):
                    return event
            if self.protocol.pending_output:
                await self.send()
            data = await self.stream.receive_some(65536)
            if not data:
                raise trio.EndOfChannel
            self._events += self.protocol.receive(data)

    async def hears_no(self, kind: type[_E]) -> None:
        """Fail if an event of a ``kind`` comes before there is nothing more to do; leave out what else comes."""
        heard = []

        async def listen() -> None:
            heard.append(await self.next(kind))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await settled()
            nursery.cancel_scope.cancel()
        assert heard == []

    async def handshake(self) -> None:
        """Do the handshake."""
        await self.next(HandshakeDone)
        await self.send()

    async def open(self, key: bytes = KEY_PAIR.public, *, extensions: tuple[str, ...] = ()) -> Channel:
        """Do the handshake and open the channel of a core both ways."""
        await self.handshake()
        channel = self.protocol.open_channel(key, extensions=extensions)
        assert channel is not None
        if channel.is_open:  # the other side was first
            await self.send()
        else:
            await self.next(ChannelOpened)
        return channel

    async def announce(self, channel: Channel, length: int, *, wants: int = 1) -> None:
        """Claim to have ``length`` blocks, and answer the first Wants so."""
        for _ in range(wants):
            want = await self.next(WantReceived)
            assert want.length is not None
            full = bytes([2 << 2 | 3]) if length else b""
            channel.send_have(want.start, want.length, bitfield=b"" if length else full)
        if length:
            channel.send_have(0, length)
        await self.send()

    async def serve(
        self,
        channel: Channel,
        core: Core,
        *,
        change: Callable[[Channel, RequestReceived], Awaitable[bool]] | None = None,
    ) -> None:
        """Answer requests from ``core`` until the connection ends; ``change`` may answer instead, and says so."""
        while True:
            request = await self.next(RequestReceived)
            if change is None or not await change(channel, request):
                await self.answer(channel, core, request)
            await self.send()

    async def answer(self, channel: Channel, core: Core, request: RequestReceived) -> None:
        """Answer a request honestly."""
        proof = await core.proof(request.index, digest=request.digest, hash_only=request.hash_only)
        value = None if request.hash_only else await core.get(request.index)
        channel.send_data(request.index, value, proof.nodes, proof.signature)


def scripted(nursery: trio.Nursery, replicator: Replicator, *, name: str = "hostile:1") -> ScriptedPeer:
    """Connect a scripted peer to ``replicator``, which knows it as ``name``."""
    left, right = trio.testing.memory_stream_pair()
    peer = ScriptedPeer(left)

    async def run() -> None:
        peer.ending = await replicator.run(right, initiator=False, name=name)
        peer.ended.set()

    nursery.start_soon(run)
    return peer


async def carry(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, line: Line) -> None:
    """Carry bytes from ``source`` over a line to ``sink``, any number of pieces under way."""
    more = trio.Event()

    async def read() -> None:
        while data := await source.receive_some(_PIECE_BYTES):
            line.put(trio.current_time(), bytes(data))
            more.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        while True:
            while (due := line.next_arrival) is not None:
                await trio.sleep_until(due)
                while (data := line.take(trio.current_time())) is not None:
                    await sink.send_all(data)
            more = trio.Event()
            await more.wait()


def join_far(
    nursery: trio.Nursery, dialler: Replicator, listener: Replicator, *, round_trip: float, rate: float | None = None
) -> None:
    """Connect two replicators over a line on which an answer takes ``round_trip`` seconds.

    ``rate`` is in bits a second, any unless given. The clock is to be a virtual one.
    """
    left, right = far_streams(nursery, round_trip=round_trip, rate=rate)
    nursery.start_soon(lambda: dialler.run(left, initiator=True, name="far:1"))
    nursery.start_soon(lambda: listener.run(right, initiator=False, name="far:2"))


def far_streams(
    nursery: trio.Nursery, *, round_trip: float, rate: float | None = None
) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Return both ends of a line as for `join_far`; who carries on it ends with either end."""
    left, left_end = trio.testing.memory_stream_pair()
    right_end, right = trio.testing.memory_stream_pair()
    conditions = Conditions(round_trip, rate, queue_bytes=_ENDLESS)

    async def carry_both() -> None:
        try:
            async with trio.open_nursery() as both:
                both.start_soon(carry, left_end, right_end, Line(conditions))
                both.start_soon(carry, right_end, left_end, Line(conditions))
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    nursery.start_soon(carry_both)
    return left, right
