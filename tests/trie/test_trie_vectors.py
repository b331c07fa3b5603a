"""The trie does, byte for byte, what the reference did for tests/fixtures/trie.json."""

from typing import Any

import pytest

from hyperfs.trie import Delete, Header, Node, NodeCache, Operation, Put, Trie, encode_batch
from hyperfs.trie.iterator import NodeIterator
from hyperfs.trie.paths import part_hash
from tests.support.sparse_core import SparseCore
from tests.support.vectors import load

CASES = {case["name"]: case for case in load("trie")["cases"]}


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Any:
    return CASES[request.param]


@pytest.fixture
def trie(case: Any) -> Trie:
    core = SparseCore(bytes.fromhex(block) for block in case["blocks"])
    return Trie(core, core.length, NodeCache())


def operation(fields: dict[str, Any]) -> Operation:
    if fields["type"] == "del":
        return Delete(fields["key"], hidden=fields.get("hidden", False))
    value = fields.get("value")
    return Put(
        fields["key"],
        None if value is None else bytes.fromhex(value),
        flags=fields.get("flags", 0),
        hidden=fields.get("hidden", False),
    )


async def listing(iterator: NodeIterator) -> list[list[Any]]:
    return [[node.key, node.seq] async for node in iterator]


async def test_each_operation_makes_the_references_blocks(case: Any) -> None:
    core = SparseCore([Header().encode()])
    cache = NodeCache()
    for fields in case["ops"]:
        operations = [operation(inner) for inner in fields.get("ops", [fields])]
        core.append(await encode_batch(Trie(core, core.length, cache), operations))
    assert [block.hex() for block in core.blocks] == case["blocks"]


async def test_a_recursive_listing(case: Any, trie: Trie) -> None:
    assert await listing(trie.iterate()) == case["list"]


async def test_a_flat_listing(case: Any, trie: Trie) -> None:
    assert await listing(trie.iterate(recursive=False)) == case["listFlat"]


async def test_a_reversed_listing(case: Any, trie: Trie) -> None:
    assert await listing(trie.iterate(reverse=True)) == case["listReverse"]


async def test_a_listing_without_the_prefix_itself(case: Any, trie: Trie) -> None:
    assert await listing(trie.iterate(gt=True)) == case["listGt"]


async def test_a_listing_of_hidden_entries(case: Any, trie: Trie) -> None:
    assert await listing(trie.iterate(hidden=True)) == case["listHidden"]


async def test_listings_below_prefixes(case: Any, trie: Trie) -> None:
    listings = {
        prefix: {
            "recursive": await listing(trie.iterate(prefix)),
            "flat": await listing(trie.iterate(prefix, recursive=False)),
            "gt": await listing(trie.iterate(prefix, gt=True)),
        }
        for prefix in case["prefixes"]
    }
    assert listings == case["prefixes"]


async def test_a_checkout(case: Any, trie: Trie) -> None:
    assert await listing(trie.checkout(case["checkout"]["version"]).iterate()) == case["checkout"]["list"]


async def test_a_diff(case: Any, trie: Trie) -> None:
    def seq(node: Node | None) -> int | None:
        return None if node is None else node.seq

    older = trie.checkout(case["diffFrom"]["version"])
    changes = [
        {"key": change.key, "left": seq(change.newer), "right": seq(change.older)} async for change in trie.diff(older)
    ]
    assert changes == case["diffFrom"]["entries"]


async def test_every_listed_key_is_got(case: Any, trie: Trie) -> None:
    for key, seq in case["list"]:
        node = await trie.get(key)
        assert node is not None
        assert node.seq == seq


@pytest.mark.parametrize(("part", "digest"), sorted(load("crypto")["siphash24ZeroKey"].items()))
def test_siphash_of_parts(part: str, digest: str) -> None:
    assert part_hash(part.encode()).to_bytes(8, "little").hex() == digest
