"""A node of a core's Merkle tree, and the 40 bytes that stand for it in the `tree` file.

The rule: these bytes are put together and taken apart here alone. See docs/formats.md, "A core's files".
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NODE_BYTES = 40
_HASH_BYTES = 32
_NO_NODE = bytes(NODE_BYTES)
_ENTRY = np.dtype([("hash", f"V{_HASH_BYTES}"), ("size", ">u8")])
_FEW_NODES = 24


class TreeNode(NamedTuple):
    """A node of the Merkle tree: its tree index, 32-byte hash, and the bytes under it."""

    tree_index: int
    hash: bytes
    size: int


def encode(node: TreeNode) -> bytes:
    """Return the 40 bytes of a node: its hash, then its size, high byte first."""
    return node.hash + node.size.to_bytes(8, "big")


def decode(tree_index: int, entry: bytes) -> TreeNode | None:
    """Return the node that ``entry``, read at the place of ``tree_index``, stands for; None where there is none."""
    if len(entry) < NODE_BYTES or entry == _NO_NODE:
        return None
    return TreeNode(tree_index, entry[:_HASH_BYTES], int.from_bytes(entry[_HASH_BYTES:], "big"))


def decode_all(first: int, entries: bytes) -> Iterator[TreeNode]:
    """Yield the nodes that ``entries``, read from the place of tree index ``first`` on, stand for."""
    for at in range(0, len(entries) - NODE_BYTES + 1, NODE_BYTES):
        node = decode(first + at // NODE_BYTES, entries[at : at + NODE_BYTES])
        if node is not None:
            yield node


def decode_sizes(entries: bytes, count: int) -> npt.NDArray[np.int64]:
    """Return the sizes of ``count`` nodes, one after another in ``entries``; 0 where there is none."""
    sizes = np.zeros(count, np.int64)
    whole = min(count, len(entries) // NODE_BYTES)
    sizes[:whole] = np.frombuffer(entries, _ENTRY, whole)["size"].astype(np.int64)
    return sizes


def encode_into(region: bytearray, start: int, step: int, hashes: Sequence[bytes], sizes: Sequence[int]) -> None:
    """Put nodes into ``region``, the first as entry ``start``, each ``step`` entries after the one before."""
    if len(hashes) < _FEW_NODES:
        at = start * NODE_BYTES
        for node_hash, size in zip(hashes, sizes, strict=True):
            region[at : at + NODE_BYTES] = node_hash + size.to_bytes(8, "big")
            at += step * NODE_BYTES
        return
    table = np.frombuffer(region, np.uint8).reshape(-1, NODE_BYTES)[start::step]
    table[: len(hashes), :_HASH_BYTES] = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, _HASH_BYTES)
    table[: len(hashes), _HASH_BYTES:] = np.array(sizes, ">u8").view(np.uint8).reshape(-1, 8)
