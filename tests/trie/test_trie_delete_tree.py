"""Dropping a prefix with everything below it takes one block, and nothing else with it."""

from hypothesis import given
from hypothesis import strategies as st

from hyperfs.trie import Delete, DeleteTree, Header, NodeCache, Operation, Put, Trie, encode_batch
from tests.support.memory_core import MemoryCore

NAMES = st.sampled_from(["a", "b", "c", "d", "ab"])
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
OPERATIONS = st.one_of(
    st.builds(Put, KEYS, st.binary(max_size=3), st.just(0), st.booleans()),
    st.builds(Put, KEYS, st.binary(max_size=3), st.just(0), st.booleans()),
    st.builds(Delete, KEYS, st.booleans()),
    st.builds(DeleteTree, KEYS, st.booleans()),
)
Model = dict[tuple[bool, str], bytes | None]


def apply(model: Model, operation: Operation) -> None:
    match operation:
        case Put(path, value, _, hidden):
            model[hidden, path] = value
        case Delete(path, hidden):
            model.pop((hidden, path), None)
        case DeleteTree(path, hidden):
            for key in [key for key in model if key[0] == hidden and f"{key[1]}/".startswith(f"{path}/")]:
                del model[key]


async def run(*operations: Operation) -> Trie:
    core = MemoryCore(bytes(32))
    await core.append([Header().encode()])
    for operation in operations:
        await core.append(await encode_batch(Trie(core, core.length, NodeCache()), [operation]))
    return Trie(core, core.length, NodeCache())


async def content(trie: Trie) -> Model:
    return {(hidden, node.key): node.value for hidden in (False, True) async for node in trie.iterate(hidden=hidden)}


@given(st.lists(OPERATIONS, max_size=25))
async def test_what_is_left_is_what_a_dict_would_have(operations: list[Operation]) -> None:
    model: Model = {}
    for operation in operations:
        apply(model, operation)
    trie = await run(*operations)
    assert await content(trie) == model
    for hidden, key in model:
        found = await trie.get(key, hidden=hidden)
        assert found is not None
        assert found.value == model[hidden, key]


@given(st.lists(OPERATIONS, max_size=25))
async def test_a_batch_does_the_same(operations: list[Operation]) -> None:
    core = MemoryCore(bytes(32))
    await core.append([Header().encode()])
    await core.append(await encode_batch(Trie(core, 1, NodeCache()), operations))
    assert await content(Trie(core, core.length, NodeCache())) == await content(await run(*operations))


async def test_a_tree_of_any_size_takes_one_block() -> None:
    puts = [Put(f"t/{number % 7}/{number}", b"") for number in range(200)]
    before = await run(Put("x", b""), *puts)
    after = await run(Put("x", b""), *puts, DeleteTree("t"))
    assert after.version == before.version + 1
    assert [node.key async for node in after.iterate()] == ["x"]


async def test_nothing_is_written_when_there_is_nothing() -> None:
    assert (await run(Put("tt", b""), DeleteTree("t"))).version == 2


async def test_a_diff_names_all_that_went() -> None:
    trie = await run(Put("x", b""), Put("t", b""), Put("t/a", b""), Put("t/b/c", b""), DeleteTree("t"))
    gone = {change.key async for change in trie.diff(trie.checkout(5)) if change.newer is None}
    assert gone == {"t", "t/a", "t/b/c"}
