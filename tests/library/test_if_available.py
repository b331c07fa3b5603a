"""Waiting only for what peers that are here have: a block, a place, a length, for one call or for all of a core."""

import pytest
import trio
import trio.testing

import hyperfs
from hyperfs.errors import BlockNotAvailable, Closed
from hyperfs.replication import asking, peer, wants
from hyperfs.replication.availability import PAGE_BITS
from tests.support.clocks import settled
from tests.support.two_cores import a_writer_and_a_reader, replicate, to_cancel

ABC = (b"a", b"b", b"c")


@pytest.mark.parametrize("reader_dials", [True, False])
async def test_a_block_comes_from_a_peer_that_is_still_connecting(reader_dials: bool) -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        left, right = trio.testing.memory_stream_pair()
        ours = hyperfs.Connection(left, initiator=reader_dials, live=True)
        theirs = hyperfs.Connection(right, initiator=not reader_dials, live=True)
        ours.add(reader)
        theirs.add(writer)
        nursery.start_soon(ours.run)
        await settled()
        got: list[bytes] = []

        async def get() -> None:
            got.append(await reader.get(1, if_available=True))

        async with trio.open_nursery() as waiting:
            waiting.start_soon(get)
            await settled()
            assert got == []
            nursery.start_soon(theirs.run)
        assert got == [b"b"]


async def test_a_batch_is_refused_if_one_block_of_it_is_nowhere() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        await settled()
        assert await reader.get_batch(0, 2, if_available=True) == [b"a", b"b"]
        with pytest.raises(BlockNotAvailable, match="block 3"):
            await reader.get_batch(0, 4, if_available=True)
        assert list(reader._exchange.demands) == []


async def test_blocks_may_be_offered_by_several_peers_together() -> None:
    async with (
        a_writer_and_a_reader(*ABC, sparse=True) as (writer, one),
        hyperfs.open_core(hyperfs.memory(), writer.key, sparse=True) as two,
        hyperfs.open_core(hyperfs.memory(), writer.key, sparse=True) as reader,
        to_cancel() as nursery,
    ):
        for core, index in ((one, 0), (two, 1)):
            replicate(nursery, core, writer, live=True)
            await core.get(index)
            replicate(nursery, reader, core, live=True)
        await settled()
        assert await reader.get_batch(0, 2, if_available=True) == [b"a", b"b"]
        with pytest.raises(BlockNotAvailable, match="block 2"):
            await reader.get(2, if_available=True)


async def test_who_waits_is_told_when_the_only_peer_that_had_it_leaves() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        left, right = trio.testing.memory_stream_pair()
        refused: list[str] = []

        async def get() -> None:
            with pytest.raises(BlockNotAvailable, match="none of the peers"):
                await reader.get(1, if_available=True)
            refused.append("get")

        async def seek() -> None:
            with pytest.raises(BlockNotAvailable, match="none of the peers"):
                await reader.seek(1, if_available=True)
            refused.append("seek")

        async with trio.open_nursery() as theirs:
            theirs.start_soon(lambda: writer.replicate(right, initiator=False, live=True))
            nursery.start_soon(lambda: reader.replicate(left, initiator=True, live=True))
            await settled()
            await reader.update(3)
            right.send_stream.send_all_hook = trio.sleep_forever  # the answer is made, and lost on its way
            right.send_stream.close_hook = left.receive_stream.put_eof
            nursery.start_soon(get)
            nursery.start_soon(seek)
            await settled()
            assert refused == []
            theirs.cancel_scope.cancel()
        await settled()
        assert sorted(refused) == ["get", "seek"]


async def test_who_waits_is_told_when_a_peer_takes_back_what_it_had() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        await reader.update(3)
        await writer.core.clear(1, 2)
        with pytest.raises(BlockNotAvailable, match="none of the peers"):
            await reader.get(1, if_available=True)
        writer.set_uploading(False)
        with pytest.raises(BlockNotAvailable, match="none of the peers"):
            await reader.get(0, if_available=True)


async def test_who_waits_when_the_core_is_closed_is_told() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (_writer, reader):
        left, _right = trio.testing.memory_stream_pair()
        told: list[str] = []

        async def wait(name: str) -> None:
            with pytest.raises(Closed):
                await (reader.get(1, if_available=True) if name == "get" else reader.seek(1, if_available=True))
            told.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: reader.replicate(left, initiator=True, live=True))
            await settled()
            nursery.start_soon(wait, "get")
            nursery.start_soon(wait, "seek")
            await settled()
            await reader.close()
        assert sorted(told) == ["get", "seek"]
        with pytest.raises(Closed):
            await reader.get(1, if_available=True)


async def test_a_place_is_asked_of_the_peers_that_are_here_alone() -> None:
    async with a_writer_and_a_reader(*[b"aa"] * 16, sparse=True) as (writer, reader), to_cancel() as nursery:
        with pytest.raises(BlockNotAvailable, match="byte 9"):
            await reader.seek(9, if_available=True)
        replicate(nursery, reader, writer, live=True)
        await settled()
        with pytest.raises(BlockNotAvailable, match="byte 33"):
            await reader.seek(33, if_available=True)
        assert await reader.seek(9, if_available=True) == (4, 1)
        assert await reader.seek(32, if_available=True) == (16, 0)


async def test_a_place_is_told_by_a_reader_as_soon_as_it_knows() -> None:
    async with (
        a_writer_and_a_reader(*ABC, sparse=True) as (writer, one),
        hyperfs.open_core(hyperfs.memory(), writer.key, sparse=True) as two,
        to_cancel() as nursery,
    ):
        replicate(nursery, one, writer, live=True)
        replicate(nursery, two, one, live=True)
        await settled()
        with pytest.raises(BlockNotAvailable):
            await two.seek(2, if_available=True)
        await one.get(2)
        await settled()
        assert await two.seek(2, if_available=True) == (2, 0)


async def test_a_place_is_found_while_much_is_under_way() -> None:
    async with a_writer_and_a_reader(*[b"a"] * 100, sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        for index in range(100):
            nursery.start_soon(reader.get, index)
        await settled()
        assert await reader.seek(2, if_available=True) == (2, 0)


async def test_a_core_may_wait_for_nobody_by_default() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True, if_available=True) as (writer, reader), to_cancel() as nursery:
        for wait in (reader.get(0), reader.get_batch(0, 2), reader.seek(1), reader.head(update=True)):
            with pytest.raises(BlockNotAvailable):
                await wait
        with pytest.raises(BlockNotAvailable):
            await reader.read_stream(end=1).receive()
        with pytest.raises(BlockNotAvailable):
            await reader.byte_stream(0, 1).receive_some()
        assert not await reader.update()
        replicate(nursery, reader, writer, live=True)
        await settled()
        assert not await reader.update(4)
        assert await reader.get(0) == b"a"
        assert await reader.head() == b"c"
        with pytest.raises(BlockNotAvailable):
            await reader.get(3)


async def test_a_call_may_wait_all_the_same() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True, if_available=True) as (writer, reader), to_cancel() as nursery:
        got: list[object] = []

        async def wait() -> None:
            got.append(await reader.get(3, if_available=False))
            got.append(await reader.read_stream(4, live=True).receive())
            got.append(await reader.seek(6, if_available=False))

        async with trio.open_nursery() as waiting:
            waiting.start_soon(wait)
            replicate(nursery, reader, writer, live=True)
            for block in (b"d", b"e", b"f", b"g"):
                await settled()
                await writer.append(block)
        assert got == [b"d", b"e", (6, 0)]


async def test_the_head_is_the_last_block_that_is_known_or_that_an_update_finds() -> None:
    async with a_writer_and_a_reader(b"a", sparse=True) as (writer, reader), to_cancel() as nursery:
        with pytest.raises(BlockNotAvailable, match="empty"):
            await reader.head()
        with pytest.raises(BlockNotAvailable, match="empty"):
            await reader.head(update=True, if_available=True)
        replicate(nursery, reader, writer, live=True)
        assert await reader.head(update=True) == b"a"
        await writer.append(b"b")
        await writer.sync()
        await settled()
        assert await reader.head() == b"a"
        assert await reader.head(update=True, if_available=True) == b"b"
        assert await reader.head(update=True, if_available=True) == b"b"


@pytest.mark.parametrize("if_available", [False, True])
async def test_a_place_is_sought_where_it_was_not_asked_yet_what_peers_have(
    monkeypatch: pytest.MonkeyPatch, if_available: bool
) -> None:
    for module in (asking, peer, wants):
        monkeypatch.setattr(module, "WANT_BLOCKS", PAGE_BITS)
    length = 2 * PAGE_BITS + 100
    async with a_writer_and_a_reader(*[b"a"] * length, sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        await reader.update(length)
        place = 2 * PAGE_BITS + 7
        assert await reader.seek(place, if_available=if_available) == (place, 0)
        assert reader._exchange.seeks.sought == {}


async def test_what_a_peer_has_is_asked_at_once_though_no_block_can_be_asked_for_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (asking, peer, wants):
        monkeypatch.setattr(module, "WANT_BLOCKS", PAGE_BITS)
    length = 2 * PAGE_BITS + 100
    async with a_writer_and_a_reader(*[b"a"] * length, sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        await reader.update(length)
        await settled()
        got: list[bytes] = []

        async def get() -> None:
            got.append(await reader.get(2 * PAGE_BITS + 7))

        nursery.start_soon(get)
        await settled()
        assert got == [b"a"]
