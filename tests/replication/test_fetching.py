"""Blocks go from who has them to who wants them, each once; what failed or was broken off leaves nothing undone."""

import errno

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.core.reader import Priority
from hyperfs.errors import BlockNotAvailable
from hyperfs.protocol.events import RequestReceived
from hyperfs.replication import Replicator
from tests.support.clocks import settled
from tests.support.peers import block, join, reader, scripted, serving, writer


async def test_one_block_is_fetched_alone(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    join(nursery, replicator, serving(await writer(1000)))
    assert await core.get(700) == block(700)
    assert core.count(0, 1000) == 1


async def test_a_whole_core_is_fetched(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    join(nursery, replicator, serving(await writer(5000)))
    await core.fetch([range(5000)])
    assert [await core.get(index) for index in range(5000)] == [block(index) for index in range(5000)]


async def test_the_listener_can_fetch_too(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    join(nursery, serving(await writer(10)), replicator)
    assert await core.get(4) == block(4)


async def test_empty_blocks_are_blocks(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    join(nursery, replicator, serving(await writer(0, blocks=[b"", b"x", b"", b""])))
    await core.fetch([range(4)])
    assert [await core.get(index) for index in range(4)] == [b"", b"x", b"", b""]


async def test_what_is_beyond_the_known_length_can_be_fetched(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    join(nursery, replicator, serving(await writer(100)))
    await core.get(10)
    await core.get(99)
    assert core.length == 100


async def test_overlapping_ranges_are_fetched_once(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    join(nursery, replicator, serving(await writer(50)))
    await core.fetch([range(20), range(10, 30), range(15, 16)])
    assert core.count(0, 50) == 30
    assert replicator.status().peers[0].downloaded_blocks == 30


async def test_what_is_wanted_ahead_comes_without_anybody_waiting(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    join(nursery, replicator, serving(await writer(50)))
    await core.get(0)
    core.prefetch([range(10, 20), range(40, 45)])
    await settled()
    assert list(core.present(0, 50)) == [range(1), range(10, 20), range(40, 45)]


async def test_what_is_wanted_ahead_of_a_core_that_is_not_shared_is_forgotten(replicator: Replicator) -> None:
    core = await reader(replicator)
    replicator.remove_core(core)
    core.prefetch([range(5)])
    assert not core.count(0, 5)


async def test_many_callers_of_one_block_cause_one_request(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    join(nursery, replicator, serving(await writer(50)))
    async with trio.open_nursery() as callers:
        for _ in range(20):
            callers.start_soon(core.get, 5)
    assert replicator.status().peers[0].downloaded_blocks == 1


async def test_a_core_added_later_is_shared_on_a_live_connection(nursery: trio.Nursery) -> None:
    replicator, other = Replicator(), Replicator()
    join(nursery, replicator, other)
    await settled()
    core = await reader(replicator)
    await settled()
    other.add_core(await writer(3))
    assert await core.get(2) == block(2)


async def test_a_removed_core_is_asked_for_no_more(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    join(nursery, replicator, serving(await writer(3)))
    await core.get(0)
    replicator.remove_core(core)
    with pytest.raises(BlockNotAvailable):
        await core.get(1)
    assert replicator.status().cores == ()


async def test_a_waiting_fetch_fails_when_its_core_is_removed(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    failed = trio.Event()

    async def wait() -> None:
        with pytest.raises(BlockNotAvailable):
            await core.get(1)
        failed.set()

    nursery.start_soon(wait)
    await settled()
    replicator.remove_core(core)
    await failed.wait()


async def test_the_status_tells_what_was_transferred(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    theirs = serving(await writer(100))
    join(nursery, replicator, theirs)
    await core.fetch([range(100)])
    (mine,) = replicator.status().peers
    (other,) = theirs.status().peers
    assert (mine.name, other.name) == ("listener:1", "dialler:1")
    assert mine.downloaded_bytes == other.uploaded_bytes == sum(len(block(index)) for index in range(100))
    assert mine.cores == (core.key,)


async def test_seeking_brings_the_block_that_holds_a_byte(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(0, blocks=[bytes(index % 7 + 1) for index in range(500)])
    join(nursery, replicator, serving(theirs))
    await settled()
    await core.update()
    expected = await theirs.seek(1234)
    assert await core.seek(1234) == expected
    assert core.count(0, 500) == 1


async def test_a_seek_waits_for_a_peer(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    theirs = await writer(0, blocks=[bytes(index % 7 + 1) for index in range(50)])
    nursery.start_soon(replicator.seek, core, 100, range(50), Priority.URGENT)
    await settled()
    join(nursery, replicator, serving(theirs))
    await replicator.seek(core, 100, range(50), Priority.URGENT)
    assert await core.seek(100) == await theirs.seek(100)


async def test_a_seek_is_answered_by_who_knows_the_place_and_not_the_block(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(0, blocks=[bytes(index % 7 + 1) for index in range(64)])
    index, _ = await theirs.seek(100)
    await theirs.clear(index, index + 1)
    join(nursery, replicator, serving(theirs))
    await core.get(60)
    assert await core.seek(100) == await theirs.seek(100)


async def test_a_refused_seek_is_asked_of_another(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    theirs = await writer(0, blocks=[bytes(index % 7 + 1) for index in range(64)])
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


class FullDisk:
    """Stands in for `Core.store` on a disk that is full."""

    async def __call__(self, items: object, *, origin: object) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_fails_the_fetch_and_nothing_else(
    core: Core, replicator: Replicator, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = join(nursery, replicator, serving(await writer(5)))
    with monkeypatch.context() as patch:
        patch.setattr(core, "store", FullDisk())
        with pytest.raises(BlockNotAvailable, match="No space left on device"):
            await core.get(2)
        await settled()
    assert joined.dialler_ending is None
    assert replicator.status().cores[0].in_flight == 0
    assert await core.get(2) == block(2)


async def test_what_came_before_the_end_is_kept(core: Core, replicator: Replicator, nursery: trio.Nursery) -> None:
    theirs = await writer(8)
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    await peer.announce(channel, 8)
    nursery.start_soon(core.get, 5)
    await peer.answer(channel, theirs, await peer.next(RequestReceived))
    await peer.send()
    await peer.stream.aclose()
    assert await core.get(5) == block(5)


async def test_a_cancelled_connection_leaves_nothing_asked_for(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    theirs = await writer(3000)
    joined = join(nursery, replicator, serving(theirs))
    nursery.start_soon(core.fetch, [range(3000)])
    await core.get(200)
    assert not core.has(0, 3000)
    joined.cut()
    await joined.over.wait()
    assert replicator.status().cores[0].in_flight == 0
    join(nursery, replicator, serving(theirs))
    await core.fetch([range(3000)])
