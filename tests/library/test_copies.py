"""Copies of a core, and copies of these, in the orders that are hard: what the reference's own tests look at."""

import random

import pytest
import trio
import trio.testing

import hyperfs
from hyperfs import crypto
from hyperfs.crypto import KeyPair, key_pair
from hyperfs.library.events import Downloaded
from hyperfs.library.reading import Signature
from hyperfs.storage import MemoryDirectory
from tests.support.clocks import settled
from tests.support.two_cores import LIMIT_SECONDS, a_writer_and_a_reader, replicate, to_cancel


async def test_nothing_is_copied_of_an_empty_core_and_it_ends() -> None:
    async with a_writer_and_a_reader() as (writer, reader), to_cancel() as nursery:
        await replicate(nursery, reader, writer).over.wait()
        assert reader.length == 0


async def test_what_is_appended_later_is_copied_the_next_time() -> None:
    async with a_writer_and_a_reader(b"a", b"b") as (writer, reader), to_cancel() as nursery:
        await replicate(nursery, reader, writer).over.wait()
        await writer.append([b"c", b"d", b"e"])
        await replicate(nursery, reader, writer).over.wait()
        assert await reader.get_batch(0, 5, wait=False) == [b"a", b"b", b"c", b"d", b"e"]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("extra", [0, 1, 3])
async def test_a_block_goes_on_from_a_copy_that_saw_the_core_grow(sparse: bool, extra: int) -> None:
    async with (
        a_writer_and_a_reader(b"a", b"b", sparse=sparse) as (writer, one),
        hyperfs.open_core(hyperfs.memory(), writer.key, sparse=True) as two,
        to_cancel() as nursery,
    ):
        replicate(nursery, one, writer, live=True)
        assert await one.get(0) == b"a"
        await writer.append([b"more"] * (2 + extra))
        assert await one.get(3) == b"more"
        replicate(nursery, two, one, live=True)
        assert [await two.get(index) for index in (0, 3)] == [b"a", b"more"]
        assert (await two.audit()).invalid == 0


@pytest.mark.parametrize("seed", range(6))
async def test_blocks_that_are_copied_in_any_order_verify(seed: int) -> None:
    chosen = random.Random(seed)
    async with (
        a_writer_and_a_reader(sparse=True) as (writer, one),
        hyperfs.open_core(hyperfs.memory(), writer.key, sparse=True) as two,
        to_cancel() as nursery,
    ):
        replicate(nursery, one, writer, live=True)
        replicate(nursery, two, one, live=True)
        blocks: list[bytes] = []
        for _ in range(40):
            if not blocks or chosen.random() < 0.5:
                added = [b"%d" % chosen.randrange(1000) for _ in range(chosen.randrange(1, 4))]
                blocks += added
                await writer.append(added)
            index = chosen.randrange(len(blocks))
            assert await one.get(index) == blocks[index]
            assert await two.get(index) == blocks[index]
        for core in (one, two):
            assert (await core.audit()).invalid == 0


async def test_the_files_of_a_whole_copy_are_those_of_the_core() -> None:
    ours, theirs = MemoryDirectory(), MemoryDirectory()
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            hyperfs.open_core(ours) as writer,
            hyperfs.open_core(theirs, writer.key) as reader,
            to_cancel() as nursery,
        ):
            await writer.append([b"a", b"b", b"c", b"d", b"e", b"f"])
            await replicate(nursery, reader, writer).over.wait()
    for name in ("data", "tree", "key"):
        assert ours.files[name].data == theirs.files[name].data
    assert ours.files["data"].data == b"abcdef"
    assert ours.files["signatures"].data[-64:] == theirs.files["signatures"].data[-64:]


async def test_a_copy_may_be_cleared_while_it_comes() -> None:
    async with a_writer_and_a_reader(*[b"x"] * 20) as (writer, reader), to_cancel() as nursery:
        events = reader.events(Downloaded)
        replicate(nursery, reader, writer, live=True)
        for _ in range(20):
            event = await anext(events)
            assert isinstance(event, Downloaded)
            await reader.clear(event.index)
        assert (reader.downloaded(), reader.length) == (0, 20)
        assert await reader.get(7) == b"x"
        assert reader.downloaded() == 1


async def test_a_core_goes_over_several_streams_at_once() -> None:
    async with (
        a_writer_and_a_reader(*[b"%d" % index for index in range(50)]) as (writer, reader),
        to_cancel() as nursery,
    ):
        both = [replicate(nursery, reader, writer) for _ in range(2)]
        for replicated in both:
            await replicated.over.wait()
        assert reader.downloaded() == 50


async def test_a_stream_with_several_cores_ends_when_all_have_come() -> None:
    async with (
        a_writer_and_a_reader(b"a", b"b") as (one, its_reader),
        a_writer_and_a_reader(*[b"x"] * 300) as (two, its_other),
        to_cancel() as nursery,
    ):
        left, right = trio.testing.memory_stream_pair()
        ours = hyperfs.Connection(left, initiator=True)
        theirs = hyperfs.Connection(right, initiator=False)
        for core in (its_reader, its_other):
            ours.add(core)
        for core in (one, two):
            theirs.add(core)
        nursery.start_soon(theirs.run)
        await ours.run()
        assert (its_reader.downloaded(), its_other.downloaded()) == (2, 300)


async def test_a_stream_that_breaks_before_the_handshake_is_told_as_an_end() -> None:
    async with a_writer_and_a_reader(b"a") as (_writer, reader):
        left, right = trio.testing.memory_stream_pair()
        await right.aclose()
        ending = await reader.replicate(left, initiator=True)
        assert ending.remote_key is None
        assert reader.peers == []


async def test_who_cancels_a_get_does_not_hold_up_others() -> None:
    async with a_writer_and_a_reader(b"a", b"b", sparse=True) as (writer, reader), to_cancel() as nursery:
        got: list[bytes] = []

        async def get(index: int) -> None:
            got.append(await reader.get(index))

        async with trio.open_nursery() as waiting:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as cancelled:
                    cancelled.start_soon(get, 0)
                    waiting.start_soon(get, 1)
                    await settled()
                    scope.cancel()
            replicate(nursery, reader, writer, live=True)
        assert got == [b"b"]
        assert not reader.has(0)


async def test_a_place_is_found_in_a_tree_with_gaps() -> None:
    async with a_writer_and_a_reader(b"aa", sparse=True) as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        await reader.get(0)
        await writer.append([b"aa"] * 15)
        await reader.get(15)
        assert (await reader.seek(1), await reader.seek(8)) == ((0, 1), (4, 0))
        assert await reader.get(4) == b"aa"  # whose hash came with the place


async def test_what_only_the_end_of_is_here_goes_on_from_there() -> None:
    async with (
        a_writer_and_a_reader(*[b"x"] * 4096, sparse=True) as (writer, one),
        hyperfs.open_core(hyperfs.memory(), writer.key) as two,
        to_cancel() as nursery,
    ):
        replicate(nursery, one, writer, live=True)
        await one.download(4066, 4096)
        replicate(nursery, two, one, live=True)
        await two.download(4066, 4096)
        await settled()
        assert (two.length, two.downloaded(), two.downloaded(4066)) == (4096, 30, 30)


async def test_an_update_comes_from_a_copy_that_has_the_last_block() -> None:
    async with (
        a_writer_and_a_reader(b"a", b"b", b"c", b"d", sparse=True) as (writer, one),
        hyperfs.open_core(hyperfs.memory(), writer.key, sparse=True) as two,
        to_cancel() as nursery,
    ):
        replicate(nursery, one, writer, live=True)
        replicate(nursery, two, one, live=True)
        async with trio.open_nursery() as waiting:
            waiting.start_soon(two.update)
            assert await one.get(3) == b"d"
        assert (two.length, two.downloaded()) == (4, 0)


async def test_a_download_past_the_end_is_not_done_and_holds_up_nobody() -> None:
    async with a_writer_and_a_reader(b"a", b"b", sparse=True) as (writer, reader), to_cancel() as nursery:
        download = reader.download(0, 3)
        replicate(nursery, reader, writer, live=True)
        assert [await reader.get(index) for index in range(2)] == [b"a", b"b"]
        await settled()
        assert not download.done
        await writer.append(b"c")
        await download
        assert await reader.get(2, wait=False) == b"c"


async def test_each_peer_is_counted_for_itself() -> None:
    async with (
        a_writer_and_a_reader(b"aa", b"bb") as (writer, one),
        hyperfs.open_core(hyperfs.memory(), writer.key) as two,
        to_cancel() as nursery,
    ):
        for reader in (one, two):
            replicate(nursery, reader, writer, live=True)
            await reader.download(0, 2)
        await settled()
        assert [peer.stats.uploaded_bytes for peer in writer.peers] == [4, 4]
        assert (writer.stats.uploaded_blocks, one.stats.downloaded_bytes, two.stats.downloaded_blocks) == (4, 4, 2)


async def test_signatures_of_older_writers_are_good() -> None:
    storage = MemoryDirectory()
    async with hyperfs.open_core(storage) as writer:
        await writer.append([b"a", b"b", b"c"])
        key, secret_key = writer.key, writer.secret_key
        assert secret_key is not None
        older = crypto.sign(crypto.tree_hash(await writer.root_hashes(2)), secret_key)
    signatures = storage.open("signatures")
    signatures.write(signatures.size() - len(older), older)
    async with (
        hyperfs.open_core(storage) as writer,
        hyperfs.open_core(hyperfs.memory(), key) as reader,
        to_cancel() as nursery,
    ):
        await replicate(nursery, reader, writer).over.wait()
        assert await reader.signature() == await writer.signature() == Signature(2, older)
        assert await reader.verify(2, older)
        await writer.append(b"d")
        await replicate(nursery, reader, writer).over.wait()
        assert await reader.get(3, wait=False) == b"d"


async def test_a_core_is_made_from_the_keys_of_another() -> None:
    ours, theirs = MemoryDirectory(), MemoryDirectory()
    async with hyperfs.open_core(ours, key_pair=key_pair()) as one:
        pair = KeyPair(one.key, one.secret_key or b"")
    async with hyperfs.open_core(theirs, one.key, key_pair=pair) as other:
        assert (other.key, other.writable, other.length) == (one.key, True, 0)
    for name in ("key", "secret_key"):
        assert ours.files[name].data == theirs.files[name].data
