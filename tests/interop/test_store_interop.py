"""One store directory, opened in turns by hyperfs and by the reference."""

import base64
import random
from pathlib import Path
from typing import Any

from hyperfs.core.core import Core
from hyperfs.core.store import run_store
from hyperfs.errors import StoreLocked
from tests.support.cores import bring, writer
from tests.support.reference import ReferenceFailed, ReferencePeer, reference_peer

BLOCKS = [b"block %d;" % index * (index % 5) for index in range(300)]


async def theirs(peer: ReferencePeer, key: str, length: int) -> list[bytes]:
    return [base64.b64decode((await peer.call("core.get", core=key, index=i))["base64"]) for i in range(length)]


def texts(blocks: list[bytes]) -> list[dict[str, str]]:
    return [{"text": block.decode()} for block in blocks]


async def test_a_store_of_ours_opens_in_the_reference(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core = await store.create_core(b"default")
        await core.append(BLOCKS)
        key = core.key.hex()
    async with reference_peer(tmp_path) as peer:
        info = await peer.call("core.open", name="default")
        assert (info["key"], info["writable"], info["length"], info["downloaded"]) == (key, True, 300, 300)
        assert await theirs(peer, key, 300) == BLOCKS


async def test_the_reference_finds_nothing_wrong_with_a_store_of_ours(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core = await store.create_core(b"default")
        for start in range(0, 300, 7):
            await core.append(BLOCKS[start : start + 7])
    async with reference_peer(tmp_path) as peer:
        await peer.call("core.open", name="default")
        assert await peer.call("core.audit", core=core.key.hex()) == {"valid": 300, "invalid": 0}


async def test_a_store_of_the_references_opens_in_ours(tmp_path: Path) -> None:
    async with reference_peer(tmp_path) as peer:
        key = (await peer.call("core.open", name="default"))["key"]
        await peer.call("core.append", core=key, blocks=texts(BLOCKS), batch=11)
        await peer.call("core.clear", core=key, start=20, end=30)
    async with run_store(tmp_path) as store:
        core = await store.create_core(b"default")
        assert (core.key.hex(), core.writable, core.length) == (key, True, 300)
        assert list(core.missing(0, 300)) == [range(20, 30)]
        assert await core.audit() == []
        assert [core.get_local(i) for i in range(30, 300)] == BLOCKS[30:]


async def test_both_take_turns_writing(tmp_path: Path) -> None:
    expected: list[bytes] = []
    key = ""
    for turn in range(3):
        async with run_store(tmp_path) as store:
            core = await store.create_core(b"default")
            assert await core.append(BLOCKS[: 40 + turn]) == len(expected)
            expected += BLOCKS[: 40 + turn]
            key = core.key.hex()
        async with reference_peer(tmp_path) as peer:
            await peer.call("core.open", name="default")
            await peer.call("core.append", core=key, blocks=texts(BLOCKS[: 9 + turn]), batch=4)
            expected += BLOCKS[: 9 + turn]
            assert await theirs(peer, key, len(expected)) == expected
    async with run_store(tmp_path) as store:
        core = await store.core(bytes.fromhex(key))
        assert [core.get_local(index) for index in range(core.length)] == expected
        assert await core.audit() == []


async def sparse_store(path: Path, chance: random.Random) -> tuple[Core, str]:
    """Write a store with a sparse reader's core that has heard of several heads; return its origin and key."""
    origin = await writer(BLOCKS[:40])
    async with run_store(path) as store:
        core = await store.core(origin.key)
        for start in (40, 133, 180):
            await bring(origin, core, chance.sample(range(origin.length), 4))
            await origin.append(BLOCKS[start : start + 40])
        await bring(origin, core, [origin.length - 1])
    return origin, origin.key.hex()


async def test_a_sparse_core_of_ours_opens_in_the_reference(tmp_path: Path) -> None:
    origin, key = await sparse_store(tmp_path, random.Random(1))
    async with run_store(tmp_path) as store:
        core = await store.core(origin.key)
        here = [index for blocks in core.present(0, core.length) for index in blocks]
    async with reference_peer(tmp_path) as peer:
        info = await peer.call("core.open", key=key)
        assert (info["writable"], info["length"], info["downloaded"]) == (False, 160, len(here))
        for index in here:
            found = await peer.call("core.get", core=key, index=index)
            assert base64.b64decode(found["base64"]) == await origin.get(index)


async def test_proofs_are_the_references_for_any_digest(tmp_path: Path) -> None:
    chance = random.Random(2)
    origin, key = await sparse_store(tmp_path, chance)
    questions: list[tuple[int, int, bool]] = []
    answers: list[Any] = []
    async with run_store(tmp_path) as store:
        core = await store.core(origin.key)
        leaves = [index for index in range(core.length) if core.has_node(2 * index)]
        for _ in range(300):
            question = (chance.choice(leaves), chance.randrange(1 << chance.randrange(1, 11)), chance.random() < 0.3)
            proof = await core.proof(question[0], digest=question[1], hash_only=question[2])
            questions.append(question)
            answers.append(
                {
                    "nodes": [{"index": n.tree_index, "hash": n.hash.hex(), "size": n.size} for n in proof.nodes],
                    "signature": proof.signature and proof.signature.hex(),
                }
            )
    async with reference_peer(tmp_path) as peer:
        await peer.call("core.open", key=key)
        for (index, digest, hash_only), ours in zip(questions, answers, strict=True):
            proof = await peer.call("core.proof", core=key, index=index, digest=digest, hash=hash_only)
            assert proof == ours


async def test_a_core_that_the_reference_has_open_is_refused(tmp_path: Path) -> None:
    async with reference_peer(tmp_path) as peer:
        await peer.call("core.open", name="default")
        refused = ""
        async with run_store(tmp_path) as store:
            try:
                await store.create_core(b"default")
            except StoreLocked as error:
                refused = str(error)
        assert "bitfield is in use by process" in refused


async def test_a_core_that_we_have_open_is_refused_to_the_reference(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        await store.create_core(b"default")
        refused = ""
        async with reference_peer(tmp_path) as peer:
            try:
                await peer.call("core.open", name="default")
            except ReferenceFailed as error:
                refused = str(error)
        assert "lock" in refused.lower()
