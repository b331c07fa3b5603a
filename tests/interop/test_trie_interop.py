"""Random operations, done by us and by the live reference: every block and every listing is the same."""

import base64
import random
from typing import Any

import pytest

from hyperfs.trie import Delete, Header, Node, NodeCache, Operation, Put, Trie, encode_batch
from hyperfs.trie.iterator import NodeIterator
from hyperfs.trie.paths import Hashing
from tests.support.reference import ReferencePeer, reference_peer
from tests.support.sparse_core import SparseCore

NAMES = ["a", "b", "c", "dir", "sub", "ünï", "日本", "🚀", "x y", "n1", "n2", "n3", "n4", "n5"]
# Two of each hash, "kept" being of another: with three, the order of slots depends on which read the reference ends
# first.
COLLIDING_NAMES = ["a", "e", "b", "f", "c", "g"]
CHUNKS = 12


def colliding_part_hash(part: bytes) -> int:
    """As `collidingHash` in tests/interop/reference/lib/tries.js."""
    return sum(part) % 4


def random_operations(rng: random.Random, count: int, names: list[str]) -> list[Operation]:
    operations: list[Operation] = []
    for _ in range(count):
        path = "/".join(rng.choices(names, k=rng.choice([1, 1, 2, 2, 3])))
        path = rng.choice(["", "", "", "/"]) + path + rng.choice(["", "", "", "", "/"])
        hidden = rng.random() < 0.15
        if rng.random() < 0.3:
            operations.append(Delete(path, hidden=hidden))
        else:
            value = rng.choice([None, b"", b"value", rng.randbytes(20)])
            operations.append(Put(path, value, flags=rng.choice([0, 0, 1, 5]), hidden=hidden))
    return operations


def as_params(operation: Operation) -> dict[str, Any]:
    if isinstance(operation, Delete):
        return {"type": "del", "key": operation.path, "hidden": operation.hidden}
    value = None if operation.value is None else {"hex": operation.value.hex()}
    return {
        "type": "put",
        "key": operation.path,
        "value": value,
        "hidden": operation.hidden,
        "flags": operation.flags,
    }


async def apply_both(
    peer: ReferencePeer, trie_key: str, rng: random.Random, cache: NodeCache, names: list[str]
) -> SparseCore:
    """Apply the same chunks of operations, some as batches; return our core."""
    core = SparseCore([Header().encode()])
    # Something always stays: a batch that empties the trie and goes on crashes the reference's own readers.
    first: list[Operation] = [Put("kept", b"kept")]
    for number in range(CHUNKS):
        operations = first if number == 0 else random_operations(rng, rng.choice([1, 5, 25]), names)
        together = rng.random() < 0.6
        await peer.call(
            "trie.batch", trie=trie_key, together=together, operations=[as_params(each) for each in operations]
        )
        for part in [operations] if together else [[each] for each in operations]:
            core.append(await encode_batch(Trie(core, core.length, cache), part))
    return core


async def open_trie(peer: ReferencePeer, *, colliding: bool) -> str:
    key: str = (await peer.call("core.open", name="trie"))["key"]
    await peer.call("trie.open", trie=key, core=key, colliding=colliding)
    return key


async def listing(iterator: NodeIterator) -> list[dict[str, Any]]:
    return [as_reported(node) async for node in iterator]


def as_reported(node: Node) -> dict[str, Any]:
    # The reference takes the hidden bit from what it calls flags, and reports no value for an empty one's truth.
    value = None if node.value is None else {"base64": base64.b64encode(node.value).decode()}
    return {"key": node.key, "seq": node.seq, "flags": node.flags, "hidden": node.hidden, "value": value}


@pytest.mark.parametrize("seed", range(4))
async def test_blocks_listings_and_diffs_are_the_same(seed: int) -> None:
    rng = random.Random(seed)
    async with reference_peer() as peer:
        key = await open_trie(peer, colliding=False)
        cache = NodeCache()
        core = await apply_both(peer, key, rng, cache, NAMES)
        theirs = [base64.b64decode(block) for block in await peer.call("trie.blocks", trie=key)]
        assert core.blocks == theirs

        trie = Trie(core, core.length, cache)
        for prefix in ["", "dir", "a", "日本", "dir/sub", "nothing"]:
            for options in [{}, {"recursive": False}, {"reverse": True}, {"gt": True}, {"hidden": True}]:
                assert await listing(trie.iterate(prefix, **options)) == await peer.call(
                    "trie.list", trie=key, prefix=prefix, **options
                ), (prefix, options)
        for version in rng.choices(range(1, core.length), k=6):
            older = trie.checkout(version)
            assert await listing(older.iterate()) == await peer.call("trie.list", trie=key, version=version)
            ours = [
                (change.key, change.newer and change.newer.seq, change.older and change.older.seq)
                async for change in trie.diff(older)
            ]
            reported = await peer.call("trie.diff", trie=key, other=version)
            assert ours == [
                (change["key"], *(change[side] and change[side]["seq"] for side in ("left", "right")))
                for change in reported
            ]


@pytest.mark.parametrize("seed", range(4))
async def test_blocks_and_listings_are_the_same_when_parts_collide(seed: int) -> None:
    rng = random.Random(seed)
    async with reference_peer() as peer:
        key = await open_trie(peer, colliding=True)
        cache = NodeCache(hashing=Hashing(colliding_part_hash))
        core = await apply_both(peer, key, rng, cache, COLLIDING_NAMES)
        theirs = [base64.b64decode(block) for block in await peer.call("trie.blocks", trie=key)]
        assert core.blocks == theirs

        trie = Trie(core, core.length, cache)
        for options in [{}, {"recursive": False}, {"reverse": True}, {"hidden": True}]:
            assert await listing(trie.iterate(**options)) == await peer.call("trie.list", trie=key, **options), options


@pytest.mark.parametrize(
    ("operations", "left"),
    [
        ([Put("a", b""), Put("e", b""), Delete("a")], ["a", "e"]),
        ([Put("b", b""), Put("a", b""), Put("e", b""), Delete("e")], ["b"]),
        ([Put("a", b""), Put("e", b""), Put("b", b""), Delete("b")], ["a", "e"]),
    ],
    ids=["the older stays", "the newer takes the older with it", "others are deleted as ever"],
)
async def test_deleting_beside_a_collision_is_as_odd_as_in_the_reference(
    operations: list[Operation], left: list[str]
) -> None:
    cache = NodeCache(hashing=Hashing(colliding_part_hash))
    core = SparseCore([Header().encode()])
    async with reference_peer() as peer:
        key = await open_trie(peer, colliding=True)
        await peer.call("trie.batch", trie=key, together=False, operations=[as_params(each) for each in operations])
        for operation in operations:
            core.append(await encode_batch(Trie(core, core.length, cache), [operation]))
        assert core.blocks == [base64.b64decode(block) for block in await peer.call("trie.blocks", trie=key)]
    assert [node.key async for node in Trie(core, core.length, cache).iterate()] == left
