"""Nodes that no honest writer makes end a walk with `DamagedTrie`: it neither loops nor grows.

Each test appends forged nodes to a small honest trie and walks it in every way; where a walk does not read what is
forged, it may also end well.
"""

from collections.abc import Awaitable, Callable

import pytest

from hyperfs.errors import DamagedTrie
from hyperfs.trie import Delete, Header, NodeCache, Put, Trie, encode_batch, messages_pb2
from hyperfs.trie.paths import Hashing, Path
from tests.support.sparse_core import SparseCore


def forged(key: bytes, seq: int, words: list[int], *, flags: int = 0) -> bytes:
    return messages_pb2.Node(key=key, valueBuffer=b"v", trieBuffer=words, seq=seq, flags=flags).SerializeToString()


def trie_of(*blocks: bytes) -> Trie:
    core = SparseCore([Header().encode(), *blocks])
    return Trie(core, core.length, NodeCache())


def digit_of(key: str, position: int) -> int:
    return Path.of(key, Hashing()).digit(position)


def first_parting(key: str, other: str) -> int:
    return next(position for position in range(100) if digit_of(key, position) != digit_of(other, position))


async def get(trie: Trie) -> object:
    return await trie.get("wanted")


async def list_all(trie: Trie) -> object:
    return [node async for node in trie.iterate()]


async def list_flat(trie: Trie) -> object:
    return [node async for node in trie.iterate(recursive=False)]


async def compare(trie: Trie) -> object:
    return [change async for change in trie.diff(trie.checkout(1))]


async def put(trie: Trie) -> object:
    return await encode_batch(trie, [Put("wanted", b"")])


async def delete(trie: Trie) -> object:
    return await encode_batch(trie, [Delete("wanted")])


WALKS = [get, list_all, list_flat, compare, put, delete]
every_walk = pytest.mark.parametrize("walk", WALKS)
Walk = Callable[[Trie], Awaitable[object]]

PARTING = first_parting("wanted", "other")
WANTED_SLOT = digit_of("wanted", PARTING)


@every_walk
@pytest.mark.parametrize("seq", [1, 2, 1000, 2**40, 2**64 - 1], ids=["itself", "next", "later", "huge", "largest"])
async def test_a_link_that_does_not_go_back(walk: Walk, seq: int) -> None:
    trie = trie_of(forged(b"other", 1, [PARTING + 1, PARTING, 1 << WANTED_SLOT, seq]), forged(b"x", 2, [0]))
    with pytest.raises(DamagedTrie, match="not older"):
        await walk(trie.checkout(2))


@every_walk
async def test_a_node_whose_key_does_not_belong_where_it_is_linked(walk: Walk) -> None:
    stranger = next(
        key
        for key in map(str, range(1000))
        if digit_of(key, 1) != digit_of("wanted", 1) and digit_of(key, PARTING) != WANTED_SLOT
    )
    position = PARTING if PARTING > 1 else 2
    slot = digit_of("wanted", position)
    prefix = next(
        key
        for key in map(str, range(100_000))
        if first_parting(key, "wanted") == position and first_parting(key, stranger) < position
    )
    trie = trie_of(
        forged(stranger.encode(), 1, [0]), forged(prefix.encode(), 2, [position + 1, position, 1 << slot, 1])
    )
    with pytest.raises(DamagedTrie):
        await walk(trie)


@every_walk
@pytest.mark.parametrize(
    "words",
    [
        [PARTING + 1, PARTING],
        [PARTING + 1, PARTING, 1 << WANTED_SLOT],
        [PARTING + 1, PARTING, 31, 1],
        [PARTING + 1, PARTING, 2**64 - 1, 1],
    ],
    ids=["no mask", "no links", "too few links", "too many slots"],
)
async def test_links_that_are_cut_short(walk: Walk, words: list[int]) -> None:
    trie = trie_of(forged(b"first", 1, [0]), forged(b"other", 2, words))
    with pytest.raises(DamagedTrie):
        await walk(trie)


async def test_a_put_does_not_copy_damaged_links_into_a_new_node() -> None:
    too_many_slots = [2, 1, 2**31, 1]
    trie = trie_of(forged(b"first", 1, [0]), forged(b"wanted", 2, too_many_slots))
    with pytest.raises(DamagedTrie, match="slots"):
        await put(trie)


@pytest.mark.parametrize("walk", [list_all, compare])
@pytest.mark.parametrize("position", [34, 2**20, 2**63])
async def test_a_position_beyond_the_key(walk: Walk, position: int) -> None:
    trie = trie_of(forged(b"first", 1, [0]), forged(b"other", 2, [position + 1, position, 1, 1]))
    with pytest.raises(DamagedTrie):
        await walk(trie)


@every_walk
async def test_a_number_of_positions_that_is_huge_costs_nothing(walk: Walk) -> None:
    trie = trie_of(forged(b"other", 1, [2**63]))
    await walk(trie)


@pytest.mark.parametrize("walk", [list_all, list_flat, compare])
async def test_a_node_that_is_linked_at_its_own_digit(walk: Walk) -> None:
    own = digit_of("other", 3)
    trie = trie_of(forged(b"other", 1, [0]), forged(b"other", 2, [4, 3, 1 << own, 1]))
    with pytest.raises(DamagedTrie):
        await walk(trie)


@pytest.mark.parametrize("walk", [list_all, list_flat, compare])
async def test_a_collision_where_the_parts_are_the_same(walk: Walk) -> None:
    own = digit_of("other", 32)
    trie = trie_of(forged(b"other", 1, [0]), forged(b"other", 2, [33, 32, 1 << own, 1]))
    if walk is compare:
        assert await compare(trie)
    else:
        with pytest.raises(DamagedTrie):
            await walk(trie)


async def test_a_listing_of_nodes_that_link_one_another_everywhere_does_not_explode() -> None:
    # All nodes have the same key and each links the one before at every position: 2**40 ways lead to the first.
    blocks = []
    for seq in range(1, 41):
        words = [34]
        for position in range(1, 34) if seq > 1 else ():
            words += [position, 1 << digit_of("same", position), seq - 1]
        blocks.append(forged(b"same", seq, words))
    with pytest.raises(DamagedTrie):
        await list_all(trie_of(*blocks))


@every_walk
@pytest.mark.parametrize(
    "block",
    [b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x01a\x1a\x02\xff\xff", b"\x0a\x01a\x1a\x0b" + b"\xff" * 11],
    ids=["garbage", "cut key", "cut varint", "endless varint"],
)
async def test_a_block_that_is_no_node(walk: Walk, block: bytes) -> None:
    with pytest.raises(DamagedTrie, match="not a trie node"):
        await walk(trie_of(block))


@every_walk
async def test_a_key_longer_than_any_path(walk: Walk) -> None:
    with pytest.raises(DamagedTrie, match="70000 bytes"):
        await walk(trie_of(forged(b"a/" * 35_000, 1, [0])))


async def test_a_key_that_is_not_utf8_is_read_as_the_reference_reads_it() -> None:
    trie = trie_of(forged(b"a\xffb", 1, [0]))
    assert [node.key async for node in trie.iterate()] == ["a�b"]


async def test_a_link_to_an_empty_node_is_no_entry() -> None:
    # The reference's own batch makes this, by deleting the last key and then putting another.
    empty = forged(b"", 1, [0])
    trie = trie_of(empty, forged(b"other", 2, [2, 1, 1 << 4, 1]))
    assert [node.key async for node in trie.iterate()] == ["other"]
    assert [change.key async for change in trie.diff(trie.checkout(1))] == ["other"]


async def test_a_seq_that_the_block_misstates_is_not_believed() -> None:
    trie = trie_of(forged(b"wanted", 99, [0]))
    node = await trie.get("wanted")
    assert node is not None
    assert node.seq == 1
