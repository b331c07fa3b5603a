"""Tree nodes that a disk has changed: the next proof that tells better puts them right."""

import pytest

from hyperfs.core.core import Core
from hyperfs.core.sleep import HEADER_BYTES
from hyperfs.errors import InvalidProof
from hyperfs.storage import MemoryDirectory
from hyperfs.tree_node import NODE_BYTES

from ..support.cores import KEYS, bring, received, writer

LENGTH = 16


async def sparse_reader() -> tuple[Core, MemoryDirectory]:
    """Return the origin, and the files of a reader that has its blocks 0 and 13."""
    origin = await writer([b"block %d" % index for index in range(LENGTH)])
    directory = MemoryDirectory()
    core = await Core.open(directory, key=KEYS.public)
    await bring(origin, core, [0, 13])
    await core.close()
    return origin, directory


def overwrite(directory: MemoryDirectory, tree_index: int, node: bytes) -> None:
    at = HEADER_BYTES + NODE_BYTES * tree_index
    directory.files["tree"].data[at : at + NODE_BYTES] = node


@pytest.mark.parametrize(
    "node",
    [bytes(NODE_BYTES), b"\xff" * NODE_BYTES, b"x" * 32 + (14).to_bytes(8, "big")],
    ids=["lost", "beyond belief", "another"],
)
async def test_a_damaged_node_is_put_right_by_the_next_proof(node: bytes) -> None:
    origin, directory = await sparse_reader()
    overwrite(directory, 2, node)  # the leaf of block 1, which came beside block 0
    core = await Core.open(directory, key=KEYS.public)
    proof = await origin.proof(1)
    whole = (await received(origin, core, 1))._replace(nodes=proof.nodes, signature=proof.signature)
    await core.store([whole], origin=None)
    assert core.get_local(1) == b"block 1"
    assert await core.audit() == []


async def test_a_liar_is_blamed_though_nothing_is_damaged() -> None:
    origin, directory = await sparse_reader()
    core = await Core.open(directory, key=KEYS.public)
    item = await received(origin, core, 1)
    with pytest.raises(InvalidProof):
        await core.store([item._replace(value=b"forged")], origin=None)
