"""Whatever the blocks of a trie hold, a walk over them ends, with nodes or with `DamagedTrie`, and reads little."""

from collections.abc import AsyncIterable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.errors import DamagedTrie
from hyperfs.trie import Delete, Header, NodeCache, Put, Trie, encode_batch, messages_pb2
from hyperfs.trie.cache import NodeTable
from hyperfs.trie.node import Node
from hyperfs.trie.paths import Hashing
from tests.support.sparse_core import SparseCore

KEYS = ["", "a", "b", "a/b", "b/a", "a/b/c", "d/"]
POSITIONS_OF_LONGEST_KEY = 98


def coarse_hash(part: bytes) -> int:
    """Make digits that are mostly zero, so that random links often fit."""
    return sum(part) & 3


hashings = st.sampled_from([Hashing(), Hashing(coarse_hash)])
numbers = st.integers(0, 12) | st.sampled_from([31, 32, 33, 64, 65, 97, 2**31, 2**32, 2**53, 2**64 - 1])
buckets = st.tuples(numbers, st.integers(0, 40), st.lists(st.integers(0, 10), max_size=5))
words = st.one_of(
    st.lists(numbers, max_size=20),
    st.lists(buckets, max_size=4).map(
        lambda chosen: [99, *(word for place, mask, seqs in sorted(chosen) for word in (place, mask, *seqs))]
    ),
)
nodes = st.builds(
    lambda key, links, flags: messages_pb2.Node(
        key=key.encode(), valueBuffer=b"v", trieBuffer=links, flags=flags
    ).SerializeToString(),
    st.sampled_from(KEYS),
    words,
    st.sampled_from([0, 0, 0, 1]),
)


@pytest.fixture(scope="module")
def honest() -> list[bytes]:
    async def make() -> list[bytes]:
        core = SparseCore([Header().encode()])
        puts = [Put(f"{folder}/{name}", b"v") for folder in "abc" for name in "xyz"]
        return await encode_batch(Trie(core, 1, NodeCache()), [*puts, Delete("b/y"), Put("a", b"", hidden=True)])

    return trio.run(make)


async def end_every_walk(blocks: list[bytes], hashing: Hashing, monkeypatch: pytest.MonkeyPatch) -> None:
    core = SparseCore([Header().encode(), *blocks])
    looked_up = 0
    # Each node has at most one place for each position; every walk may look at it there, and again after a failure.
    most = 4 * (len(blocks) + 1) * POSITIONS_OF_LONGEST_KEY

    def count(table: NodeTable, seq: int) -> Node | None:
        nonlocal looked_up
        looked_up += 1
        assert looked_up <= most, "a walk does not end"
        return None

    monkeypatch.setattr(NodeTable, "get", count)
    trie = Trie(core, core.length, NodeCache(1, hashing=hashing))
    older = trie.checkout(core.length // 2)
    walks = [
        lambda: trie.get("a/b"),
        lambda: trie.get("a", hidden=True),
        lambda: collect(trie.iterate()),
        lambda: collect(trie.iterate("a", recursive=False, gt=True)),
        lambda: collect(trie.iterate(reverse=True, hidden=True)),
        lambda: collect(trie.diff(older)),
        lambda: collect(older.diff(trie)),
        lambda: encode_batch(trie, [Put("a/b/c", b"")]),
        lambda: encode_batch(trie, [Delete("a/b")]),
    ]
    for walk in walks:
        looked_up = 0
        try:
            await walk()
        except DamagedTrie:
            continue


async def collect(iterator: AsyncIterable[object]) -> list[object]:
    return [item async for item in iterator]


@given(blocks=st.lists(nodes, min_size=1, max_size=10), hashing=hashings)
async def test_forged_nodes(blocks: list[bytes], hashing: Hashing) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        await end_every_walk(blocks, hashing, monkeypatch)


@given(data=st.data())
async def test_honest_blocks_with_a_byte_changed(honest: list[bytes], data: st.DataObject) -> None:
    blocks = list(honest)
    number = data.draw(st.integers(0, len(blocks) - 1))
    changed = bytearray(blocks[number])
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    blocks[number] = bytes(changed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        await end_every_walk(blocks, Hashing(), monkeypatch)
