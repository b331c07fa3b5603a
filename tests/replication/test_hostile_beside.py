"""What peers do that want nothing but harm: how long a download beside takes, and what they have us hold.

The lines and the clock are made up, so what is measured is whose turn it is, and not how long our own work takes: to
keep that short has its own tests (`tests.replication.test_work_bounds`, `tests.machines.test_hostile_peer`).
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

from hyperfs import rle, varint
from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.protocol import codec
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.frames import MessageType, encode_frame
from hyperfs.replication import Replicator
from hyperfs.replication.extensions import QUESTIONS_AT_ONCE
from hyperfs.replication.watch import HANDSHAKE_SECONDS
from hyperfs.storage import MemoryDirectory
from hyperfs.trie import HypertrieExtension, messages_pb2
from tests.support.peers import ScriptedPeer, join_far, nursery_to_cancel, reader, scripted, serving, writer

COUNT = 60
BLOCK_BYTES = 16 << 10
RATE = 2e6
"""Of the good server's line, in bits a second."""
ROUND_TRIP = 0.02
ALONE_SECONDS = COUNT * BLOCK_BYTES * 8 / RATE + 2 * ROUND_TRIP
SLOWER = 1.2
OURS = key_pair(b"ours".ljust(32, b"."))
OUR_BLOCKS = 100
DRIPPING = 20
LAST_PAGE = (1 << 53) - 8192
MEBIBYTE = 1 << 20

Deed = Callable[[trio.Nursery, Replicator], Awaitable[None]]


def unread(nursery: trio.Nursery, replicator: Replicator) -> ScriptedPeer:
    """Connect over a stream that holds nothing: what is not read blocks its sender."""
    left, right = trio.testing.lockstep_stream_pair()
    nursery.start_soon(lambda: replicator.run(right, initiator=False, name="hostile:1"))
    return ScriptedPeer(left)


async def send(peer: ScriptedPeer) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await peer.send()


async def ask_for_everything_and_read_nothing(nursery: trio.Nursery, replicator: Replicator) -> None:
    await share_our_core(replicator)
    peer = unread(nursery, replicator)
    channel = await peer.open(OURS.public)
    for index in range(OUR_BLOCKS):
        channel.send_request(index)
    nursery.start_soon(send, peer)


async def open_unknown_keys(nursery: trio.Nursery, replicator: Replicator) -> None:
    peer = scripted(nursery, replicator)
    await peer.handshake()
    for number in range(1, 10_001):
        body = codec.encode_open(number.to_bytes(32, "big"), bytes(32))
        peer.protocol._output.write(encode_frame(number, MessageType.OPEN, body))
    nursery.start_soon(send, peer)


async def want_what_no_core_has(nursery: trio.Nursery, replicator: Replicator) -> None:
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    for number in range(2000):
        channel.send_want(LAST_PAGE - 8192 * number, 8192)
        channel.send_want(8192 * number, LAST_PAGE)
    nursery.start_soon(send, peer)


async def want_more_than_numbers_hold(nursery: trio.Nursery, replicator: Replicator) -> None:
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    channel.send_want(1 << 53, 8192)
    await send(peer)
    await peer.ended.wait()


async def question_in_a_loop(nursery: trio.Nursery, replicator: Replicator) -> None:
    peer = scripted(nursery, replicator)
    channel = await peer.open(extensions=("hypertrie",))
    get = messages_pb2.Extension.Get(head=COUNT, key=b"deep/" * 40)
    question = messages_pb2.Extension(get=get).SerializeToString()
    for _ in range(100 * QUESTIONS_AT_ONCE):
        channel.send_extension("hypertrie", question)
    nursery.start_soon(send, peer)


async def announce_bombs(nursery: trio.Nursery, replicator: Replicator) -> None:
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    mixed = rle.encode(b"\xaa\x55\x00\x55" * (1 << 15))
    for page in range(40):
        channel.send_have(page << 20, 1 << 20, bitfield=mixed)
    nursery.start_soon(send, peer)


async def announce_a_bomb_without_end(nursery: trio.Nursery, replicator: Replicator) -> None:
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    channel.send_have(0, 1 << 20, bitfield=varint.encode((1 << 50) | 3))
    await send(peer)
    await peer.ended.wait()


async def shake_hands_a_byte_a_second(nursery: trio.Nursery, replicator: Replicator) -> None:
    async def drip() -> None:
        near, far = trio.testing.memory_stream_pair()
        hello = bytes(Connection(initiator=True).take_output())
        nursery.start_soon(lambda: replicator.run(far, initiator=False, name="hostile:1"))
        with suppress(trio.BrokenResourceError):
            for at in range(len(hello)):
                await near.send_all(hello[at : at + 1])
                await trio.sleep(1)

    for _ in range(DRIPPING):
        nursery.start_soon(drip)


async def connect_a_thousand_times(nursery: trio.Nursery, replicator: Replicator) -> None:
    for _ in range(1000):
        _, far = trio.testing.memory_stream_pair()
        nursery.start_soon(lambda stream=far: replicator.run(stream, initiator=False, name="hostile:1"))


async def share_our_core(replicator: Replicator) -> None:
    core = await Core.open(MemoryDirectory(), key_pair=OURS)
    await core.append([os.urandom(8) * 8192] * OUR_BLOCKS)
    await core.sync()
    replicator.add_core(core)


@pytest.mark.parametrize(
    ("deed", "held_bytes"),
    [
        (ask_for_everything_and_read_nothing, MEBIBYTE),
        (open_unknown_keys, 2 * MEBIBYTE),
        (want_what_no_core_has, 4 * MEBIBYTE),
        (want_more_than_numbers_hold, MEBIBYTE),
        (question_in_a_loop, MEBIBYTE),
        (announce_bombs, 6 * MEBIBYTE),
        (announce_a_bomb_without_end, MEBIBYTE),
        (shake_hands_a_byte_a_second, MEBIBYTE),
        (connect_a_thousand_times, 5 * MEBIBYTE),
    ],
)
async def test_it_costs_a_download_less_than_a_fifth_and_little_memory(
    deed: Deed, held_bytes: int, patient_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicator = Replicator(extensions=[HypertrieExtension()])
    most_bytes = 0
    note = replicator.memory.note

    def noted(link: object) -> None:
        nonlocal most_bytes
        note(link)
        most_bytes = max(most_bytes, replicator.memory.held_bytes - _of_the_good(replicator))

    monkeypatch.setattr(replicator.memory, "note", noted)
    async with nursery_to_cancel() as nursery:
        core = await reader(replicator)
        theirs = await writer(0, blocks=[bytes([index]) * BLOCK_BYTES for index in range(COUNT)])
        await deed(nursery, replicator)
        start = trio.current_time()
        join_far(nursery, replicator, serving(theirs), round_trip=ROUND_TRIP, rate=RATE)
        await core.fetch([range(COUNT)])
        assert trio.current_time() - start <= SLOWER * ALONE_SECONDS
        await trio.testing.wait_all_tasks_blocked()
        assert most_bytes <= held_bytes


def _of_the_good(replicator: Replicator) -> int:
    return sum(link.held_bytes for link in replicator._links if link.name == "far:1")


async def test_who_shakes_hands_a_byte_a_second_is_not_waited_for(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator()
    async with nursery_to_cancel() as nursery:
        await shake_hands_a_byte_a_second(nursery, replicator)
        await trio.sleep(1)
        there = len(replicator._links)
        await trio.sleep(HANDSHAKE_SECONDS)
        assert (there, len(replicator._links)) == (DRIPPING, 0)
