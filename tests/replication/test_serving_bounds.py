"""Whoever reads slowly, or never, costs little."""

import os
from contextlib import suppress

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import ChannelOpened, DataReceived
from hyperfs.replication import EndReason, Replicator, link
from hyperfs.replication.link import ANSWER_BYTES
from hyperfs.replication.uploads import MAX_QUESTIONS
from hyperfs.storage import MemoryDirectory
from tests.support.clocks import settled
from tests.support.peers import ScriptedPeer, serving, writer

BLOCK_BYTES = 65536


async def connect(nursery: trio.Nursery, replicator: Replicator, name: str) -> ScriptedPeer:
    """Connect over a stream that holds nothing: what is not read blocks its sender."""
    left, right = trio.testing.lockstep_stream_pair()
    peer = ScriptedPeer(left)

    async def run() -> None:
        peer.ending = await replicator.run(right, initiator=False, name=name)
        peer.ended.set()

    nursery.start_soon(run)
    return peer


async def big_writer() -> Core:
    return await writer(0, blocks=[os.urandom(8) * (BLOCK_BYTES // 8) for _ in range(200)])


async def test_answers_are_made_only_as_fast_as_they_are_read(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    take = Connection.take_output

    def note(connection: Connection) -> bytearray:
        output = take(connection)
        taken.append(len(output))
        return output

    monkeypatch.setattr(Connection, "take_output", note)
    core = await big_writer()
    replicator = serving(core)
    peers = [await connect(nursery, replicator, f"slow:{number}") for number in range(10)]
    for peer in peers:
        channel = await peer.open()
        for index in range(200):
            channel.send_request(index)
        await peer.send()
    taken.clear()
    await settled()
    # of 200 blocks asked by each, about one helping is under way, and nothing more is in memory
    assert sum(taken) <= len(peers) * (ANSWER_BYTES + 2 * BLOCK_BYTES)
    assert all(link._protocol.pending_output == 0 for link in replicator._links)


async def test_a_slow_reader_does_not_hold_up_a_fast_one(nursery: trio.Nursery) -> None:
    replicator = serving(await big_writer())
    slow = await connect(nursery, replicator, "slow:1")
    channel = await slow.open()
    for index in range(200):
        channel.send_request(index)
    await slow.send()
    fast = await connect(nursery, replicator, "fast:1")
    channel = await fast.open()
    for index in range(200):
        channel.send_request(index)
    await fast.send()
    received = 0
    while received < 200 * BLOCK_BYTES:
        received += len(await fast.stream.receive_some(1 << 20))


async def test_a_peer_that_never_reads_is_dropped(patient_clock: trio.testing.MockClock) -> None:
    replicator = serving(await big_writer())
    with trio.fail_after(500):
        async with trio.open_nursery() as nursery:
            peer = await connect(nursery, replicator, "never:1")
            channel = await peer.open()
            for index in range(200):
                channel.send_request(index)
            await peer.send()
            while peer.ending is None:
                with trio.move_on_after(5):
                    await peer.ended.wait()
                peer.protocol.send_keep_alive()
                with suppress(trio.BrokenResourceError):
                    await peer.send()
            assert peer.ending.reason is EndReason.MISBEHAVED
            assert "read nothing" in peer.ending.message
            nursery.cancel_scope.cancel()


async def test_a_peer_that_opens_and_never_reads_is_dropped(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "MAX_UNSENT_BYTES", 1 << 16)
    replicator = Replicator()
    peer = await connect(nursery, replicator, "never:1")
    await peer.handshake()
    number = 0
    with suppress(trio.BrokenResourceError):
        while peer.ending is None:
            for _ in range(500):
                number += 1
                peer.protocol.open_channel(number.to_bytes(32, "big"))
            await peer.send()
    await peer.ended.wait()
    assert peer.ending is not None
    assert peer.ending.reason is EndReason.MISBEHAVED


async def test_a_peer_that_asks_and_never_reads_is_dropped(nursery: trio.Nursery) -> None:
    peer = await connect(nursery, serving(await big_writer()), "never:1")
    channel = await peer.open()
    with suppress(trio.BrokenResourceError):
        for index in range(MAX_QUESTIONS + 300):
            channel.send_request(index)
            if not index % 100:
                await peer.send()
    await peer.ended.wait()
    assert peer.ending is not None
    assert peer.ending.reason is EndReason.MISBEHAVED
    assert "without waiting for answers" in peer.ending.message


async def test_channels_of_one_connection_take_turns(nursery: trio.Nursery) -> None:
    first = await big_writer()
    second = await Core.open(MemoryDirectory(), key_pair=key_pair(b"second".ljust(32)))
    await second.append([b"small"] * 10)
    await second.sync()
    replicator = serving(first)
    replicator.add_core(second)
    peer = await connect(nursery, replicator, "fair:1")
    channel = await peer.open()
    other = peer.protocol.open_channel(second.key)
    assert other is not None
    await peer.send()
    await settled()
    for index in range(200):
        channel.send_request(index)
    await peer.send()
    await settled()
    received: list[int] = []
    while not other.is_open:
        await peer.next(ChannelOpened)
    other.send_request(3)
    while True:
        data = await peer.next(DataReceived)
        received.append(data.index)
        if data.channel is other:
            break
    assert len(received) < 30
