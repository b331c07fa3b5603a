"""What a batch refuses, and what it leaves alone."""

import pytest
import trio

from hyperfs.errors import DamagedTrie, EncodingError, NotADrive, NotWritable
from hyperfs.trie import Delete, Header, NodeCache, Put, Trie, encode_batch
from hyperfs.trie.paths import Hashing
from hyperfs.trie.trie import read_header
from tests.support.sparse_core import SparseCore


@pytest.fixture
def core() -> SparseCore:
    return SparseCore([Header().encode()])


@pytest.mark.parametrize("path", ["", "/", "//", "///x", "a" * 70_000, "lone \udcff surrogate"])
async def test_a_path_that_cannot_be_a_key(core: SparseCore, path: str) -> None:
    with pytest.raises(EncodingError):
        await encode_batch(Trie(core, 1, NodeCache()), [Put(path, b"")])


async def test_a_trie_without_a_header_cannot_be_written_to() -> None:
    with pytest.raises(NotWritable, match="header"):
        await encode_batch(Trie(SparseCore([]), 0, NodeCache()), [Put("a", b"")])


async def test_deleting_what_is_not_there_makes_no_block(core: SparseCore) -> None:
    core.append(await encode_batch(Trie(core, 1, NodeCache()), [Put("dir/", b"")]))
    trie = Trie(core, 2, NodeCache())
    assert await encode_batch(trie, [Delete("other"), Delete("dir"), Delete("dir/", hidden=True)]) == []


async def test_a_batch_that_empties_the_trie_and_goes_on_links_nothing_deleted(core: SparseCore) -> None:
    core.append(await encode_batch(Trie(core, 1, NodeCache()), [Put("a", b""), Delete("a"), Put("b", b"")]))
    trie = Trie(core, core.length, NodeCache())
    assert [node.key async for node in trie.iterate()] == ["b"]


async def test_a_batch_of_more_nodes_than_it_keeps_at_hand_makes_the_same_blocks(
    core: SparseCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = [Put(f"{number % 7}/{number}", b"%d" % number) for number in range(200)]
    operations = [*operations, *(Delete(f"{number % 7}/{number}") for number in range(0, 200, 3))]
    blocks = await encode_batch(Trie(core, 1, NodeCache()), operations)
    monkeypatch.setattr("hyperfs.trie.batch._MADE_BYTES", 1)
    assert await encode_batch(Trie(core, 1, NodeCache()), operations) == blocks


async def test_others_have_their_turn_while_a_batch_is_made(core: SparseCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperfs.trie.batch.SLICE_SECONDS", 0)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await encode_batch(Trie(core, 1, NodeCache()), [Put(str(number), b"") for number in range(20)])
        nursery.cancel_scope.cancel()
    assert turns >= 10


async def test_a_batch_leaves_nothing_in_the_cache(core: SparseCore) -> None:
    cache = NodeCache()
    await encode_batch(Trie(core, 1, cache), [Put("refused", b"")])
    core.append(await encode_batch(Trie(core, 1, cache), [Put("appended", b"")]))
    assert await Trie(core, 2, cache).get("refused") is None


async def test_more_collisions_than_a_node_can_hold(core: SparseCore) -> None:
    trie = Trie(core, 1, NodeCache(hashing=Hashing(lambda _: 0)))
    with pytest.raises(DamagedTrie, match="collide"):
        await encode_batch(trie, [Put(str(number), b"") for number in range(20)])


@pytest.mark.parametrize("block", [b"", b"\xff", Header(type="hyperbee").encode()], ids=["empty", "garbage", "bee"])
async def test_a_core_that_is_no_trie(block: bytes) -> None:
    with pytest.raises(NotADrive):
        await read_header(SparseCore([block]))


def test_a_header_keeps_its_fields() -> None:
    header = Header(metadata=b"m" * 32, subtype="hyperdrive")
    assert Header.decode(header.encode()) == header
