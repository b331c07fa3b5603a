"""Whoever makes the nodes of a trie cannot have a reader hold up everything else, nor fill its memory."""

import sys
from collections.abc import Iterator

import pytest
import trio

from hyperfs.errors import DamagedTrie, EncodingError
from hyperfs.trie import Header, NodeCache, Put, Trie, encode_batch, messages_pb2
from hyperfs.trie.cache import byte_size
from hyperfs.trie.loader import ALLOWANCE, MAX_PINNED_BYTES, Loader
from hyperfs.trie.node import MAX_WORDS, decode
from hyperfs.trie.paths import MAX_PARTS, Hashing, Path, part_hash
from tests.support.sparse_core import SparseCore

READS_IN_A_TURN = 2 * ALLOWANCE // 10
"""Of a walk's two turns one may come before, and one after, the watcher's."""


class WatchedCore(SparseCore):
    """Counts the most blocks that were read before other tasks had their turn."""

    longest_turn = 0
    _reads = 0

    def get_local(self, index: int) -> bytes | None:
        self._reads += 1
        self.longest_turn = max(self.longest_turn, self._reads)
        return super().get_local(index)

    async def watch(self) -> None:
        while True:
            self._reads = 0
            await trio.lowlevel.checkpoint()


def node_block(key: bytes, words: list[int], value: bytes = b"v") -> bytes:
    return messages_pb2.Node(key=key, valueBuffer=value, trieBuffer=words, seq=1, flags=0).SerializeToString()


@pytest.fixture(scope="module")
def blocks() -> list[bytes]:
    async def make() -> list[bytes]:
        core = SparseCore([Header().encode()])
        keys = [f"dir{number % 7}/file{number}" for number in range(4000)]
        return core.blocks + await encode_batch(Trie(core, 1, NodeCache()), [Put(key, b"v") for key in keys])

    return trio.run(make)


@pytest.fixture
def core(blocks: list[bytes]) -> Iterator[WatchedCore]:
    return WatchedCore(blocks)


async def walk_all(trie: Trie) -> int:
    return len([node async for node in trie.iterate()])


async def compare_all(trie: Trie) -> int:
    return len([change async for change in trie.diff(trie.checkout(1))])


async def read_history(trie: Trie) -> int:
    return len([node async for node in trie.history()])


async def skip_to_the_end(trie: Trie) -> int:
    """Iterate in one batch, however many nodes that is."""
    walk = trie.iterate()
    count = 0
    while nodes := await walk.next_batch(1 << 20):
        count += len(nodes)
    return count


@pytest.mark.parametrize("walk", [walk_all, compare_all, read_history, skip_to_the_end])
async def test_a_walk_over_what_is_here_lets_others_run(core: WatchedCore, walk: object) -> None:
    assert callable(walk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(core.watch)
        # a cache that keeps nothing, so that each node is read
        assert await walk(Trie(core, core.length, NodeCache(1))) == 4000
        nursery.cancel_scope.cancel()
    assert core.longest_turn <= READS_IN_A_TURN


def chain(length: int) -> list[bytes]:
    """Return nodes of which each is the next step of one lookup, as no honest writer makes them but may."""
    wanted = Path.of("w" + "/x" * (MAX_PARTS - 1), Hashing())
    keys: dict[int, bytes] = {}
    number = 0
    while len(keys) < length:
        # a key that shares the first parts with the wanted one, and nothing behind them
        depth = len(keys) + 1
        key = "/".join([*wanted.parts[:depth], f"other{number}"])
        keys[depth] = key.encode()
        number += 1
    made: list[bytes] = []
    newest_first = [keys[depth] for depth in sorted(keys)]
    for seq, key in enumerate(reversed(newest_first), 1):
        path = Path.of(key.decode(), Hashing())
        difference = path.digits ^ wanted.digits
        position = ((difference & -difference).bit_length() - 1) >> 1
        words = [position + 1, position, 1 << wanted.digit(position), seq - 1] if seq > 1 else [0]
        made.append(node_block(key, words))
    return made


async def test_a_lookup_that_takes_very_many_steps_lets_others_run() -> None:
    steps = 900
    core = WatchedCore([Header().encode(), *chain(steps)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(core.watch)
        trie = Trie(core, core.length, NodeCache(1))
        assert await trie.get("w" + "/x" * (MAX_PARTS - 1)) is None
        nursery.cancel_scope.cancel()
    assert len(core.read_blocks) >= steps
    assert core.longest_turn <= READS_IN_A_TURN


def test_digits_are_the_hashes_of_the_parts_one_after_another() -> None:
    digits, count = Hashing().digits("a/bc/d")
    assert count == 3
    assert digits == sum(part_hash(part) << (64 * place + 2) for place, part in enumerate([b"a", b"bc", b"d"]))


def test_a_path_has_as_many_parts_as_linux_can_be_told() -> None:
    assert Path.of("/".join(["a"] * MAX_PARTS), Hashing()).count == MAX_PARTS
    with pytest.raises(EncodingError, match="parts"):
        Path.of("/".join(["a"] * (MAX_PARTS + 1)), Hashing())


def test_a_node_whose_key_has_more_parts_is_damaged() -> None:
    with pytest.raises(DamagedTrie, match="parts"):
        decode(node_block(b"a/" * 30_000, [0]), 1, Hashing())


@pytest.mark.parametrize("words", [4_000_000, 100_000, 1_000])
def test_a_node_with_more_links_than_its_key_has_places_is_damaged(words: int) -> None:
    with pytest.raises(DamagedTrie, match="links"):
        decode(node_block(b"k", [2, *[0] * words]), 1, Hashing())


def test_a_node_of_very_many_fields_is_damaged() -> None:
    with pytest.raises(DamagedTrie, match="fields"):
        decode(b"\x0a\x01k" * 100_000, 1, Hashing())


def test_a_node_may_have_a_large_value() -> None:
    node = decode(node_block(b"k", [0], b"v" * (1 << 20)), 1, Hashing())
    assert node.value is not None
    assert len(node.value) == 1 << 20


def test_long_folders_are_not_remembered() -> None:
    hashing = Hashing()
    for number in range(100):
        hashing.digits("a/" * 1000 + f"{number}/name")
    assert hashing._directory.cache_info().currsize == 0


def test_the_cache_counts_everything_that_a_node_refers_to() -> None:
    node = decode(node_block(("é/" * 1000 + "x").encode(), [0], b"v" * 5000), 1, Hashing())
    referred = [node.key, node.digits, node.words, node.value]
    assert byte_size(node) >= sum(map(sys.getsizeof, referred))


async def test_what_was_fetched_ahead_is_kept_within_a_bound() -> None:
    large = [node_block(b"%d" % number, [0], bytes(1 << 20)) for number in range(64)]
    core = SparseCore([Header().encode(), *large], held=[])
    loader = Loader(core, NodeCache(1))
    await loader.fetch(range(1, 65))
    assert sum(map(byte_size, loader._pinned.values())) <= MAX_PINNED_BYTES + 2 * (1 << 20)
    await loader.rest()
    assert loader.node(64).key == "63"


@pytest.mark.parametrize("walk", [walk_all, compare_all, skip_to_the_end])
@pytest.mark.parametrize("cache_bytes", [1, 1 << 24])
async def test_a_node_that_takes_more_than_a_turn_is_walked_all_the_same(walk: object, cache_bytes: int) -> None:
    assert callable(walk)
    key = "/".join(["a"] * MAX_PARTS)
    digits = Path.of(key, Hashing())
    words = [digits.length]
    for position in range(1, digits.length, 3):
        words += [position, 1 << (digits.digit(position) + 1) % 4, 1]
    words = words[: MAX_WORDS // 3 * 3 + 1]
    large = node_block(key.encode(), words)
    assert decode(large, 2, Hashing()).cost > ALLOWANCE
    core = SparseCore([Header().encode(), node_block(b"first", [0]), large])
    trie = Trie(core, core.length, NodeCache(cache_bytes))
    assert (node := await trie.get(key)) is not None
    assert node.seq == 2
    with pytest.raises(DamagedTrie):
        await walk(trie)
    assert await encode_batch(trie, [Put("other", b"v")])
