"""A peer that speaks the protocol correctly, and then bends one field, one order, one size of what it says.

It knows the keys, has what it says that it has, answers what it is asked; and in between it says whatever chance makes
of any message. Whatever that is, no turn of a task of ours is long, little memory is taken, nothing is kept that does
not verify, an honest peer that is connected meanwhile is neither dropped nor blamed, and everything that is wanted
comes in the end.
"""

import gc
import random
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import trio
import trio.testing

from hyperfs import rle, varint
from hyperfs.core.core import Core
from hyperfs.core.reader import Priority
from hyperfs.crypto import KeyPair, key_pair
from hyperfs.errors import HyperfsError, PeerMisbehaved
from hyperfs.protocol import codec
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import (
    ChannelClosed,
    ChannelOpened,
    ChannelRequested,
    Event,
    HandshakeDone,
    RequestReceived,
    WantReceived,
)
from hyperfs.protocol.frames import MAX_FRAME_BYTES, encode_frame
from hyperfs.replication import Ending, Follow, Replicator
from hyperfs.storage import MemoryDirectory
from hyperfs.trie import Header, HypertrieExtension, NodeCache, Put, Trie, encode_batch, messages_pb2
from tests.support.scheduling import Schedule
from tests.support.sparse_core import SparseCore
from tests.support.turns import STEPS_A_MILLISECOND, TurnMeter, bounded_memory, measure

SEEDS = 20
TURN_MILLISECONDS = 20
"""No turn may be longer."""
_MEMORY_BYTES = 256 << 20
"""What a run may take beyond what the process has, as address space; the peer's own buffers are in it."""
_BLOCKS, _OUR_BLOCKS = 600, 100
_WAITS_SECONDS = 120
"""How long, by the clock of the run, what is wanted may take to come."""
_NUMBERS = [
    *(0, 0, 1, 1, 2, 7, 63, 300, _BLOCKS - 1, _BLOCKS, _BLOCKS + 1, 8191, 8192, 8193, 1 << 16, (1 << 20) - 1, 1 << 20),
    *((1 << 32) - 1, 1 << 32, (1 << 32) + 8192, 1 << 44, 1 << 50, (1 << 53) - 1),
]
_TOO_LARGE = [1 << 53, (1 << 64) - 1]
_SAID_BYTES = 1 << 20
"""What is said of one thing, however often that is to be."""
_REPEATED = [*(1,) * 12, 2, 3, 40, 400, 3000]
OWNER, WRITER = key_pair(b"hostile owner".ljust(32)), key_pair(b"our own".ljust(32))


def run(seed: int) -> str:
    """Make one run, and return what was done."""
    for count in (_BLOCKS, _OUR_BLOCKS):
        _blocks(count)
    meter = TurnMeter()
    schedule = Schedule(seed)
    machine = Machine(schedule.chance, schedule.told, meter)
    with bounded_memory(_MEMORY_BYTES), meter.counting():
        schedule.run(machine.run)
    milliseconds = meter.longest / STEPS_A_MILLISECOND
    schedule.tell(f"the longest turn took {meter.longest} steps, {milliseconds:.1f} ms, in {meter.longest_in}")
    assert milliseconds <= TURN_MILLISECONDS, "\n".join(schedule.told)
    return "\n".join(schedule.told)


def timed(seed: int) -> float:
    """Make one run, not measured in steps, and return the milliseconds of the longest turn by the processor's clock."""
    for count in (_BLOCKS, _OUR_BLOCKS):
        _blocks(count)
    meter = TurnMeter()
    schedule = Schedule(seed)
    gc.collect()
    gc.freeze()  # what the process had before is not the run's garbage
    with bounded_memory(_MEMORY_BYTES):
        schedule.run(Machine(schedule.chance, schedule.told, meter).run)
    return meter.longest_milliseconds


@cache
def _blocks(count: int) -> list[bytes]:
    """Return the blocks of a trie, ``count`` of them."""

    async def make() -> list[bytes]:
        core = SparseCore([Header(None, "x").encode()])
        keys = [f"{'deep/' * (number % 20)}folder{number % 9}/name{number}" for number in range(count - 1)]
        return core.blocks + await encode_batch(Trie(core, 1, NodeCache()), [Put(key, b"value") for key in keys])

    return trio.run(make)


async def _core(pair: KeyPair, count: int) -> Core:
    core = await Core.open(MemoryDirectory(), key_pair=pair)
    await core.append(_blocks(count))
    await core.sync()
    return core


class Machine:
    """One run."""

    def __init__(self, chance: random.Random, told: list[str], meter: TurnMeter) -> None:
        self.chance = chance
        self.told = told
        self.meter = meter

    async def run(self) -> None:
        trio.lowlevel.add_instrument(self.meter)
        theirs, ours = await _core(OWNER, _BLOCKS), await _core(WRITER, _OUR_BLOCKS)
        replicator = Replicator(extensions=[HypertrieExtension()])
        mine = await Core.open(MemoryDirectory(), key=OWNER.public, source=replicator)
        replicator.add_core(mine, follow=self.chance.choice(list(Follow)))
        replicator.add_core(ours)
        honest = Replicator(extensions=[HypertrieExtension()])
        honest.add_core(theirs)
        endings: dict[str, Ending] = {}
        hostile_ended = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                peer_at, hostile_at = trio.testing.memory_stream_pair()

                async def connect(stream: trio.abc.Stream, name: str) -> None:
                    measure()
                    endings[name] = await replicator.run(stream, initiator=False, name=name)
                    if name == "hostile":
                        hostile_ended.set()

                nursery.start_soon(connect, hostile_at, "hostile")
                good, other = trio.testing.memory_stream_pair()
                nursery.start_soon(connect, good, "honest")
                nursery.start_soon(lambda: honest.run(other, initiator=True, name="us"))
                hostile = Hostile(self, peer_at, theirs, ours)
                nursery.start_soon(hostile.run)
                nursery.start_soon(self.read, mine, hostile.over)
                await hostile.over.wait()
                await peer_at.aclose()
                with trio.move_on_after(_WAITS_SECONDS) as waiting:
                    await mine.fetch([range(_BLOCKS)])
                assert not waiting.cancelled_caught, f"{list(mine.missing(0, _BLOCKS))} never came: {endings}"
                for index in range(_BLOCKS):
                    assert await mine.get(index) == await theirs.get(index)
                # what it had sent is worked on after what the other brings
                with trio.move_on_after(_WAITS_SECONDS):
                    await hostile_ended.wait()
                await trio.testing.wait_all_tasks_blocked()
                assert "honest" not in endings, endings["honest"]
                status = replicator.status()
                assert [core.in_flight for core in status.cores] == [0, 0]
                nursery.cancel_scope.cancel()
        finally:
            for core in (mine, ours, theirs):
                await core.close()
        ending = endings["hostile"]
        self.told.append(f"it ended: {ending.reason.value}, {ending.message:.200}")
        assert not ending.message.startswith("failed"), ending.message

    async def read(self, core: Core, until: trio.Event) -> None:
        """Want what chance says, some of it not for long, as long as the hostile peer is there."""
        measure()
        chance = self.chance
        async with trio.open_nursery() as nursery:
            while not until.is_set():
                with trio.move_on_after(chance.choice([0.0, 0.0, 1.0, 5.0])):
                    kind = chance.randrange(6)
                    if kind == 0:
                        await core.update()
                    elif kind == 1 and core.byte_length:
                        await core.seek(chance.randrange(core.byte_length))
                    elif kind == 2:
                        await core.fetch([range(chance.choice(_NUMBERS))])
                    else:
                        every = chance.choice([1, 1, 2, 3])
                        start = chance.randrange(_BLOCKS)
                        blocks = [range(at, at + 1) for at in range(start, min(_BLOCKS, start + 100), every)]
                        await core.fetch(blocks, priority=chance.choice(list(Priority)))
                await trio.sleep(chance.choice([0.0, 0.01, 0.1]))
            nursery.cancel_scope.cancel()


class Hostile:
    """The peer: the honest side of it runs beside the other, on one connection."""

    def __init__(self, machine: Machine, stream: trio.abc.Stream, theirs: Core, ours: Core) -> None:
        self.chance = machine.chance
        self.told = machine.told
        self.stream = stream
        self.cores = {theirs.key: theirs, ours.key: ours}
        self.theirs = theirs
        self.protocol = Connection(initiator=True)
        self.channels: list[Channel] = []
        self.over = trio.Event()
        self.honesty = self.chance.choice([0.2, 0.8, 1.0])
        self.requests: list[RequestReceived] = []
        self._sending = trio.Lock()

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen)
                await self._speak()
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, PeerMisbehaved):
            pass  # it was dropped
        finally:
            self.over.set()

    async def _flush(self) -> None:
        async with self._sending:
            output = self.protocol.take_output()
            if output:
                await self.stream.send_all(bytes(output))

    # the honest side

    async def _listen(self) -> None:
        await self._flush()
        while data := await self.stream.receive_some(65536):
            for event in self.protocol.receive(data):
                await self._answer(event)
            await self._flush()
        raise trio.BrokenResourceError

    async def _answer(self, event: Event) -> None:
        match event:
            case HandshakeDone():
                for key in self.cores:
                    self._open(key)
            case ChannelRequested():
                for key, core in self.cores.items():
                    if core.discovery_key == event.discovery_key:
                        self._open(key)
            case ChannelOpened():
                self.channels.append(event.channel)
            case ChannelClosed():
                if event.channel in self.channels:
                    self.channels.remove(event.channel)
            case WantReceived() if self.chance.random() < self.honesty and event.length is not None:
                if event.channel.key == self.theirs.key and event.start == 0:
                    bits = b"\xff" * (_BLOCKS // 8)
                    event.channel.send_have(event.start, event.length, bitfield=rle.encode(bits))
                    event.channel.send_have(_BLOCKS - 1)
            case RequestReceived() if event.channel.key == self.theirs.key:
                self.requests.append(event)
                if self.chance.random() < self.honesty:
                    await self._give(event)

    def _open(self, key: bytes) -> None:
        channel = self.protocol.open_channel(key, extensions=("hypertrie", "x"))
        if channel is not None and channel.is_open and channel not in self.channels:
            self.channels.append(channel)

    async def _give(self, request: RequestReceived) -> None:
        try:
            value = None if request.hash_only else await self.theirs.get(request.index)
            proof = await self.theirs.proof(request.index, digest=request.digest, hash_only=request.hash_only)
        except (HyperfsError, IndexError):
            request.channel.send_unhave(request.index)
            return
        request.channel.send_data(request.index, value, proof.nodes, proof.signature)

    # the other side

    async def _speak(self) -> None:
        while not self.channels:
            await trio.lowlevel.checkpoint()
        for _ in range(self.chance.randrange(3, 20)):
            for _ in range(self.chance.choice([0, 1, 5, 30])):
                await trio.lowlevel.checkpoint()
            bend = self.chance.choice(
                [
                    *(self._have, self._have, self._unhave, self._want, self._request, self._cancel, self._status),
                    *(self._data, self._data, self._bent_data, self._bent_data, self._extension, self._extension),
                    *(self._options, self._reopen, self._raw, self._body),
                ]
            )
            times = self.chance.choice(_REPEATED)
            self.told.append(f"{bend.__name__} {times} times")
            await self._say(bend, times)
            await self._flush()
            if self.chance.random() < 0.2:
                await trio.sleep(self.chance.choice([0.1, 1.0, 6.0]))

    async def _say(self, bend: Callable[[Channel], Any], times: int) -> None:
        same = self.chance.random() < 0.5
        sent_bytes = 0
        state = self.chance.getstate()
        for _ in range(times):
            if not self.channels or sent_bytes > _SAID_BYTES:
                return
            before = self.protocol.pending_output
            if same:
                self.chance.setstate(state)
            try:
                said = bend(self.chance.choice(self.channels))
                if said is not None:
                    await said
            except (ValueError, RuntimeError):
                pass  # our own side refuses to say that
            sent_bytes += max(0, self.protocol.pending_output - before)
            if self.protocol.pending_output > 1 << 20:
                await self._flush()

    def _number(self) -> int:
        kind = self.chance.random()
        if kind < 0.001:
            return self.chance.choice(_TOO_LARGE)
        return self.chance.choice(_NUMBERS) if kind < 0.6 else self.chance.randrange(2 * _BLOCKS)

    def _write(self, channel: Channel, message_type: int, body: bytes) -> None:
        self.protocol._output.write(encode_frame(channel.local_number, message_type, body))

    def _have(self, channel: Channel) -> None:
        chance = self.chance
        if chance.random() < 0.5:
            channel.send_have(self._number(), self._number())
            return
        bitfield = chance.choice(
            [
                lambda: rle.encode(chance.randbytes(chance.choice([1, 100, 5000]))),
                lambda: b"\x01" * chance.choice([1, 1000, 200_000]),
                lambda: b"\x05" * chance.choice([1, 1000, 131_072]),
                lambda: varint.encode(chance.choice([1 << 19, 1 << 40, (1 << 64) - 1]) | 3),
                lambda: chance.randbytes(30),
                lambda: b"",
            ]
        )()
        channel.send_have(self._number() & ~8191, max(2, self._number()), bitfield=bitfield)

    def _unhave(self, channel: Channel) -> None:
        channel.send_unhave(self._number(), self._number())

    def _want(self, channel: Channel) -> None:
        length = self.chance.choice([None, self._number(), self._number() & ~8191])
        self.chance.choice([channel.send_want, channel.send_want, channel.send_unwant])(self._number() & ~8191, length)

    def _request(self, channel: Channel) -> None:
        chance = self.chance
        channel.send_request(
            self._number(),
            digest=chance.choice([0, 0, 1, chance.getrandbits(20), (1 << 64) - 1]),
            byte_offset=chance.choice([0, 0, 0, self._number()]),
            hash_only=chance.random() < 0.3,
        )

    def _cancel(self, channel: Channel) -> None:
        channel.send_cancel(self._number(), hash_only=self.chance.random() < 0.3)

    def _status(self, channel: Channel) -> None:
        channel.send_status(uploading=self.chance.random() < 0.7, downloading=self.chance.random() < 0.7)

    def _options(self, channel: Channel) -> None:
        names = self.chance.choice([["hypertrie"], [], ["x"] * 256, ["x" * 256], ["hypertrie", "hypertrie"]])
        self._write(channel, 1, codec.encode_options(names, ack=self.chance.random() < 0.5))

    def _data(self, channel: Channel) -> None:
        """Say something that was not asked for, or ask for nothing else again."""
        if self.requests:
            self.requests.append(self.chance.choice(self.requests))
        value = self.chance.choice([None, b"", b"x" * self.chance.choice([1, 100, 70_000])])
        channel.send_data(self._number(), value, (), self.chance.choice([None, bytes(64)]))

    async def _bent_data(self, channel: Channel) -> None:
        """Answer a question of theirs, with one thing that is not as it should be, or not even that."""
        chance = self.chance
        if not self.requests:
            return
        request = chance.choice(self.requests[-50:])
        try:
            value: bytes | None = await self.theirs.get(request.index)
            proof = await self.theirs.proof(request.index, digest=request.digest)
        except (HyperfsError, IndexError):
            return
        index, nodes, signature = request.index, list(proof.nodes), proof.signature
        bend = chance.randrange(10)
        if bend == 0:
            index = self._number()
        elif bend == 1:
            value = chance.choice([None, b"", value, bytes(70_000)])
        elif bend == 2 and nodes:
            nodes.pop(chance.randrange(len(nodes)))
        elif bend == 3:
            chance.shuffle(nodes)
        elif bend == 4 and nodes:
            at = chance.randrange(len(nodes))
            nodes[at] = nodes[at]._replace(size=self._number())
        elif bend == 5 and nodes:
            at = chance.randrange(len(nodes))
            nodes[at] = nodes[at]._replace(tree_index=self._number())
        elif bend == 6:
            signature = chance.choice([None, bytes(64), chance.randbytes(64)])
        elif bend == 7:
            nodes = nodes * chance.choice([2, 20, 200])
        channel.send_data(index, value, nodes, signature)

    def _extension(self, channel: Channel) -> None:
        chance = self.chance
        key = chance.choice(
            [b"folder3/name3", b"", b"a/" * chance.choice([1, 30, 2000, 32_000]), b"\xff\xfe", b"deep/" * 40]
        )
        head = self._number() & (1 << 63) - 1
        iterator = messages_pb2.Extension.Iterator
        make = chance.choice(
            [
                lambda: messages_pb2.Extension(get=messages_pb2.Extension.Get(head=head, key=key)),
                lambda: messages_pb2.Extension(iterator=iterator(head=head, key=key, flags=chance.randrange(16))),
                lambda: messages_pb2.Extension(iterator=iterator(head=head, key=b"", checkpoint=self._checkpoint())),
                lambda: messages_pb2.Extension(
                    cache=messages_pb2.Extension.Cache(
                        start=0, end=1, blocks=[self._number() for _ in range(chance.choice([1, 128, 30_000]))]
                    )
                ),
            ]
        )
        if chance.random() < 0.1:
            payload = chance.randbytes(chance.choice([1, 30, 200_000]))
        else:
            payload = make().SerializeToString()
        channel.send_extension(chance.choice(["hypertrie", "hypertrie", "x"]), payload)

    def _checkpoint(self) -> bytes:
        return b"".join(varint.encode(self._number()) for _ in range(self.chance.choice([0, 1, 2, 40, 40, 3000])))

    def _reopen(self, channel: Channel) -> None:
        chance = self.chance
        kind = chance.randrange(4)
        if kind == 0:
            channel.close()
            if channel in self.channels:
                self.channels.remove(channel)
            self._open(channel.key)
        elif kind == 1:
            self.protocol.open_channel(chance.randbytes(32))
        elif kind == 2:
            body = codec.encode_open(chance.choice(list(self.cores.values())).discovery_key, bytes(32))
            self.protocol._output.write(encode_frame(self.protocol._take_number(), 0, body))
        else:
            self.protocol.send_keep_alive()

    def _raw(self, channel: Channel) -> None:
        chance = self.chance
        data = chance.choice(
            [
                lambda: b"\x00" * chance.choice([1, 1000, 200_000]),
                lambda: encode_frame(chance.choice([0, 1, channel.local_number, 1 << 30]), chance.randrange(16), b""),
                lambda: varint.encode(chance.choice([MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, 1 << 63])),
                lambda: chance.randbytes(chance.choice([1, 20, 1000])),
            ]
        )()
        self.protocol._output.write(data)

    def _body(self, channel: Channel) -> None:
        """Send a message whose body is a field or more, any number of times."""
        chance = self.chance
        fields = [
            *(
                b"\x08" + varint.encode(self._number()),
                b"\x10" + varint.encode(self._number()),
                b"\x1a\x00",
                b"\x12\x00",
            ),
            *(b"\x0a\x20" + bytes(32), b"\x22\x40" + bytes(64), b"\x1a\x02\x08\x00", b"\x20\x01", b"\xfa\x01\x00"),
        ]
        body = b"".join(chance.choice(fields) for _ in range(chance.choice([1, 2, 3, 6])))
        self._write(channel, chance.randrange(16), body * chance.choice([1, 1, 1, 100, 10_000]))


def main() -> None:
    """Print the longest turns of many runs by the processor's clock: give the first seed, and how many."""
    first, count = map(int, sys.argv[1:3])
    longest = 0.0
    began = time.monotonic()
    for seed in range(first, first + count):
        milliseconds = timed(seed)
        if milliseconds > longest:
            longest = milliseconds
            print(f"seed {seed}: a turn of {milliseconds:.1f} ms", flush=True)
    print(f"{count} runs in {time.monotonic() - began:.0f} s, the longest turn {longest:.1f} ms")


if __name__ == "__main__":
    main()
