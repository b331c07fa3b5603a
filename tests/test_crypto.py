"""Hashes, signatures and keys, against the reference's figures."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs import crypto, flat_tree
from tests.support import vectors

VECTORS: dict[str, Any] = vectors.load("crypto")
KEYS: dict[str, str] = VECTORS["keyPair"]
CORES: list[dict[str, Any]] = vectors.load("cores")


def test_a_seed_makes_the_reference_s_key_pair() -> None:
    pair = crypto.key_pair(bytes.fromhex(KEYS["seed"]))
    assert (pair.public.hex(), pair.secret.hex()) == (KEYS["publicKey"], KEYS["secretKey"])


def test_key_pairs_without_a_seed_differ() -> None:
    assert crypto.key_pair() != crypto.key_pair()


def test_a_key_pair_does_not_print_its_secret() -> None:
    assert KEYS["seed"] not in repr(crypto.key_pair(bytes.fromhex(KEYS["seed"])))


def test_the_discovery_key() -> None:
    assert crypto.discovery_key(bytes.fromhex(KEYS["publicKey"])).hex() == KEYS["discoveryKey"]


@pytest.mark.parametrize(("block", "digest"), VECTORS["leaves"])
def test_leaf_hashes(block: str, digest: str) -> None:
    assert crypto.leaf_hash(block.encode()).hex() == digest


@pytest.mark.parametrize(
    "size",
    [0, 1, 4095, 4096, crypto.LARGE_BYTES - 1, crypto.LARGE_BYTES, crypto.LARGE_BYTES + 1, 8 * crypto.LARGE_BYTES + 77],
)
def test_a_leaf_hash_is_the_same_of_every_form_and_size_of_a_block(size: int) -> None:
    block = bytes(index * 7919 >> 5 & 0xFF for index in range(size))
    expected = hashlib.blake2b(b"\0" + size.to_bytes(8, "big") + block, digest_size=32).digest()
    in_the_middle = memoryview(b"before" + block + b"behind")[6 : 6 + size]
    assert [crypto.leaf_hash(form) for form in (block, in_the_middle)] == [expected, expected]


def test_the_parent_hash() -> None:
    (left, left_hash), (right, right_hash) = VECTORS["leaves"][:2]
    digest = crypto.parent_hash(len(left) + len(right), bytes.fromhex(left_hash), bytes.fromhex(right_hash))
    assert digest.hex() == VECTORS["parent"]


def test_the_tree_hash_is_signed_with_the_length() -> None:
    blocks = [(block.encode(), bytes.fromhex(digest)) for block, digest in VECTORS["leaves"]]
    size = len(blocks[0][0]) + len(blocks[1][0])
    roots = [(1, bytes.fromhex(VECTORS["parent"]), size), (4, blocks[2][1], len(blocks[2][0]))]
    assert crypto.signable(crypto.tree_hash(roots), 3).hex() == VECTORS["signable"]


def test_the_signature() -> None:
    signature = crypto.sign(bytes.fromhex(VECTORS["signable"]), bytes.fromhex(KEYS["secretKey"]))
    assert signature.hex() == VECTORS["signature"]


@pytest.mark.parametrize("core", [core for core in CORES if "roots" in core], ids=lambda core: core["directory"])
def test_the_signature_of_each_core_verifies(core: dict[str, Any]) -> None:
    roots = [(root["index"], bytes.fromhex(root["hash"]), root["size"]) for root in core["roots"]]
    message = crypto.signable(crypto.tree_hash(roots), core["length"])
    signature = bytes.fromhex(core["lastSignature"]["signature"])
    assert crypto.verify(message, signature, bytes.fromhex(core["publicKey"]))


@pytest.mark.parametrize(
    "core", [core for core in CORES if isinstance(core.get("blocks"), list)], ids=lambda core: core["directory"]
)
def test_the_roots_of_each_core_follow_from_its_blocks(core: dict[str, Any]) -> None:
    blocks = [bytes.fromhex(block) for block in core["blocks"]]

    def node(tree_index: int) -> tuple[bytes, int]:
        if flat_tree.depth(tree_index) == 0:
            block = blocks[tree_index // 2]
            return crypto.leaf_hash(block), len(block)
        left, left_size = node(flat_tree.left_child(tree_index))
        right, right_size = node(flat_tree.right_child(tree_index))
        return crypto.parent_hash(left_size + right_size, left, right), left_size + right_size

    roots = [(root, *node(root)) for root in flat_tree.full_roots(core["length"])]
    assert [(index, digest.hex(), size) for index, digest, size in roots] == [
        (root["index"], root["hash"], root["size"]) for root in core["roots"]
    ]


@given(st.integers(min_value=0, max_value=511))
def test_a_signature_with_one_bit_changed_does_not_verify(bit: int) -> None:
    signature = bytearray.fromhex(VECTORS["signature"])
    signature[bit // 8] ^= 1 << bit % 8
    assert not crypto.verify(bytes.fromhex(VECTORS["signable"]), bytes(signature), bytes.fromhex(KEYS["publicKey"]))


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_size_does_not_verify(size: int) -> None:
    assert not crypto.verify(b"message", bytes(size), bytes.fromhex(KEYS["publicKey"]))


def test_the_capability_of_each_side() -> None:
    case = VECTORS["capability"]
    key, sent, received = (bytes.fromhex(case[name]) for name in ("key", "splitTx", "splitRx"))
    assert crypto.capability(key, sent, received).hex() == case["local"]
    assert crypto.capability(key, received, sent).hex() == case["remote"]
