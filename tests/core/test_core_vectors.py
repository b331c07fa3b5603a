"""Cores that the reference wrote, read and written again byte for byte."""

from pathlib import Path
from typing import Any

import pytest

from hyperfs.core.core import Core
from hyperfs.core.proofs import Received
from hyperfs.core.store import run_store
from hyperfs.crypto import key_pair
from hyperfs.storage import Directory, DiskDirectory, MemoryDirectory
from hyperfs.tree_node import TreeNode
from tests.support import vectors
from tests.support.cores import reader

CASES: list[dict[str, Any]] = vectors.load("cores")
DENSE = [case for case in CASES if "seed" in case]
FILES = ["bitfield", "data", "key", "secret_key", "signatures", "tree"]


def blocks_of(case: dict[str, Any]) -> list[bytes]:
    if isinstance(case["blocks"], str):
        return [b"b%d" % index for index in range(case["length"])]
    return [bytes.fromhex(block) for block in case["blocks"]]


def named(case: dict[str, Any]) -> str:
    return str(case["directory"])


def nodes_of(listed: list[dict[str, Any]]) -> tuple[TreeNode, ...]:
    return tuple(TreeNode(node["index"], bytes.fromhex(node["hash"]), node["size"]) for node in listed)


async def opened(case: dict[str, Any], tmp_path: Path) -> Core:
    return await Core.open(DiskDirectory(vectors.copy_store(case["directory"], tmp_path / "core")))


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_a_core_opens_at_its_length(case: dict[str, Any], tmp_path: Path) -> None:
    core = await opened(case, tmp_path)
    assert (core.key.hex(), core.length, core.byte_length) == (case["publicKey"], case["length"], case["byteLength"])
    await core.close()


@pytest.mark.parametrize("case", DENSE, ids=named)
async def test_every_block_is_read(case: dict[str, Any], tmp_path: Path) -> None:
    core = await opened(case, tmp_path)
    assert [core.get_local(index) for index in range(core.length)] == blocks_of(case)
    await core.close()


async def test_a_sparse_core_has_just_its_blocks(tmp_path: Path) -> None:
    (case,) = [case for case in CASES if "has" in case]
    core = await opened(case, tmp_path)
    assert {i: core.get_local(i) for i in range(core.length) if core.has(i, i + 1)} == {
        i: b"b%d" % i for i in case["has"]
    }
    await core.close()


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_opening_and_closing_changes_nothing(case: dict[str, Any], tmp_path: Path) -> None:
    core = await opened(case, tmp_path)
    await core.close()
    original = vectors.path(case["directory"])
    changed = [
        file.name for file in original.iterdir() if file.read_bytes() != (tmp_path / "core" / file.name).read_bytes()
    ]
    assert changed == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("case", DENSE, ids=named)
async def test_the_same_appends_write_the_same_bytes(case: dict[str, Any], name: str, tmp_path: Path) -> None:
    core = await Core.open(DiskDirectory(tmp_path), key_pair=key_pair(bytes.fromhex(case["seed"])))
    if case["appendedAs"] == "one batch":
        await core.append(blocks_of(case))
    else:
        for block in blocks_of(case):
            await core.append([block])
    await core.close()
    assert (tmp_path / name).read_bytes() == (vectors.path(case["directory"]) / name).read_bytes()


@pytest.mark.parametrize("case", DENSE, ids=named)
async def test_proofs_are_the_references(case: dict[str, Any], tmp_path: Path) -> None:
    core = await opened(case, tmp_path)
    for wanted in case["proofs"]:
        proof = await core.proof(wanted["index"], digest=wanted["nodesDigest"], hash_only=wanted["hash"])
        assert proof.nodes == nodes_of(wanted["nodes"])
        assert (proof.signature.hex() if proof.signature else None) == wanted["signature"]
    await core.close()


@pytest.mark.parametrize("case", DENSE, ids=named)
async def test_the_references_proofs_are_accepted(case: dict[str, Any]) -> None:
    for sent in case["proofs"]:
        if sent["signature"] is None:
            continue
        target = await reader(keys=key_pair(bytes.fromhex(case["seed"])))
        value = None if sent["hash"] else blocks_of(case)[sent["index"]]
        item = Received(sent["index"], value, nodes_of(sent["nodes"]), bytes.fromhex(sent["signature"]))
        await target.store([item], origin=None)
        assert (target.length, target.byte_length) == (case["length"], case["byteLength"])
        await target.close()


@pytest.mark.parametrize("case", DENSE, ids=named)
async def test_seeking_finds_the_references_blocks(case: dict[str, Any], tmp_path: Path) -> None:
    core = await opened(case, tmp_path)
    found = [await core.seek(seek["byteOffset"]) for seek in case["seeks"]]
    assert found == [(seek["index"], seek["relative"]) for seek in case["seeks"]]
    await core.close()


async def test_a_drives_store_opens_writable_and_whole(tmp_path: Path) -> None:
    async with run_store(vectors.copy_store("drive", tmp_path / "store")) as store:
        known = store.keys()
        cores = [await store.core(key) for key in known]
        assert all(core.writable and core.count(0, core.length) == core.length for core in cores)
        assert [await core.audit() for core in cores] == [[]] * len(cores)


async def test_a_drives_cores_are_found_by_name(tmp_path: Path) -> None:
    drive = vectors.load("drive")
    async with run_store(vectors.copy_store("drive", tmp_path / "store")) as store:
        content = await store.content_core(bytes.fromhex(drive["key"]))
        assert (content.key.hex(), content.length) == (drive["contentKey"], drive["contentLength"])
        inner = await store.create_core(b"inner")
        assert inner.key.hex() == drive["innerKey"]


@pytest.mark.parametrize(
    "make", [lambda path: DiskDirectory(path), lambda path: MemoryDirectory()], ids=["disk", "memory"]
)
async def test_batches_write_what_single_appends_do(make: Any, tmp_path: Path) -> None:
    keys = key_pair(b"\x05" * 32)
    blocks = [b"x" * (index % 5) for index in range(150)]
    one: Directory = make(tmp_path / "one")
    many: Directory = make(tmp_path / "many")
    single, batched = await Core.open(one, key_pair=keys), await Core.open(many, key_pair=keys)
    for block in blocks:
        await single.append([block])
    for start, end in ((0, 1), (1, 7), (7, 64), (64, 65), (65, 150)):
        await batched.append(blocks[start:end])
    await single.close()
    await batched.close()
    for name in ("tree", "data", "bitfield"):
        files = [directory.open(name) for directory in (one, many)]
        assert files[0].read(0, 1 << 20) == files[1].read(0, 1 << 20)
        for file in files:
            file.close()
