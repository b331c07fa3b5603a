"""Which blocks are asked of which peer, in what order, and of whom instead when it does not bring them."""

import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.core.reader import Priority
from hyperfs.protocol.events import ChannelClosed, ChannelRequested, RequestReceived, WantReceived
from hyperfs.replication import Replicator
from tests.support.clocks import settled
from tests.support.peers import block, join, scripted, serving, writer


async def test_a_fetch_waits_for_a_peer_to_come(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    nursery.start_soon(core.get, 2)
    await settled()
    join(nursery, replicator, serving(await writer(3)))
    assert await core.get(2) == block(2)


async def test_what_a_leaving_peer_owed_is_asked_of_another(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(200)
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    await peer.announce(channel, 200)
    nursery.start_soon(core.fetch, [range(200)])
    await peer.next(RequestReceived)
    await peer.stream.aclose()
    join(nursery, replicator, serving(theirs))
    await core.fetch([range(200)])
    assert core.has(0, 200)


async def test_what_a_peer_takes_back_is_asked_of_another(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(8)
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    await peer.announce(channel, 8)
    nursery.start_soon(core.get, 5)
    await peer.next(RequestReceived)
    channel.send_unhave(5)
    await peer.send()
    join(nursery, replicator, serving(theirs))
    assert await core.get(5) == block(5)


async def test_only_announced_blocks_are_asked_for(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    theirs = await writer(8)
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


async def test_it_is_asked_what_a_peer_has_only_where_blocks_are_wanted(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    nursery.start_soon(core.get, 2_500_000)
    await settled()
    peer = scripted(nursery, replicator)
    await peer.open()
    wants = [await peer.next(WantReceived) for _ in range(2)]
    assert [(want.start, want.length) for want in wants] == [(0, 1 << 20), (2 << 20, 1 << 20)]


async def test_of_a_long_range_it_is_asked_as_far_as_the_peer_claims_to_go(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    nursery.start_soon(core.fetch, [range(1 << 30)])
    await settled()
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    assert (await peer.next(WantReceived)).start == 0
    channel.send_have(3_000_000)
    wants = [await peer.next(WantReceived) for _ in range(2)]
    assert [want.start for want in wants] == [1 << 20, 2 << 20]


async def test_at_most_sixteen_wants_are_unanswered(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    nursery.start_soon(core.fetch, [range(1 << 30)])
    await settled()
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    channel.send_have(1 << 28)
    wants = [await peer.next(WantReceived) for _ in range(16)]
    await peer.hears_no(WantReceived)
    channel.send_have(wants[0].start, 1 << 20, bitfield=b"")
    assert (await peer.next(WantReceived)).start == 16 << 20


async def test_answers_may_come_in_any_order(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    theirs = await writer(64)
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


async def test_a_broken_promise_begins_the_channel_anew_and_bans_nobody(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(64)
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
    await peer.next(ChannelClosed)
    await peer.next(ChannelRequested)
    again = peer.protocol.open_channel(theirs.key)
    assert again is not None
    channel = again
    await peer.announce(channel, 64)
    nursery.start_soon(peer.serve, channel, theirs)
    await core.fetch([range(2)])
    assert peer.ending is None


async def test_urgent_blocks_go_before_the_background(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
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


async def test_an_urgent_block_is_asked_for_though_the_window_is_full(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
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


async def test_what_a_cancelled_caller_wanted_is_not_asked_for_any_more(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    async with trio.open_nursery() as caller:
        caller.start_soon(core.fetch, [range(1000)])
        await settled()
        caller.cancel_scope.cancel()
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    channel.send_have(0, 1000)
    await peer.send()
    nursery.start_soon(core.get, 999)
    assert (await peer.next(RequestReceived)).index == 999
    assert replicator.status().cores[0].demands == 1


async def test_a_block_that_answers_a_seek_and_a_request_may_come_twice(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(8)
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    await peer.announce(channel, 8)
    nursery.start_soon(core.get, 7)
    await peer.answer(channel, theirs, await peer.next(RequestReceived))
    await peer.send()
    await core.get(7)
    nursery.start_soon(core.seek, 1)
    seek = await peer.next(RequestReceived)
    assert seek.byte_offset == 1
    nursery.start_soon(core.get, 0)
    request = await peer.next(RequestReceived)
    # the seek's is taken for the request's, and then another proof for the seek's
    for value in (b"block 0", None, b"block 0"):
        proof = await theirs.proof(0, hash_only=value is None)
        channel.send_data(0, value, proof.nodes, proof.signature)
    await peer.send()
    await settled()
    assert request.index == 0
    assert peer.ending is None
