"""Tries of which only some blocks are here: what is fetched, how often, and what is asked along the way."""

import pytest
import trio

from hyperfs.errors import BlockNotAvailable, UnknownVersion
from hyperfs.trie import Header, NodeCache, Put, Trie, encode_batch, extension
from hyperfs.trie.trie import read_header
from tests.support.sparse_core import SparseCore

FILES = [f"dir{number % 5}/file{number}" for number in range(1000)]


@pytest.fixture(scope="module")
def blocks() -> list[bytes]:
    async def make() -> list[bytes]:
        core = SparseCore([Header(subtype="hyperdrive").encode()])
        return core.blocks + await encode_batch(Trie(core, 1, NodeCache()), [Put(key, b"v") for key in FILES])

    return trio.run(make)


@pytest.fixture
def core(blocks: list[bytes]) -> SparseCore:
    return SparseCore(blocks, held=[])


@pytest.fixture
def trie(core: SparseCore) -> Trie:
    return Trie(core, core.length, NodeCache())


async def test_a_lookup_fetches_only_the_nodes_on_its_way(core: SparseCore, trie: Trie) -> None:
    assert await trie.get("dir3/file503") is not None
    assert len(core.fetched) < 12


async def test_a_lookup_asks_one_question_at_its_first_missing_block(core: SparseCore, trie: Trie) -> None:
    await trie.get("dir3/file503")
    assert [extension.parse(hint.payload) for hint in core.hints] == [
        [extension.GetQuestion(core.length - 1, "dir3/file503")]
    ]


async def test_a_lookup_of_what_is_here_asks_nothing(core: SparseCore, trie: Trie) -> None:
    await trie.get("dir3/file503")
    core.hints.clear()
    core.fetches.clear()
    await Trie(core, core.length, NodeCache()).get("dir3/file503")
    assert (core.hints, core.fetches) == ([], [])


async def test_a_lookup_over_cached_nodes_reads_no_block(core: SparseCore, trie: Trie) -> None:
    await trie.get("dir3/file503")
    core.read_blocks.clear()
    await trie.get("dir3/file503")
    assert core.read_blocks == set()


async def test_a_flat_listing_fetches_hardly_more_than_the_folder(core: SparseCore, trie: Trie) -> None:
    listed = [node.seq async for node in trie.iterate("dir3", recursive=False)]
    assert len(listed) == 200
    assert len(core.fetched - set(listed)) < 12


async def test_a_listing_fetches_many_at_once(core: SparseCore, trie: Trie) -> None:
    assert len([node async for node in trie.iterate("dir3", recursive=False)]) == 200
    assert len(core.fetches) < 20


async def test_the_beginning_of_a_listing_fetches_little(core: SparseCore, trie: Trie) -> None:
    async for _ in trie.iterate():
        break
    assert len(core.fetched) < len(FILES) / 10


async def test_a_walk_asks_again_from_where_it_is(core: SparseCore, trie: Trie) -> None:
    assert len([node async for node in trie.iterate()]) == len(FILES)
    questions = [question for hint in core.hints for question in extension.parse(hint.payload)]
    assert questions == [extension.IteratorQuestion(core.length - 1, "", 1, None)]


async def test_readahead_that_nobody_has_does_not_stop_a_listing(core: SparseCore, trie: Trie) -> None:
    everything = [node.seq async for node in Trie(SparseCore(core.blocks), core.length, NodeCache()).iterate()]
    core.lost = {everything[-1]}
    listed: list[int] = []

    async def list_all() -> None:
        async for node in trie.iterate():
            listed.append(node.seq)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(BlockNotAvailable):
        await list_all()
    assert listed == everything[: len(listed)]
    assert len(listed) > len(everything) // 2


async def test_a_walk_ends_even_when_the_cache_holds_nothing(core: SparseCore) -> None:
    trie = Trie(core, core.length, NodeCache(1))
    assert len([node async for node in trie.iterate()]) == len(FILES)
    assert await trie.get("dir3/file503") is not None


async def test_a_diff_fetches_only_what_differs(core: SparseCore, trie: Trie) -> None:
    changes = [change.key async for change in trie.diff(trie.checkout(core.length - 10))]
    assert sorted(changes) == sorted(FILES[-10:])
    assert len(core.fetched) < 150


async def test_history_fetches_in_runs(core: SparseCore, trie: Trie) -> None:
    assert [node.key async for node in trie.history()] == FILES
    assert len(core.fetches) < 10


async def test_history_of_a_range_backwards(trie: Trie) -> None:
    assert [node.seq async for node in trie.history(5, 8, reverse=True)] == [7, 6, 5]


async def test_a_cancelled_lookup_can_be_done_again(core: SparseCore, trie: Trie) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await trie.get("dir3/file503")
    assert scope.cancelled_caught
    assert await trie.get("dir3/file503") is not None


async def test_a_long_walk_over_local_nodes_lets_others_run(blocks: list[bytes]) -> None:
    core = SparseCore(blocks)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        assert len([node async for node in Trie(core, core.length, NodeCache()).iterate()]) == len(FILES)
        nursery.cancel_scope.cancel()
    assert turns > 2


async def test_a_version_that_the_core_does_not_have(core: SparseCore, trie: Trie) -> None:
    with pytest.raises(UnknownVersion, match="no version 1002"):
        trie.checkout(core.length + 1)


async def test_the_header_is_fetched(core: SparseCore) -> None:
    assert await read_header(core) == Header(subtype="hyperdrive")


async def test_the_cache_keeps_to_its_budget(blocks: list[bytes]) -> None:
    core = SparseCore(blocks)
    cache = NodeCache(100_000)
    async for _ in Trie(core, core.length, cache).iterate():
        assert cache.byte_size <= 100_000 + 2_000


async def test_two_cores_do_not_share_nodes(blocks: list[bytes]) -> None:
    cache = NodeCache()
    other = SparseCore(blocks[:1], key=b"o" * 32)
    other.append(await encode_batch(Trie(other, 1, NodeCache()), [Put("other", b"")]))
    core = SparseCore(blocks)
    assert await Trie(core, 2, cache).get(FILES[0]) is not None
    assert await Trie(other, 2, cache).get(FILES[0]) is None
