"""A node of a core's Merkle tree, and the 40 bytes that stand for it in the `tree` file.

The rule: these bytes are put together and taken apart here alone. See docs/formats.md, "A core's files".
"""

from typing import NamedTuple

NODE_BYTES = 40
_HASH_BYTES = 32
_NO_NODE = bytes(NODE_BYTES)


class TreeNode(NamedTuple):
    """A node of the Merkle tree: its tree index, 32-byte hash, and the bytes under it."""

    tree_index: int
    hash: bytes
    size: int


def encode(node_hash: bytes, size: int) -> bytes:
    """Return the 40 bytes of a node: its hash, then its size, high byte first."""
    return node_hash + size.to_bytes(8, "big")


def decode(tree_index: int, entry: bytes) -> TreeNode | None:
    """Return the node that ``entry``, read at the place of ``tree_index``, stands for; None where there is none."""
    if len(entry) < NODE_BYTES or entry == _NO_NODE:
        return None
    return TreeNode(tree_index, entry[:_HASH_BYTES], int.from_bytes(entry[_HASH_BYTES:], "big"))
