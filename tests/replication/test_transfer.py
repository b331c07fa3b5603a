"""Blocks go from who has them to who wants them, each once, urgent ones first, also when peers come and go."""

import errno

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.core.reader import Priority
from hyperfs.crypto import key_pair
from hyperfs.errors import BlockNotAvailable
from hyperfs.protocol.events import HaveReceived, RequestReceived, StatusReceived, UnhaveReceived, WantReceived
from hyperfs.replication import EndReason, Follow, Replicator
from hyperfs.storage import MemoryDirectory
from tests.support.clocks import settled
from tests.support.peers import block, join, nursery_to_cancel, reader, scripted, serving, writer


async def test_one_block_is_fetched_alone() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(await writer(1000)))
        assert await core.get(700) == block(700)
        assert core.count(0, 1000) == 1


async def test_a_whole_core_is_fetched() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(await writer(5000)))
        await core.fetch([range(5000)])
        assert [await core.get(index) for index in range(5000)] == [block(index) for index in range(5000)]


async def test_the_listener_can_fetch_too() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, serving(await writer(10)), replicator)
        assert await core.get(4) == block(4)


async def test_empty_blocks_are_blocks() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(await writer(0, blocks=[b"", b"x", b"", b""])))
        await core.fetch([range(4)])
        assert [await core.get(index) for index in range(4)] == [b"", b"x", b"", b""]


async def test_what_is_beyond_the_known_length_can_be_fetched() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(await writer(100)))
        await core.get(10)
        await core.get(99)
        assert core.length == 100


async def test_overlapping_ranges_are_fetched_once() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(await writer(50)))
        await core.fetch([range(20), range(10, 30), range(15, 16)])
        assert core.count(0, 50) == 30
        assert replicator.status().peers[0].downloaded_blocks == 30


async def test_many_callers_of_one_block_cause_one_request() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(await writer(50)))
        async with trio.open_nursery() as callers:
            for _ in range(20):
                callers.start_soon(core.get, 5)
        assert replicator.status().peers[0].downloaded_blocks == 1


async def test_a_core_added_later_is_shared_on_a_live_connection() -> None:
    replicator, other = Replicator(), Replicator()
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, other)
        await settled()
        core = await reader(replicator)
        await settled()
        other.add_core(await writer(3))
        assert await core.get(2) == block(2)


async def test_a_removed_core_is_asked_for_no_more() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(await writer(3)))
        await core.get(0)
        replicator.remove_core(core)
        with pytest.raises(BlockNotAvailable):
            await core.get(1)
        assert replicator.status().cores == ()


async def test_a_waiting_fetch_fails_when_its_core_is_removed() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        failed = trio.Event()

        async def wait() -> None:
            with pytest.raises(BlockNotAvailable):
                await core.get(1)
            failed.set()

        nursery.start_soon(wait)
        await settled()
        replicator.remove_core(core)
        await failed.wait()


# Growth


async def test_update_learns_the_newest_length_and_no_block() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(await writer(77)))
        await settled()
        await core.update()
        assert core.length == 77
        assert core.count(0, 77) == 0


async def test_update_returns_when_nobody_is_there() -> None:
    core = await reader(Replicator())
    await core.update()
    assert core.length == 0


async def test_update_returns_when_the_peer_has_not_got_the_core() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, Replicator())
        await settled()
        await core.update()
        assert core.length == 0


@pytest.mark.parametrize(("follow", "blocks"), [(Follow.LENGTH, 0), (Follow.NEWEST, 1)])
async def test_appends_are_followed(follow: Follow, blocks: int) -> None:
    theirs = await writer(5)
    replicator = Replicator()
    core = await reader(replicator, follow=follow)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(theirs))
        await core.wait_longer(4)
        await theirs.append([b"one more"])
        await theirs.sync()
        await core.wait_longer(5)
        assert core.count(5, 6) == blocks


async def test_content_is_not_followed() -> None:
    theirs = await writer(5)
    replicator = Replicator()
    core = await reader(replicator, follow=Follow.NOTHING)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(theirs))
        await core.get(4)
        await theirs.append([b"one more"])
        await theirs.sync()
        await settled()
        assert core.length == 5


async def test_an_append_is_not_announced_before_it_is_durable() -> None:
    theirs = await writer(5)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, serving(theirs))
        channel = await peer.open()
        channel.send_want(0, 1 << 20)
        await peer.next(HaveReceived)
        assert (await peer.next(HaveReceived)).bitfield is not None
        await theirs.append([b"one more"])
        with trio.move_on_after(0.05):
            await peer.next(HaveReceived)
            pytest.fail("it was announced")
        await theirs.sync()
        have = await peer.next(HaveReceived)
        assert (have.start, have.length, have.bitfield) == (5, 1, None)


async def test_a_want_is_not_answered_with_what_is_not_durable() -> None:
    theirs = await writer(5)
    await theirs.append([b"one more"])
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, serving(theirs))
        channel = await peer.open()
        channel.send_want(0, 8192)
        plain = await peer.next(HaveReceived)
        answer = await peer.next(HaveReceived)
        assert (plain.start, plain.bitfield) == (4, None)
        assert answer.bitfield == b"\x02\xf8"


async def test_what_is_fetched_is_passed_on() -> None:
    middle, end = Replicator(), Replicator()
    passing, core = await reader(middle), await reader(end)
    async with nursery_to_cancel() as nursery:
        join(nursery, middle, serving(await writer(40)))
        join(nursery, end, middle)
        nursery.start_soon(core.get, 7)
        await settled()
        await passing.get(7)
        assert await core.get(7) == block(7)


# Serving


async def test_an_empty_core_answers_a_want_with_an_empty_bitfield() -> None:
    replicator = Replicator()
    await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        channel.send_want(0, 1 << 20)
        have = await peer.next(HaveReceived)
        assert (have.start, have.length, have.bitfield) == (0, 1 << 20, b"")


async def test_wants_that_are_not_whole_pages_are_ignored() -> None:
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, serving(await writer(3)))
        channel = await peer.open()
        channel.send_want(1, 8192)
        channel.send_want(0, 100)
        channel.send_want(8192, 8192)
        assert (await peer.next(HaveReceived)).bitfield is None
        assert (await peer.next(HaveReceived)).start == 8192


async def test_a_block_that_is_not_here_is_refused_with_unhave() -> None:
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, serving(await writer(3)))
        channel = await peer.open()
        channel.send_request(9)
        assert (await peer.next(UnhaveReceived)).start == 9


async def test_a_cleared_block_is_taken_back() -> None:
    theirs = await writer(9)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, serving(theirs))
        channel = await peer.open()
        channel.send_want(0, 8192)
        await peer.next(HaveReceived)
        await theirs.clear(3, 5)
        unhave = await peer.next(UnhaveReceived)
        assert (unhave.start, unhave.length) == (3, 2)


async def test_a_writer_says_that_it_downloads_nothing() -> None:
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, serving(await writer(3)))
        await peer.open()
        status = await peer.next(StatusReceived)
        assert (status.uploading, status.downloading) == (True, False)


# Peers that come, go, are slow, or lack blocks


async def test_a_fetch_waits_for_a_peer_to_come() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        nursery.start_soon(core.get, 2)
        await settled()
        join(nursery, replicator, serving(await writer(3)))
        assert await core.get(2) == block(2)


async def test_what_a_leaving_peer_owed_is_asked_of_another() -> None:
    theirs = await writer(200)
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        await peer.announce(channel, 200)
        nursery.start_soon(core.fetch, [range(200)])
        await peer.next(RequestReceived)
        await peer.stream.aclose()
        join(nursery, replicator, serving(theirs))
        await core.fetch([range(200)])
        assert core.has(0, 200)


async def test_what_a_peer_takes_back_is_asked_of_another() -> None:
    theirs = await writer(8)
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        await peer.announce(channel, 8)
        nursery.start_soon(core.get, 5)
        await peer.next(RequestReceived)
        channel.send_unhave(5)
        await peer.send()
        join(nursery, replicator, serving(theirs))
        assert await core.get(5) == block(5)


async def test_only_announced_blocks_are_asked_for() -> None:
    theirs = await writer(8)
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        channel.send_have(6)
        await peer.send()
        nursery.start_soon(core.get, 3)
        nursery.start_soon(core.get, 6)
        request = await peer.next(RequestReceived)
        assert request.index == 6
        await peer.answer(channel, theirs, request)
        channel.send_have(3)
        await peer.send()
        assert (await peer.next(RequestReceived)).index == 3


async def test_it_is_asked_what_a_peer_has_only_where_blocks_are_wanted() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        nursery.start_soon(core.get, 2_500_000)
        await settled()
        peer = scripted(nursery, replicator)
        await peer.open()
        wants = [await peer.next(WantReceived) for _ in range(2)]
        assert [(want.start, want.length) for want in wants] == [(0, 1 << 20), (2 << 20, 1 << 20)]


async def test_of_a_long_range_it_is_asked_as_far_as_the_peer_claims_to_go() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        nursery.start_soon(core.fetch, [range(1 << 30)])
        await settled()
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        assert (await peer.next(WantReceived)).start == 0
        channel.send_have(3_000_000)
        wants = [await peer.next(WantReceived) for _ in range(2)]
        assert [want.start for want in wants] == [1 << 20, 2 << 20]


async def test_at_most_sixteen_wants_are_unanswered() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        nursery.start_soon(core.fetch, [range(1 << 30)])
        await settled()
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        channel.send_have(1 << 28)
        wants = [await peer.next(WantReceived) for _ in range(16)]
        with trio.move_on_after(0.05):
            await peer.next(WantReceived)
            pytest.fail("a seventeenth was sent")
        channel.send_have(wants[0].start, 1 << 20, bitfield=b"")
        assert (await peer.next(WantReceived)).start == 16 << 20


async def test_answers_may_come_in_any_order() -> None:
    theirs = await writer(64)
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        await peer.announce(channel, 64)
        nursery.start_soon(core.get, 0)
        await peer.answer(channel, theirs, await peer.next(RequestReceived))
        await peer.send()
        await core.get(0)
        nursery.start_soon(core.fetch, [range(64)])
        asked = [await peer.next(RequestReceived) for _ in range(8)]
        for request in reversed(asked):
            await peer.answer(channel, theirs, request)
        await peer.send()
        await settled()
        assert core.count(0, 64) == 9


async def test_a_broken_promise_ends_the_connection_and_bans_nobody() -> None:
    theirs = await writer(64)
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        await peer.announce(channel, 64)
        nursery.start_soon(core.get, 63)
        await peer.answer(channel, theirs, await peer.next(RequestReceived))
        await peer.send()
        await core.get(63)
        nursery.start_soon(core.fetch, [range(2)])
        await peer.next(RequestReceived)
        second = await peer.next(RequestReceived)
        channel.send_unhave(0)
        # the proof of block 1 leaves out what that of block 0 was to bring
        await peer.answer(channel, theirs, second)
        await peer.send()
        await peer.ended.wait()
        assert peer.ending is not None
        assert peer.ending.reason is EndReason.CLOSED
        join(nursery, replicator, serving(theirs))
        await core.fetch([range(2)])


async def test_urgent_blocks_go_before_the_background() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        nursery.start_soon(lambda: core.fetch([range(1000)], priority=Priority.BACKGROUND))
        nursery.start_soon(lambda: core.fetch([range(2000, 3000)], priority=Priority.AHEAD))
        nursery.start_soon(lambda: core.get(5000))
        await settled()
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        channel.send_have(0, 8192)
        await peer.send()
        first = await peer.next(RequestReceived)
        second = await peer.next(RequestReceived)
        assert (first.index, second.index) == (5000, 2000)


async def test_an_urgent_block_is_asked_for_though_the_window_is_full() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        channel.send_have(0, 8192)
        await peer.send()
        nursery.start_soon(lambda: core.fetch([range(1000)], priority=Priority.BACKGROUND))
        await peer.next(RequestReceived)
        nursery.start_soon(core.get, 5000)
        request = await peer.next(RequestReceived)
        while request.index != 5000:
            request = await peer.next(RequestReceived)
        assert replicator.status().cores[0].in_flight < 100


async def test_what_a_cancelled_caller_wanted_is_not_asked_for_any_more() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        with trio.move_on_after(0.01):
            await core.fetch([range(1000)])
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        channel.send_have(0, 1000)
        await peer.send()
        nursery.start_soon(core.get, 999)
        assert (await peer.next(RequestReceived)).index == 999
        assert replicator.status().cores[0].demands == 1


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
    replicator = Replicator(patience_seconds=20)
    core = await reader(replicator)
    await trio.sleep(21)
    start = trio.current_time()
    with pytest.raises(BlockNotAvailable):
        await core.get(0)
    assert trio.current_time() == start


async def test_patience_begins_anew_when_a_peer_is_expected(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator(patience_seconds=20)
    core = await reader(replicator)
    await trio.sleep(21)
    replicator.expect_peers()
    with trio.move_on_after(5) as scope:
        await core.get(0)
    assert scope.cancelled_caught


# Seeking


async def test_seeking_brings_the_block_that_holds_a_byte() -> None:
    theirs = await writer(0, blocks=[bytes(index % 7 + 1) for index in range(500)])
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(theirs))
        await settled()
        await core.update()
        expected = await theirs.seek(1234)
        assert await core.seek(1234) == expected
        assert core.count(0, 500) == 1


async def test_a_seek_waits_for_a_peer() -> None:
    theirs = await writer(0, blocks=[bytes(index % 7 + 1) for index in range(50)])
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        nursery.start_soon(replicator.seek, core, 100, range(50), Priority.URGENT)
        await settled()
        join(nursery, replicator, serving(theirs))
        await replicator.seek(core, 100, range(50), Priority.URGENT)
        assert await core.seek(100) == await theirs.seek(100)


async def test_a_seek_is_answered_by_who_knows_the_place_and_not_the_block() -> None:
    theirs = await writer(0, blocks=[bytes(index % 7 + 1) for index in range(64)])
    index, _ = await theirs.seek(100)
    await theirs.clear(index, index + 1)
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, serving(theirs))
        await core.get(60)
        assert await core.seek(100) == await theirs.seek(100)


async def test_a_refused_seek_is_asked_of_another() -> None:
    theirs = await writer(0, blocks=[bytes(index % 7 + 1) for index in range(64)])
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        await peer.announce(channel, 64)
        nursery.start_soon(replicator.seek, core, 100, range(64), Priority.URGENT)
        request = await peer.next(RequestReceived)
        assert request.byte_offset == 100
        channel.send_unhave(request.index)
        await peer.send()
        join(nursery, replicator, serving(theirs))
        await replicator.seek(core, 100, range(64), Priority.URGENT)
        assert await core.seek(100) == await theirs.seek(100)


# Who is at the other end


async def test_a_connection_to_oneself_is_recognised() -> None:
    replicator = Replicator()
    async with nursery_to_cancel() as nursery:
        joined = join(nursery, replicator, replicator)
        await joined.over.wait()
        assert joined.dialler_ending is not None
        assert joined.dialler_ending.reason is EndReason.SELF


@pytest.mark.parametrize("smaller_dials_first", [True, False])
async def test_of_two_connections_the_one_that_the_smaller_key_dialled_stays(smaller_dials_first: bool) -> None:
    smaller, larger = sorted((Replicator(), Replicator()), key=lambda replicator: replicator.public_key)
    async with nursery_to_cancel() as nursery:
        pairs = [(smaller, larger), (larger, smaller)]
        if not smaller_dials_first:
            pairs.reverse()
        joined = {}
        for dialler, listener in pairs:
            joined[dialler] = join(nursery, dialler, listener)
            await settled()
        await joined[larger].over.wait()
        ending = joined[larger].dialler_ending
        assert ending is not None
        assert ending.reason is EndReason.DOUBLE
        assert not joined[smaller].over.is_set()


async def test_of_two_connections_dialled_by_one_side_the_older_stays() -> None:
    dialler, listener = Replicator(), Replicator()
    async with nursery_to_cancel() as nursery:
        first = join(nursery, dialler, listener)
        await settled()
        second = join(nursery, dialler, listener)
        await second.over.wait()
        assert not first.over.is_set()


async def test_an_unknown_core_is_refused() -> None:
    replicator = serving(await writer(3))
    other = Replicator()
    core = await Core.open(MemoryDirectory(), key=key_pair(bytes(32)).public, source=other)
    other.add_core(core)
    async with nursery_to_cancel() as nursery:
        join(nursery, other, replicator)
        await settled()
        assert other.status().cores[0].peers == 0
        assert len(other.status().peers) == 1


async def test_the_status_tells_what_was_transferred() -> None:
    replicator = Replicator()
    core = await reader(replicator)
    theirs = serving(await writer(100))
    async with nursery_to_cancel() as nursery:
        join(nursery, replicator, theirs)
        await core.fetch([range(100)])
        (mine,) = replicator.status().peers
        (other,) = theirs.status().peers
        assert (mine.name, other.name) == ("listener:1", "dialler:1")
        assert mine.downloaded_bytes == other.uploaded_bytes == sum(len(block(index)) for index in range(100))
        assert mine.cores == (core.key,)


# Disks


class FullDisk:
    """Stands in for `Core.store` on a disk that is full."""

    async def __call__(self, items: object, *, origin: object) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_fails_the_fetch_and_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    replicator = Replicator()
    core = await reader(replicator)
    monkeypatch.setattr(core, "store", FullDisk())
    async with nursery_to_cancel() as nursery:
        joined = join(nursery, replicator, serving(await writer(5)))
        with pytest.raises(BlockNotAvailable, match="No space left on device"):
            await core.get(2)
        await joined.over.wait()
        assert joined.dialler_ending is not None
        assert joined.dialler_ending.reason is EndReason.CLOSED


async def test_what_came_before_the_end_is_kept() -> None:
    theirs = await writer(8)
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        await peer.announce(channel, 8)
        nursery.start_soon(core.get, 5)
        await peer.answer(channel, theirs, await peer.next(RequestReceived))
        await peer.send()
        await peer.stream.aclose()
        assert await core.get(5) == block(5)


async def test_a_cancelled_connection_leaves_nothing_asked_for() -> None:
    theirs = await writer(3000)
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        joined = join(nursery, replicator, serving(theirs))
        nursery.start_soon(core.fetch, [range(3000)])
        await core.get(200)
        assert not core.has(0, 3000)
        joined.cut()
        await joined.over.wait()
        assert replicator.status().cores[0].in_flight == 0
        join(nursery, replicator, serving(theirs))
        await core.fetch([range(3000)])
