"""Two programs' cores over a stream: what goes over, what does not, and when it ends."""

import pytest
import trio
import trio.testing

import hyperfs
from hyperfs.errors import BlockNotAvailable, Closed
from hyperfs.library.peers import Traffic
from hyperfs.replication.status import EndReason
from tests.support.clocks import settled
from tests.support.two_cores import a_writer_and_a_reader, replicate, to_cancel

ABC = (b"a", b"b", b"c")


async def test_everything_comes_over_and_then_it_ends() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        replicated = replicate(nursery, reader, writer)
        await replicated.over.wait()
        assert await reader.get_batch(0, 3, wait=False) == list(ABC)
        assert replicated.ours is not None
        assert replicated.ours.reason is EndReason.CLOSED
        assert "none of the cores" not in replicated.ours.message
        assert (writer.peers, reader.peers) == ([], [])


async def test_it_ends_too_when_the_writer_dials() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        await replicate(nursery, writer, reader).over.wait()
        assert reader.downloaded() == 3


async def test_readers_end_when_each_has_what_the_other_has() -> None:
    async with (
        a_writer_and_a_reader(*ABC) as (writer, one),
        hyperfs.open_core(hyperfs.memory(), writer.key) as other,
        to_cancel() as nursery,
    ):
        await replicate(nursery, one, writer).over.wait()
        await one.clear(1)
        await replicate(nursery, one, other).over.wait()
        assert (one.downloaded(), other.downloaded(), other.length) == (2, 2, 3)


async def test_it_ends_when_the_other_side_has_no_such_core() -> None:
    async with (
        hyperfs.open_core(hyperfs.memory()) as one,
        hyperfs.open_core(hyperfs.memory()) as other,
        to_cancel() as nursery,
    ):
        replicated = replicate(nursery, one, other, of_theirs={"live": True})
        await replicated.over.wait()
        assert (one.peers, other.peers) == ([], [])
        assert replicated.ours is not None
        assert "none of the cores" in replicated.ours.message


async def test_a_live_one_stays_and_brings_what_is_appended() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        assert await reader.get(2) == b"c"
        for length in range(4, 7):
            await writer.append(b"%d" % length)
            assert await reader.get(length - 1) == b"%d" % length
        assert await reader.update(6)
        assert len(reader.peers) == len(writer.peers) == 1


async def test_of_a_sparse_core_only_what_is_asked_for_comes() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer)
        assert await reader.get(1) == b"b"
        assert [reader.has(index) for index in range(3)] == [False, True, False]
        await settled()
        assert reader.downloaded() == 1


async def test_a_sparse_core_does_not_grow_by_itself_unless_it_is_eager() -> None:
    async with (
        a_writer_and_a_reader(sparse=True) as (writer, lazy),
        hyperfs.open_core(hyperfs.memory(), writer.key, sparse=True, eager_update=True) as eager,
        to_cancel() as nursery,
    ):
        replicate(nursery, lazy, writer, live=True)
        replicate(nursery, eager, writer, live=True)
        await writer.append(list(ABC))
        await eager.core.wait_longer(2)
        await settled()
        assert (eager.length, eager.downloaded(), lazy.length) == (3, 0, 0)
        assert await lazy.update(if_available=True)
        assert (lazy.length, lazy.downloaded()) == (3, 0)


async def test_an_update_waits_for_peers_that_have_it() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        assert not await reader.update(if_available=True)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(reader.update, 4)
            replicate(nursery, reader, writer, live=True)
            await settled()
            assert not await reader.update(4, if_available=True)
            await writer.append(b"d")
        assert (reader.length, reader.downloaded()) == (4, 0)


async def test_a_block_is_waited_for_only_if_somebody_has_it() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        with pytest.raises(BlockNotAvailable, match="none of the peers"):
            await reader.get(1, if_available=True)
        replicate(nursery, reader, writer, live=True)
        await settled()
        assert await reader.get(1, if_available=True) == b"b"
        assert await reader.get(1, if_available=True) == b"b"
        for index in (3, 5_000_000):
            with pytest.raises(BlockNotAvailable, match="none of the peers"):
                await reader.get(index, if_available=True)
        assert list(reader._exchange.demands) == []


async def test_it_stays_as_long_as_its_owner_wants_a_block_back() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        await replicate(nursery, reader, writer).over.wait()
        await writer.clear(1)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(writer.get, 1)
            await settled()
            replicated = replicate(nursery, reader, writer)
        await replicated.over.wait()
        assert writer.has(0, 3)


async def test_a_place_is_asked_of_peers() -> None:
    async with a_writer_and_a_reader(*[b"aa"] * 16, sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        assert await reader.seek(9) == (4, 1)
        assert await reader.seek(32) == (16, 0)
        assert reader.downloaded() <= 1


async def test_bytes_and_blocks_are_streamed_from_peers() -> None:
    async with (
        a_writer_and_a_reader(*[b"%03d" % index for index in range(200)], sparse=True) as (writer, reader),
        to_cancel() as nursery,
    ):
        replicate(nursery, reader, writer, live=True)
        assert (
            b"".join([piece async for piece in reader.byte_stream(100, 10)])
            == b"".join(b"%03d" % index for index in range(200))[100:110]
        )
        await reader.update(200)
        assert [block async for block in reader.read_stream(150, 153)] == [b"150", b"151", b"152"]


async def test_a_download_is_awaited_or_taken_back() -> None:
    async with a_writer_and_a_reader(*[b"%d" % index for index in range(20)], sparse=True) as (writer, reader):
        first, listed = reader.download(0, 5), reader.download(blocks=[7, 9, 11], linear=True)
        taken_back, endless = reader.download(12, 14), reader.download(18)
        taken_back.cancel()
        taken_back.cancel()
        async with to_cancel() as nursery:
            replicate(nursery, reader, writer, live=True)
            await first
            await listed
            with pytest.raises(BlockNotAvailable, match="taken back"):
                await taken_back
            await reader.get(19)
            await settled()
            assert [index for index in range(20) if reader.has(index)] == [0, 1, 2, 3, 4, 7, 9, 11, 18, 19]
            assert (first.done, listed.done, taken_back.done, endless.done) == (True, True, False, False)
            await reader.download(0, 5)
            endless.cancel()
    with pytest.raises(Closed):
        await endless
    with pytest.raises(Closed):
        reader.download()


async def test_who_may_not_upload_gives_nothing() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True, of_theirs={"upload": False})
        await settled()
        assert reader.downloaded() == 0
        assert [peer.uploading for peer in reader.peers] == [False]


async def test_who_may_not_download_asks_for_nothing() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        replicated = replicate(nursery, reader, writer, of_ours={"download": False})
        await replicated.over.wait()
        assert (reader.downloaded(), writer.stats) == (0, Traffic())


async def test_uploading_and_downloading_are_switched() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        await reader.get(0)
        for switch in (writer.set_uploading, reader.set_downloading):
            switch(False)
            got: list[bytes] = []

            async def get(index: int, got: list[bytes] = got) -> None:
                got.append(await reader.get(index))

            async with trio.open_nursery() as waiting:
                waiting.start_soon(get, reader.downloaded())
                await settled()
                assert got == []
                switch(True)
            assert len(got) == 1


async def test_several_cores_go_over_one_stream_also_one_that_is_up() -> None:
    async with (
        a_writer_and_a_reader(b"first") as (one, its_reader),
        a_writer_and_a_reader(b"second") as (two, its_other),
        to_cancel() as nursery,
    ):
        left, right = trio.testing.memory_stream_pair()
        ours = hyperfs.Connection(left, initiator=True, live=True)
        theirs = hyperfs.Connection(right, initiator=False, live=True)
        ours.add(its_reader)
        theirs.add(one)
        nursery.start_soon(ours.run)
        nursery.start_soon(theirs.run)
        assert await its_reader.get(0) == b"first"
        assert (ours.public_key, ours.remote_public_key) == (theirs.remote_public_key, theirs.public_key)
        theirs.add(two)
        await settled()
        ours.add(its_other)
        assert await its_other.get(0) == b"second"
        ours.remove(its_reader)
        await settled()
        assert (its_reader.peers, one.peers, len(two.peers)) == ([], [], 1)
        assert ours.cores == [its_other]


async def test_a_connection_without_encryption_carries_the_same() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        await replicate(nursery, reader, writer, encrypted=False).over.wait()
        assert reader.downloaded() == 3


async def test_a_program_may_refuse_a_peer() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        seen: list[bytes] = []

        def refuse(key: bytes) -> bool:
            seen.append(key)
            return False

        replicated = replicate(nursery, reader, writer, live=True, of_theirs={"authenticate": refuse})
        await replicated.over.wait()
        assert replicated.theirs is not None
        assert (replicated.theirs.reason, [replicated.theirs.remote_key]) == (EndReason.BANNED, seen)
        assert reader.downloaded() == 0


async def test_closing_a_core_ends_its_connections() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        replicated = replicate(nursery, reader, writer, live=True)
        await reader.get(2)
        await writer.close()
        await writer.close()
        await replicated.over.wait()
        assert reader.peers == []
        with pytest.raises(Closed):
            await writer.replicate(trio.testing.memory_stream_pair()[0], initiator=True)


async def test_peers_are_listed_with_what_they_have() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        await reader.get(1)
        (peer,) = reader.peers
        assert (peer.length, peer.has(0), peer.has(0, 3), peer.has(2, 4), peer.is_open) == (3, True, True, False, True)
        assert (peer.uploading, peer.downloading) == (True, False)
        assert peer.stats == reader.stats == Traffic(1, 1, 0, 0)
        assert writer.stats == writer.peers[0].stats == Traffic(0, 0, 1, 1)
        assert len(peer.public_key) == 32
    assert (reader.stats, peer.is_open, peer.length) == (Traffic(1, 1, 0, 0), False, 0)


async def test_files_of_a_core_are_destroyed_with_it() -> None:
    storage = hyperfs.memory()
    async with hyperfs.open_core(storage) as core:
        await core.append(b"a")
        await core.destroy_storage()
        assert core.closed
    async with hyperfs.open_core(storage) as again:
        assert again.key != core.key
