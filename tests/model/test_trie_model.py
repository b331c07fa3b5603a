"""A trie is a dict with versions: whatever is done to it, in whatever batches, from however small a cache."""

from dataclasses import dataclass, field

from hypothesis import given, note, settings
from hypothesis import strategies as st

from hyperfs.trie import Delete, Header, Node, NodeCache, Operation, Put, Trie, encode_batch
from hyperfs.trie.node import decode
from hyperfs.trie.paths import Hashing, PartHash, normalize, part_hash, split
from tests.support.sparse_core import SparseCore

Key = tuple[bool, tuple[str, ...]]
Contents = dict[Key, Node]

NO_CACHE = 1
SMALL_CACHE = 5_000
LARGE_CACHE = 10_000_000


def two_bit_hash(part: bytes) -> int:
    """Make a quarter of all parts collide, and differ only at the end of a part."""
    return (sum(part) & 3) << 62


def one_bit_hash(part: bytes) -> int:
    """Make half of all parts collide, and differ at their first digit."""
    return sum(part) & 1


names = st.sampled_from(["a", "b", "c", "d", "é", "🚀", "\uffee"])
paths = st.builds(
    lambda parts, slash: "/".join(parts) + slash,
    st.lists(names, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)
hidden = st.sampled_from([False, False, True])
puts = st.builds(Put, paths, st.none() | st.binary(max_size=3), flags=st.sampled_from([0, 1, 300]), hidden=hidden)
operations = st.one_of(puts, puts, st.builds(Delete, paths, hidden=hidden))


def key_of(path: str, *, is_hidden: bool) -> Key:
    return is_hidden, tuple(split(normalize(path)))


@dataclass
class Model:
    """A trie beside a dict for each of its versions."""

    hash_part: PartHash
    cache_size: int
    core: SparseCore = field(default_factory=lambda: SparseCore([Header().encode()]))
    versions: dict[int, Contents] = field(default_factory=lambda: {1: {}})

    def trie(self, version: int) -> Trie:
        """Return the trie as a reader that has just opened it has it."""
        return Trie(self.core, version, NodeCache(self.cache_size, hashing=Hashing(self.hash_part)))

    async def apply(self, batch: list[Operation]) -> None:
        before = self.core.length
        contents = dict(self.versions[before])
        blocks = await encode_batch(self.trie(before), batch)
        self.core.append(blocks)
        made = [decode(block, before + i, Hashing(self.hash_part)) for i, block in enumerate(blocks)]
        for operation in batch:
            key = key_of(operation.path, is_hidden=operation.hidden)
            if isinstance(operation, Put):
                node = made.pop(0)
                assert (node.key, node.value) == (normalize(operation.path), operation.value)
                assert (node.flags, node.hidden) == (operation.flags, operation.hidden)
                contents[key] = node
                continue
            there = contents.get(key)
            if there is None or there.key != normalize(operation.path):
                continue
            del contents[key]
            neighbour = made.pop(0)
            if neighbour.key:
                neighbour_key = key_of(neighbour.key, is_hidden=neighbour.hidden)
                assert neighbour.value == contents[neighbour_key].value
                assert neighbour.flags == contents[neighbour_key].flags
                contents[neighbour_key] = neighbour
            else:
                assert not contents
        assert not made
        self.versions[self.core.length] = contents

    def collides(self, key: Key, contents: Contents) -> bool:
        def hashes(parts: tuple[str, ...]) -> list[int]:
            return [self.hash_part(part.encode()) for part in parts]

        return any(
            other[0] == key[0]
            and any(
                other[1][:count] != key[1][:count] and hashes(other[1][:count]) == hashes(key[1][:count])
                for count in range(1, len(key[1]) + 1)
            )
            for other in contents
        )

    async def check(self, version: int) -> None:
        contents = self.versions[version]
        trie = self.trie(version)
        for is_hidden in (False, True):
            expected = sorted(node.seq for key, node in contents.items() if key[0] == is_hidden)
            listed = [node.seq async for node in trie.iterate(hidden=is_hidden)]
            assert sorted(listed) == expected
            backwards = [node.seq async for node in trie.iterate(hidden=is_hidden, reverse=True)]
            assert sorted(backwards) == expected
        for (is_hidden, parts), node in contents.items():
            found = await trie.get("/".join(parts), hidden=is_hidden)
            assert found is not None
            assert found.seq == node.seq
        for prefix in [("a",), ("a", "b"), ("é",)]:
            await self.check_prefix(trie, prefix, contents)
            if (False, prefix) not in contents:
                assert await trie.get("/".join(prefix)) is None

    async def check_prefix(self, trie: Trie, prefix: tuple[str, ...], contents: Contents) -> None:
        size = len(prefix)
        below = [key[1] for key in contents if not key[0] and key[1][:size] == prefix and len(key[1]) > size]
        listed = [tuple(node.parts) async for node in trie.iterate("/".join(prefix), gt=True)]
        assert sorted(listed) == sorted(below)
        flat = [
            tuple(node.parts)[: size + 1] async for node in trie.iterate("/".join(prefix), recursive=False, gt=True)
        ]
        assert sorted(flat) == sorted({parts[: size + 1] for parts in below})

    async def check_diff(self, older: int, newer: int) -> None:
        old, new = self.versions[older], self.versions[newer]
        for is_hidden in (False, True):
            expected = {
                (new[key].seq if key in new else 0, old[key].seq if key in old else 0)
                for key in {**old, **new}
                if key[0] == is_hidden and (key not in old or key not in new or old[key].seq != new[key].seq)
            }
            changes = [
                (change.newer.seq if change.newer else 0, change.older.seq if change.older else 0)
                async for change in self.trie(newer).diff(self.trie(older), hidden=is_hidden)
            ]
            assert len(changes) == len(set(changes))
            assert set(changes) == expected


async def apply_all(model: Model, batches: list[list[Operation]]) -> None:
    for batch in batches:
        note(f"version {model.core.length}: {batch}")
        await model.apply(batch)


async def check_all(model: Model, data: st.DataObject) -> None:
    versions = st.sampled_from(sorted(model.versions))
    await model.check(model.core.length)
    await model.check(data.draw(versions, label="checkout"))
    older, newer = sorted([data.draw(versions, label="one side"), data.draw(versions, label="other side")])
    await model.check_diff(older, newer)
    await model.check_diff(newer, older)


@given(
    st.sampled_from([NO_CACHE, SMALL_CACHE, LARGE_CACHE]),
    st.lists(st.lists(operations, min_size=1, max_size=8), max_size=12),
    st.data(),
)
async def test_a_trie_is_a_dict_with_versions(
    cache_size: int, batches: list[list[Operation]], data: st.DataObject
) -> None:
    model = Model(part_hash, cache_size)
    await apply_all(model, batches)
    await check_all(model, data)


@settings(max_examples=60)
@given(st.sampled_from([two_bit_hash, one_bit_hash]), st.lists(operations, max_size=25), st.data())
async def test_a_trie_whose_keys_collide_is_one_too(
    hash_part: PartHash, done: list[Operation], data: st.DataObject
) -> None:
    # Deleting a key that collides is left out: the format then keeps it, or drops the other key with it, which
    # tests/interop/test_trie_interop.py shows.
    model = Model(hash_part, NO_CACHE)
    for operation in done:
        key = key_of(operation.path, is_hidden=operation.hidden)
        if isinstance(operation, Put) or not model.collides(key, model.versions[model.core.length]):
            await apply_all(model, [[operation]])
    await check_all(model, data)
