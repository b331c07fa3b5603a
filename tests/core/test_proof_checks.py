"""What a reader takes over from peers, and what it refuses."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.core.core import Core
from hyperfs.core.nonblocking import run_with_reads
from hyperfs.core.proofs import MAX_BLOCK_BYTES, Received, choose_nodes, request_digest
from hyperfs.crypto import key_pair
from hyperfs.errors import BlockNotAvailable, BlockTooFar, Fork, InvalidProof
from hyperfs.storage import DiskDirectory, MemoryDirectory
from hyperfs.tree_node import TreeNode
from tests.support.cores import KEYS, bring, reader, received, writer
from tests.support.far_block import far_block

BLOCKS = [b"block %d" % index * (index % 4) for index in range(37)]


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13, 37])
async def test_every_block_is_proven_to_an_empty_reader(length: int) -> None:
    source = await writer(BLOCKS[:length])
    for index in range(length):
        target = await reader()
        await bring(source, target, [index])
        assert (target.length, target.get_local(index)) == (length, BLOCKS[index])


async def test_blocks_arrive_in_any_order_with_digests() -> None:
    chance = random.Random(3)
    for _ in range(10):
        source, target = await writer(BLOCKS), await reader()
        order = list(range(len(BLOCKS)))
        chance.shuffle(order)
        await bring(source, target, order)
        assert [target.get_local(index) for index in range(37)] == BLOCKS
        assert await target.audit() == []


async def test_blocks_arrive_while_the_core_grows() -> None:
    chance = random.Random(4)
    for _ in range(10):
        source, target = await writer(), await reader()
        for start in range(0, 37, 6):
            await source.append(BLOCKS[start : start + 6])
            for _ in range(3):
                await bring(source, target, [chance.randrange(source.length)])
        await bring(source, target, range(37))
        assert [target.get_local(index) for index in range(37)] == BLOCKS


async def test_a_reader_serves_another_reader() -> None:
    source, middle, target = await writer(BLOCKS), await reader(), await reader()
    await bring(source, middle, [3, 17, 30])
    await bring(middle, target, [17, 3, 30])
    assert [target.get_local(index) for index in (3, 17, 30)] == [BLOCKS[index] for index in (3, 17, 30)]


async def test_a_reader_of_several_heads_serves_another_reader() -> None:
    source, middle, target = await writer(BLOCKS[:5]), await reader(), await reader()
    await bring(source, middle, [4])
    await source.append(BLOCKS[5:8])
    await bring(source, middle, [6])
    await bring(middle, target, [6, 4])
    assert [target.get_local(index) for index in (6, 4)] == [BLOCKS[6], BLOCKS[4]]


async def test_a_lower_head_than_ours_is_no_fork() -> None:
    source, old, target = await writer(BLOCKS[:20]), await reader(), await reader()
    await bring(source, old, range(20))
    await source.append(BLOCKS[20:])
    await bring(source, target, [36])
    await bring(old, target, [2])
    assert (target.length, target.get_local(2)) == (37, BLOCKS[2])


async def test_a_hash_alone_brings_the_length() -> None:
    source, target = await writer(BLOCKS), await reader()
    proof = await source.proof(36, hash_only=True)
    await target.store([Received(36, None, proof.nodes, proof.signature)], origin=None)
    assert (target.length, target.has(36, 37)) == (37, False)


async def test_an_unknown_block_has_no_proof() -> None:
    core = await writer(BLOCKS)
    with pytest.raises(BlockNotAvailable):
        await core.proof(37)


@given(length=st.integers(1, 40), known=st.sets(st.integers(0, 39)), wanted=st.integers(0, 39))
async def test_a_digest_leaves_out_just_what_is_known(length: int, known: set[int], wanted: int) -> None:
    wanted %= length
    source, target = await writer(BLOCKS[:1] * length), await reader()
    await bring(source, target, [index for index in known if index < length])
    item = await received(source, target, wanted)
    assert not any(target._bitfield.has_node(node.tree_index) for node in item.nodes)
    await target.store([item], origin=None)
    assert target.has(wanted, wanted + 1)


@given(st.sets(st.integers(0, 80)), st.integers(0, 40), st.integers(0, 2**64 - 1))
def test_any_digest_of_any_tree_is_answered(nodes: set[int], index: int, digest: int) -> None:
    chosen = choose_nodes(nodes.__contains__, index, digest=digest, hash_only=False)
    assert (chosen is None) == (2 * index not in nodes)
    assert request_digest(index, 41, nodes.__contains__)[0] > 0 or 2 * index not in nodes


def flipped(value: bytes, at: int = 0) -> bytes:
    return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]


def with_node(item: Received, position: int, node: TreeNode) -> Received:
    return item._replace(nodes=(*item.nodes[:position], node, *item.nodes[position + 1 :]))


BAD: dict[str, Callable[[Received], Received]] = {
    "another value": lambda item: item._replace(value=b"something else"),
    "a flipped bit in the value": lambda item: item._replace(value=flipped(item.value or b"")),
    "no value": lambda item: item._replace(value=None),
    "an empty value": lambda item: item._replace(value=b""),
    "another index": lambda item: item._replace(index=item.index + 1),
    "a negative index": lambda item: item._replace(index=-1),
    "an endless index": lambda item: item._replace(index=2**63),
    "a flipped bit in an uncle": lambda item: with_node(
        item, 0, item.nodes[0]._replace(hash=flipped(item.nodes[0].hash))
    ),
    "an uncle of another size": lambda item: with_node(item, 0, item.nodes[0]._replace(size=item.nodes[0].size + 1)),
    "an uncle of an absurd size": lambda item: with_node(item, 0, item.nodes[0]._replace(size=2**64 - 1)),
    "a short hash": lambda item: with_node(item, 0, item.nodes[0]._replace(hash=b"short")),
    "another root": lambda item: (
        with_node(item, -1, item.nodes[-1]._replace(hash=bytes(32)))
        if len(item.nodes) == 1
        else item._replace(nodes=(*item.nodes[:-1], item.nodes[-1]._replace(hash=bytes(32))))
    ),
    "a root left out": lambda item: item._replace(nodes=item.nodes[:-1]),
    "an uncle left out": lambda item: item._replace(nodes=item.nodes[1:]),
    "nodes in another order": lambda item: item._replace(nodes=item.nodes[::-1]),
    "a node too many": lambda item: item._replace(nodes=(*item.nodes, TreeNode(1 << 50, bytes(32), 1))),
    "no nodes": lambda item: item._replace(nodes=()),
    "no signature": lambda item: item._replace(signature=None),
    "a flipped bit in the signature": lambda item: item._replace(signature=flipped(item.signature or b"")),
    "a short signature": lambda item: item._replace(signature=b"short"),
    "a block over 8 MiB": lambda item: item._replace(value=bytes(MAX_BLOCK_BYTES + 1)),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())
async def test_a_bad_proof_leaves_no_trace(spoil: Callable[[Received], Received]) -> None:
    directory = MemoryDirectory()
    source, target = await writer(BLOCKS), await reader(directory=directory)
    before = {name: bytes(file.data) for name, file in directory.files.items()}
    with pytest.raises(InvalidProof):
        await target.store([spoil(await received(source, target, 5))], origin=None)
    await target.sync()
    assert {name: bytes(file.data) for name, file in directory.files.items()} == before
    assert (target.length, target.count(0, 100)) == (0, 0)


@pytest.mark.parametrize("spoil", [BAD["another value"], BAD["a flipped bit in an uncle"]])
async def test_a_bad_proof_is_refused_by_who_has_other_blocks(spoil: Callable[[Received], Received]) -> None:
    source, target = await writer(BLOCKS), await reader()
    await bring(source, target, [0, 20])
    item = await received(source, target, 6)
    assert item.nodes
    with pytest.raises(InvalidProof):
        await target.store([spoil(item)], origin=None)
    assert not target.has(6, 7)


async def block_0_and_a_newer_head() -> tuple[Core, Core, Received]:
    """A writer of 16 blocks, a reader that has no nodes between block 0 and the root, and the item that brings them."""
    source, target = await writer(BLOCKS[:1]), await reader()
    await bring(source, target, [0])
    await source.append(BLOCKS[1:16])
    await bring(source, target, [15])
    proof = await source.proof(0)
    return source, target, Received(0, BLOCKS[0], proof.nodes, proof.signature)


async def test_what_an_answer_has_beyond_the_first_known_node_is_kept() -> None:
    _, target, item = await block_0_and_a_newer_head()
    await target.store([item], origin=None)
    assert all(target.has_node(node) for node in (1, 2, 3, 5, 11))


@pytest.mark.parametrize("position", range(4))
async def test_what_does_not_verify_beyond_the_first_known_node_is_left_out(position: int) -> None:
    source, target, item = await block_0_and_a_newer_head()
    await target.store([with_node(item, position, item.nodes[position]._replace(hash=bytes(32)))], origin=None)
    for node in range(32):
        known = await run_with_reads(target._nodes.get, node)
        assert known is None or known == source._nodes.get(node)


async def test_a_damaged_node_between_a_block_and_the_head_is_put_right_by_an_answer() -> None:
    source, target, item = await block_0_and_a_newer_head()
    await target.store([item], origin=None)
    right = source._nodes.get(3)
    assert right is not None
    target._nodes.replace(right._replace(hash=bytes(32)))
    await target.store([item], origin=None)
    assert target._nodes.get(3) == right


async def test_a_longer_tree_that_comes_with_a_block_does_not_extend_a_writer() -> None:
    backup, newer = await writer(BLOCKS[:4]), await writer(BLOCKS[:9])
    await backup.clear(1, 2)
    proof = await newer.proof(1)
    await backup.store([Received(1, BLOCKS[1], proof.nodes, proof.signature)], origin=None)
    assert backup.has(1, 2)
    assert backup.length == 4
    assert not backup.has_node(16)


async def test_what_came_before_a_bad_item_is_kept() -> None:
    source, target = await writer(BLOCKS), await reader()
    good, bad, late = [await received(source, target, index) for index in (1, 2, 3)]
    with pytest.raises(InvalidProof, match="block 2"):
        await target.store([good, bad._replace(value=b"no"), late], origin=None)
    assert [target.has(index, index + 1) for index in (1, 2, 3)] == [True, False, False]


async def forks() -> tuple[Core, Core]:
    """Two cores of one key that differ in block 2."""
    return await writer(BLOCKS[:8]), await writer([*BLOCKS[:2], b"another", *BLOCKS[3:9]])


async def test_a_signed_contradiction_is_a_fork() -> None:
    one, other = await forks()
    target = await reader()
    await bring(one, target, range(8))
    proof = await other.proof(2)
    with pytest.raises(Fork, match="forked"):
        await target.store([Received(2, b"another", proof.nodes, proof.signature)], origin=None)


async def test_a_fork_changes_nothing() -> None:
    one, other = await forks()
    target = await reader()
    await bring(one, target, range(8))
    proof = await other.proof(8)
    with pytest.raises(Fork):
        await target.store([Received(8, BLOCKS[8], proof.nodes, proof.signature)], origin=None)
    assert [target.get_local(index) for index in range(target.length)] == BLOCKS[:8]


async def test_a_writer_refuses_a_fork_of_itself() -> None:
    one, other = await forks()
    proof = await other.proof(8)
    with pytest.raises(Fork):
        await one.store([Received(8, BLOCKS[8], proof.nodes, proof.signature)], origin=None)


async def test_an_unsigned_contradiction_is_only_a_bad_proof() -> None:
    one, _ = await forks()
    stranger = await writer([b"a"] * 8, keys=key_pair(b"\x09" * 32))
    target = await reader()
    await bring(one, target, range(8))
    proof = await stranger.proof(2)
    with pytest.raises(InvalidProof) as caught:
        await target.store([Received(2, b"a", proof.nodes, proof.signature)], origin=None)
    assert not isinstance(caught.value, Fork)


async def test_a_proof_shows_only_what_is_durable() -> None:
    core = await writer(BLOCKS[:5])
    await core.sync()
    await core.append(BLOCKS[5:])
    target = await reader()
    await bring(core, target, [0])
    assert target.length == 5


async def test_the_proof_of_a_new_block_waits_until_it_is_durable() -> None:
    core = await writer(BLOCKS)
    await core.proof(36)
    assert core.durable_length == 37


async def test_many_blocks_are_stored_at_once() -> None:
    source, target = await writer(BLOCKS), await reader()
    items = [await received(source, target, index) for index in itertools.chain(range(30, 37), range(30))]
    await target.store(items, origin=None)
    assert [target.get_local(index) for index in range(37)] == BLOCKS


async def test_a_block_that_no_file_reaches_is_left_out_and_nothing_else(tmp_path: Path) -> None:
    target = await reader(directory=DiskDirectory(tmp_path))
    with pytest.raises(BlockTooFar, match=r"blocks \[1\]"):
        await target.store([far_block(KEYS)], origin=None)
    assert (target.length, target.count(0, 2)) == (2, 0)
    await target.close()
    again = await reader(directory=DiskDirectory(tmp_path))
    assert (again.length, again.count(0, 2)) == (2, 0)
    await again.close()
