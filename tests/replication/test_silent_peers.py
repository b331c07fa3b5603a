"""Peers that say that they have everything, and answer nothing: what they are asked for is asked of others soon."""

from collections.abc import Sequence
from functools import partial

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.core.reader import Priority
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.events import CancelReceived, RequestReceived
from hyperfs.replication import Replicator
from hyperfs.replication.under_way import NEW_REQUESTS, NEW_SECONDS, SLOW_SECONDS
from tests.support.clocks import settled
from tests.support.peers import ScriptedPeer, block, join_far, nursery_to_cancel, reader, scripted, serving, writer

COUNT = 4000
ROUND_TRIP = 0.1
LIARS = 8


async def liar(nursery: trio.Nursery, replicator: Replicator, name: str = "liar:1") -> tuple[ScriptedPeer, Channel]:
    """Connect a peer that claims to have all blocks."""
    peer = scripted(nursery, replicator, name=name)
    channel = await peer.open()
    await peer.announce(channel, COUNT)
    return peer, channel


async def listen(peer: ScriptedPeer) -> None:
    """Take what is asked, and answer nothing."""
    try:
        while True:
            await peer.next(RequestReceived)
    except trio.EndOfChannel:
        pass


async def seconds_to_fetch(fetches: Sequence[range], priority: Priority, *, liars: int) -> float:
    """Return how long it takes to fetch these blocks one after another from one far peer beside ``liars``."""
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        for number in range(liars):
            peer, _ = await liar(nursery, replicator, f"liar:{number}")
            nursery.start_soon(listen, peer)
        join_far(nursery, replicator, serving(await writer(COUNT)), round_trip=ROUND_TRIP)
        await trio.sleep(1)
        began_at = trio.current_time()
        for blocks in fetches:
            await core.fetch([blocks], priority=priority)
        return trio.current_time() - began_at
    raise AssertionError


@pytest.mark.parametrize("priority", list(Priority))
async def test_they_slow_a_download_by_less_than_a_fifth(
    priority: Priority, patient_clock: trio.testing.MockClock
) -> None:
    alone = await seconds_to_fetch([range(COUNT)], priority, liars=0)
    beside = await seconds_to_fetch([range(COUNT)], priority, liars=LIARS)
    assert beside <= 1.2 * alone + SLOW_SECONDS


async def test_who_reads_on_and_on_waits_for_them_at_the_beginning_only(patient_clock: trio.testing.MockClock) -> None:
    fetches = [range(start, start + 8) for start in range(0, 800, 8)]
    alone = await seconds_to_fetch(fetches, Priority.URGENT, liars=0)
    beside = await seconds_to_fetch(fetches, Priority.URGENT, liars=LIARS)
    assert beside <= 1.2 * alone


async def test_the_first_block_of_all_is_asked_of_more_and_more(patient_clock: trio.testing.MockClock) -> None:
    assert await seconds_to_fetch([range(7, 8)], Priority.URGENT, liars=LIARS) <= 4 * SLOW_SECONDS


async def test_what_a_silent_peer_owes_is_taken_back_and_a_proof_asked_for(
    patient_clock: trio.testing.MockClock,
) -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer, _ = await liar(nursery, replicator)
        nursery.start_soon(partial(core.fetch, [range(8)], priority=Priority.BACKGROUND))
        asked = [await peer.next(RequestReceived) for _ in range(8)]
        join_far(nursery, replicator, serving(await writer(COUNT)), round_trip=0.001)
        assert (await peer.next(RequestReceived)).hash_only
        assert {(await peer.next(CancelReceived)).index for _ in asked} == {request.index for request in asked}
        await core.fetch([range(8)])
        assert await told(peer) == []


async def told(peer: ScriptedPeer) -> list[RequestReceived]:
    """Return what is asked of ``peer`` before there is nothing more to do."""
    found: list[RequestReceived] = []

    async def hear() -> None:
        while True:
            found.append(await peer.next(RequestReceived))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        await settled()
        nursery.cancel_scope.cancel()
    return found


async def silenced(nursery: trio.Nursery, replicator: Replicator, core: Core) -> tuple[ScriptedPeer, Channel, Core]:
    """Return a peer that was asked for a block and was silent, beside one that answers; and a core that it may have."""
    theirs = await writer(COUNT)
    peer, channel = await liar(nursery, replicator)
    join_far(nursery, replicator, serving(theirs), round_trip=0.001)
    await core.fetch([range(100)], priority=Priority.BACKGROUND)
    await trio.sleep(1)
    assert await core.get(0) == block(0)
    return peer, channel, theirs


async def test_a_silent_peer_is_asked_for_nothing_before_it_has_proven_something(
    patient_clock: trio.testing.MockClock,
) -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer, channel, theirs = await silenced(nursery, replicator, core)
        proof = next(request for request in await told(peer) if request.hash_only)
        await core.fetch([range(100, 600)], priority=Priority.BACKGROUND)
        assert await told(peer) == []
        await peer.answer(channel, theirs, proof)
        await peer.send()
        await settled()
        nursery.start_soon(partial(core.fetch, [range(600, COUNT)], priority=Priority.BACKGROUND))
        assert not (await peer.next(RequestReceived)).hash_only


@pytest.mark.parametrize("in_both", [0, 8])
async def test_the_only_one_who_has_the_rest_may_be_silent_for_a_while(
    in_both: int, patient_clock: trio.testing.MockClock
) -> None:
    replicator = Replicator()
    core = await reader(replicator)
    theirs = await writer(COUNT)
    async with nursery_to_cancel() as nursery:
        few = scripted(nursery, replicator, name="few:1")
        channel = await few.open()
        await few.announce(channel, in_both)
        nursery.start_soon(few.serve, channel, theirs)
        peer, channel = await liar(nursery, replicator)

        async def hesitate(channel: Channel, request: RequestReceived) -> bool:
            await trio.sleep(0 if request.index % 500 else 2)
            return False

        nursery.start_soon(partial(peer.serve, channel, theirs, change=hesitate))
        await core.fetch([range(COUNT)], priority=Priority.BACKGROUND)


async def test_a_peer_is_not_silent_where_nobody_else_is(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer, channel = await liar(nursery, replicator)
        nursery.start_soon(core.fetch, [range(8)])
        asked = [await peer.next(RequestReceived) for _ in range(8)]
        await trio.sleep(10 * NEW_SECONDS)
        await peer.hears_no(CancelReceived)
        theirs = await writer(COUNT)
        for request in asked:
            await peer.answer(channel, theirs, request)
        await peer.send()
        await core.fetch([range(8)])


async def test_who_answers_again_is_counted_on_again(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer, channel, theirs = await silenced(nursery, replicator, core)
        nursery.start_soon(peer.serve, channel, theirs)
        for start in range(1000, COUNT, 1000):
            await core.fetch([range(start, start + 1000)], priority=Priority.BACKGROUND)
        (status,) = [status for status in replicator.status().peers if status.name == "liar:1"]
        assert status.downloaded_blocks > 3 * NEW_REQUESTS
