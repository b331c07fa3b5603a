"""Whoever stops waiting takes back what he asked for, unless others want it or rely on its proof."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from hyperfs.core.core import Core
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.events import CancelReceived, ChannelClosed, RequestReceived
from hyperfs.replication import Replicator
from hyperfs.replication.channels import MAX_REOPENED
from tests.support.clocks import settled
from tests.support.peers import ScriptedPeer, block, join, scripted, serving, writer

COUNT = 64


@asynccontextmanager
async def waiting_for(core: Core, *wanted: range) -> AsyncIterator[None]:
    """Have somebody wait for ``wanted`` within this block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(core.fetch, wanted)
        yield
        nursery.cancel_scope.cancel()


async def announcing(nursery: trio.Nursery, replicator: Replicator) -> tuple[ScriptedPeer, Channel]:
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    await peer.announce(channel, COUNT)
    return peer, channel


async def told(peer: ScriptedPeer, kind: type[RequestReceived] | type[CancelReceived]) -> list[int]:
    """Return the blocks of all events of a ``kind`` that come before there is nothing more to do."""
    found: list[int] = []

    async def listen() -> None:
        while True:
            found.append((await peer.next(kind)).index)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await settled()
        nursery.cancel_scope.cancel()
    return found


async def test_a_cancelled_fetch_takes_back_what_it_asked_for(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    peer, _ = await announcing(nursery, replicator)
    async with waiting_for(core, range(3, 9)):
        assert await told(peer, RequestReceived) == list(range(3, 9))
    assert sorted(await told(peer, CancelReceived)) == list(range(3, 9))
    assert replicator.status().cores[0].in_flight == 0


async def test_what_had_to_wait_behind_what_is_taken_back_is_asked_for(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    peer, _ = await announcing(nursery, replicator)
    async with waiting_for(core, range(60)):
        asked = await told(peer, RequestReceived)
        assert len(asked) < 60
        nursery.start_soon(core.fetch, [range(62, 63)])
        assert await told(peer, RequestReceived) == []
    assert await told(peer, RequestReceived) == [62]


async def test_what_another_waits_for_is_not_taken_back(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    peer, channel = await announcing(nursery, replicator)
    nursery.start_soon(core.fetch, [range(5, 6)])
    request = await peer.next(RequestReceived)
    async with waiting_for(core, range(3, 9)):
        await settled()
    assert sorted(await told(peer, CancelReceived)) == [3, 4, 6, 7, 8]
    theirs = await writer(COUNT)
    await peer.answer(channel, theirs, request)
    await peer.send()
    assert await core.get(5) == block(5)


async def test_an_answer_that_comes_all_the_same_is_kept(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(COUNT)
    peer, channel = await announcing(nursery, replicator)
    async with waiting_for(core, range(7, 8)):
        request = await peer.next(RequestReceived)
    await peer.next(CancelReceived)
    await peer.answer(channel, theirs, request)
    await peer.send()
    await settled()
    assert peer.ending is None
    assert core.has(7, 8)


async def test_nothing_waits_for_the_answer_to_what_was_taken_back(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(COUNT)
    join(nursery, replicator, serving(theirs))
    await core.get(COUNT - 1)  # from here on requests rely on each other
    async with waiting_for(core, range(8, 40)):
        pass
    await core.fetch([range(COUNT)])


async def test_requests_that_others_rely_on_are_not_taken_back(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(COUNT)
    peer, channel = await announcing(nursery, replicator)
    nursery.start_soon(core.get, COUNT - 1)
    await peer.answer(channel, theirs, await peer.next(RequestReceived))
    await peer.send()
    await core.get(COUNT - 1)
    async with waiting_for(core, range(1)):
        first = await peer.next(RequestReceived)
        nursery.start_soon(core.get, 1)
        second = await peer.next(RequestReceived)
    # the proof of block 1 leaves out what that of block 0 brings
    await peer.hears_no(CancelReceived)
    for request in (first, second):
        await peer.answer(channel, theirs, request)
    await peer.send()
    assert await core.get(1) == block(1)


async def test_reading_and_giving_up_again_and_again_bans_nobody_who_answers_all_the_same(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(COUNT)
    peer, channel = await announcing(nursery, replicator)
    nursery.start_soon(core.get, COUNT - 1)
    await peer.answer(channel, theirs, await peer.next(RequestReceived))
    await peer.send()
    await core.get(COUNT - 1)
    asked: list[RequestReceived] = []
    for _ in range(5):
        async with waiting_for(core, range(8, 16)):
            asked += [await peer.next(RequestReceived) for _ in range(8)]
        await settled()
    for request in asked:
        await peer.answer(channel, theirs, request)
    await peer.send()
    await settled()
    assert peer.ending is None
    nursery.start_soon(peer.serve, channel, theirs)
    await core.fetch([range(COUNT)])


async def confuse(peer: ScriptedPeer, channel: Channel, core: Core, theirs: Core, first: int) -> None:
    """Have two blocks asked for, taken back, asked for the other way round, and answered as at first."""
    async with waiting_for(core, range(first, first + 2)):
        asked = [await peer.next(RequestReceived) for _ in range(2)]
    async with waiting_for(core, range(first + 1, first + 2)):
        await peer.next(RequestReceived)
        async with waiting_for(core, range(first, first + 1)):
            await peer.next(RequestReceived)
            for request in asked:
                await peer.answer(channel, theirs, request)
            await peer.send()
            await settled()


async def test_the_answer_to_what_was_taken_back_and_asked_for_again_blames_nobody(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(COUNT)
    peer, channel = await announcing(nursery, replicator)
    nursery.start_soon(core.get, COUNT - 1)
    await peer.answer(channel, theirs, await peer.next(RequestReceived))
    await peer.send()
    await core.get(COUNT - 1)
    await confuse(peer, channel, core, theirs, 8)
    assert peer.ending is None
    await peer.next(ChannelClosed)
    again = peer.protocol.open_channel(theirs.key)
    assert again is not None
    await peer.announce(again, COUNT)
    nursery.start_soon(peer.serve, again, theirs)
    await core.fetch([range(COUNT)])


async def test_who_took_us_to_have_what_we_have_not_often_is_told_only_of_what_is_here(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(4 * MAX_REOPENED)
    peer = scripted(nursery, replicator)
    channel: Channel | None = await peer.open()
    assert channel is not None
    await peer.announce(channel, theirs.length)
    nursery.start_soon(core.get, theirs.length - 1)
    await peer.answer(channel, theirs, await peer.next(RequestReceived))
    await peer.send()
    await core.get(theirs.length - 1)
    for times in range(MAX_REOPENED):
        await confuse(peer, channel, core, theirs, 2 * times)
        await peer.next(ChannelClosed)
        channel = peer.protocol.open_channel(theirs.key)
        assert channel is not None
        await peer.announce(channel, theirs.length)
    await confuse(peer, channel, core, theirs, 2 * MAX_REOPENED)
    await peer.hears_no(ChannelClosed)
    assert peer.ending is None
    assert core.has(2 * MAX_REOPENED, 2 * MAX_REOPENED + 2)


async def test_a_late_block_in_place_of_the_one_that_is_sought_blames_nobody(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(COUNT)
    peer, channel = await announcing(nursery, replicator)
    nursery.start_soon(core.get, COUNT - 1)
    await peer.answer(channel, theirs, await peer.next(RequestReceived))
    await peer.send()
    await core.get(COUNT - 1)
    async with waiting_for(core, range(7, 8)):
        late = await peer.next(RequestReceived)
        channel.send_unhave(7)
        await peer.send()
        await settled()
    sought, offset = 20, sum(len(block(index)) for index in range(20))
    async with trio.open_nursery() as seeking:
        seeking.start_soon(core.seek, offset)
        request = await peer.next(RequestReceived)
        assert request.byte_offset == offset
        await peer.answer(channel, theirs, late)
        await peer.send()
        await settled()
        await peer.answer(channel, theirs, replace(request, index=sought))
        await peer.send()
    assert await core.seek(offset) == (sought, 0)
    assert peer.ending is None
