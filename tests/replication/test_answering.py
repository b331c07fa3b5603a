"""What a peer is told and given: what is here and durable, and nothing else."""

import trio
import trio.testing

from hyperfs.protocol.events import HaveReceived, StatusReceived, UnhaveReceived
from hyperfs.replication import Replicator
from tests.support.clocks import settled
from tests.support.peers import block, join, reader, scripted, serving, writer


async def test_an_append_is_not_announced_before_it_is_durable(nursery: trio.Nursery) -> None:
    theirs = await writer(5)
    peer = scripted(nursery, serving(theirs))
    channel = await peer.open()
    channel.send_want(0, 1 << 20)
    await peer.next(HaveReceived)
    assert (await peer.next(HaveReceived)).bitfield is not None
    await theirs.append([b"one more"])
    await peer.hears_no(HaveReceived)
    await theirs.sync()
    have = await peer.next(HaveReceived)
    assert (have.start, have.length, have.bitfield) == (5, 1, None)


async def test_a_want_is_not_answered_with_what_is_not_durable(nursery: trio.Nursery) -> None:
    theirs = await writer(5)
    await theirs.append([b"one more"])
    peer = scripted(nursery, serving(theirs))
    channel = await peer.open()
    channel.send_want(0, 8192)
    plain = await peer.next(HaveReceived)
    answer = await peer.next(HaveReceived)
    assert (plain.start, plain.bitfield) == (4, None)
    assert answer.bitfield == b"\x02\xf8"


async def test_what_is_fetched_is_passed_on(nursery: trio.Nursery) -> None:
    middle, end = Replicator(), Replicator()
    passing, core = await reader(middle), await reader(end)
    join(nursery, middle, serving(await writer(40)))
    join(nursery, end, middle)
    nursery.start_soon(core.get, 7)
    await settled()
    await passing.get(7)
    assert await core.get(7) == block(7)


async def test_an_empty_core_answers_a_want_with_an_empty_bitfield(nursery: trio.Nursery) -> None:
    replicator = Replicator()
    await reader(replicator)
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    channel.send_want(0, 1 << 20)
    have = await peer.next(HaveReceived)
    assert (have.start, have.length, have.bitfield) == (0, 1 << 20, b"")


async def test_wants_that_are_not_whole_pages_are_ignored(nursery: trio.Nursery) -> None:
    peer = scripted(nursery, serving(await writer(3)))
    channel = await peer.open()
    channel.send_want(1, 8192)
    channel.send_want(0, 100)
    channel.send_want(8192, 8192)
    assert (await peer.next(HaveReceived)).bitfield is None
    assert (await peer.next(HaveReceived)).start == 8192


async def test_a_block_that_is_not_here_is_refused_with_unhave(nursery: trio.Nursery) -> None:
    peer = scripted(nursery, serving(await writer(3)))
    channel = await peer.open()
    channel.send_request(9)
    assert (await peer.next(UnhaveReceived)).start == 9


async def test_a_cleared_block_is_taken_back(nursery: trio.Nursery) -> None:
    theirs = await writer(9)
    peer = scripted(nursery, serving(theirs))
    channel = await peer.open()
    channel.send_want(0, 8192)
    await peer.next(HaveReceived)
    await theirs.clear(3, 5)
    unhave = await peer.next(UnhaveReceived)
    assert (unhave.start, unhave.length) == (3, 2)


async def test_a_writer_says_that_it_downloads_nothing(nursery: trio.Nursery) -> None:
    peer = scripted(nursery, serving(await writer(3)))
    await peer.open()
    status = await peer.next(StatusReceived)
    assert (status.uploading, status.downloading) == (True, False)
