"""Peers that are slow, silent or away: how long each is waited for."""

import pytest
import trio
import trio.testing

from hyperfs.errors import BlockNotAvailable
from hyperfs.protocol.events import RequestReceived
from hyperfs.protocol.frames import MAX_FRAME_BYTES
from hyperfs.replication import EndReason, Replicator
from hyperfs.replication.deadline import DEAD_SECONDS, SLOW_BYTES
from tests.support.clocks import settled
from tests.support.peers import block, join, nursery_to_cancel, reader, scripted, serving, writer


async def test_a_slow_peer_s_urgent_block_is_asked_of_another(patient_clock: trio.testing.MockClock) -> None:
    theirs = await writer(10)
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        slow = scripted(nursery, replicator, name="slow:1")
        channel = await slow.open()
        await slow.announce(channel, 10)
        nursery.start_soon(core.get, 4)
        await slow.next(RequestReceived)
        join(nursery, replicator, serving(theirs))
        start = trio.current_time()
        assert await core.get(4) == block(4)
        assert trio.current_time() - start < 5
        await slow.answer(channel, theirs, RequestReceived(channel, 4, 0, False, 0))
        await slow.send()
        await settled()
        assert slow.ending is None


async def test_a_request_without_an_answer_ends_the_connection(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator()
    core = await reader(replicator)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            peer = scripted(nursery, replicator)
            channel = await peer.open()
            await peer.announce(channel, 10)
            nursery.start_soon(core.get, 4)
            while peer.ending is None:
                with trio.move_on_after(5):
                    await peer.ended.wait()
                peer.protocol.send_keep_alive()
                if peer.ending is None:
                    await peer.send()
            assert peer.ending.reason is EndReason.TIMED_OUT
            nursery.cancel_scope.cancel()


async def test_a_large_block_may_take_its_time_on_a_slow_line(patient_clock: trio.testing.MockClock) -> None:
    theirs = await writer(1, blocks=[bytes(1 << 20)])
    replicator = Replicator()
    core = await reader(replicator)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            peer = scripted(nursery, replicator)
            channel = await peer.open()
            await peer.announce(channel, 1)
            nursery.start_soon(core.get, 0)
            await peer.answer(channel, theirs, await peer.next(RequestReceived))
            output = bytes(peer.protocol.take_output())
            for start in range(0, len(output), 32 << 10):
                await trio.sleep(1)
                await peer.stream.send_all(output[start : start + (32 << 10)])
            await settled()
            assert core.has(0, 1)
            nursery.cancel_scope.cancel()


async def test_an_answer_that_trickles_in_ends_the_connection(patient_clock: trio.testing.MockClock) -> None:
    theirs = await writer(1, blocks=[bytes(1 << 20)])
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        await peer.announce(channel, 1)
        nursery.start_soon(core.get, 0)
        await peer.answer(channel, theirs, await peer.next(RequestReceived))
        output = bytes(peer.protocol.take_output())
        while peer.ending is None:
            await peer.stream.send_all(output[:1])
            output = output[1:]
            with trio.move_on_after(1):
                await peer.ended.wait()
        assert peer.ending.reason is EndReason.TIMED_OUT


async def test_anything_but_the_answer_is_not_listened_to_for_ever(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator()
    core = await reader(replicator)
    with trio.fail_after(DEAD_SECONDS + MAX_FRAME_BYTES / SLOW_BYTES + 10):
        async with trio.open_nursery() as nursery:
            peer = scripted(nursery, replicator)
            channel = await peer.open(extensions=("chatter",))
            await peer.announce(channel, 1)
            nursery.start_soon(core.get, 0)
            while peer.ending is None:
                channel.send_extension("chatter", bytes(64 << 10))
                await peer.send()
                with trio.move_on_after(1):
                    await peer.ended.wait()
            assert peer.ending.reason is EndReason.TIMED_OUT
            nursery.cancel_scope.cancel()


async def test_a_silent_peer_is_given_up(patient_clock: trio.testing.MockClock) -> None:
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            peer = scripted(nursery, Replicator())
            await peer.handshake()
            start = trio.current_time()
            await peer.ended.wait()
            assert peer.ending is not None
            assert peer.ending.reason is EndReason.TIMED_OUT
            assert 19 < trio.current_time() - start < 30


async def test_idle_connections_are_kept_alive(patient_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        joined = join(nursery, Replicator(), Replicator())
        await trio.sleep(300)
        assert not joined.over.is_set()
        nursery.cancel_scope.cancel()


async def test_a_wait_fails_at_once_when_nobody_was_there_for_long(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator(alone_timeout_seconds=20)
    core = await reader(replicator)
    await trio.sleep(21)
    start = trio.current_time()
    with pytest.raises(BlockNotAvailable):
        await core.get(0)
    assert trio.current_time() == start


async def test_the_timeout_begins_anew_when_a_peer_is_expected(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator(alone_timeout_seconds=20)
    core = await reader(replicator)
    await trio.sleep(21)
    replicator.expect_peers()
    with trio.move_on_after(5) as scope:
        await core.get(0)
    assert scope.cancelled_caught


async def test_a_standstill_of_our_own_makes_nobody_late(patient_clock: trio.testing.MockClock) -> None:
    with trio.fail_after(10_000):
        async with trio.open_nursery() as nursery:
            replicator = Replicator()
            peer = scripted(nursery, replicator)
            await peer.handshake()
            for _ in range(3):
                await settled()
                patient_clock.jump(1000)
                peer.protocol.send_keep_alive()
                await peer.send()
                await trio.sleep(DEAD_SECONDS / 2)
                peer.protocol.send_keep_alive()
                await peer.send()
            assert peer.ending is None
            # and who really is silent is given up all the same
            await peer.ended.wait()
            assert peer.ending is not None
            assert peer.ending.reason is EndReason.TIMED_OUT
