"""Proofs: the tree nodes that tie a block to a signed tree.

Rules and order of nodes: docs/formats.md, "Proofs".
"""

from typing import NamedTuple


class TreeNode(NamedTuple):
    """A node of the Merkle tree: its tree index, 32-byte hash, and the bytes under it."""

    index: int
    hash: bytes
    size: int


class Proof(NamedTuple):
    """What proves a block: nodes from the bottom up, then roots; the signature unless the asker needs none."""

    nodes: tuple[TreeNode, ...]
    signature: bytes | None


class Received(NamedTuple):
    """A block (or, with ``value`` None, only its hash) as a peer sent it, not verified."""

    index: int
    value: bytes | None
    nodes: tuple[TreeNode, ...]
    signature: bytes | None
