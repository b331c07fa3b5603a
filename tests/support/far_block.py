"""A core of two blocks, the first larger than any disk, as its owner says: the second lies where no file reaches."""

from hyperfs.core.format import HYPERCORE_9
from hyperfs.core.proofs import Received
from hyperfs.crypto import KeyPair
from hyperfs.tree_node import TreeNode

FAR_BYTES = 1 << 52
VALUE = b"hi"


def far_block(keys: KeyPair) -> Received:
    """Return the second block with its whole proof, signed with ``keys``."""
    first = TreeNode(0, bytes(32), FAR_BYTES)
    second = TreeNode(2, HYPERCORE_9.leaf_hash(VALUE), len(VALUE))
    size = first.size + second.size
    root = TreeNode(1, HYPERCORE_9.parent_hash(size, first.hash, second.hash), size)
    return Received(1, VALUE, (first,), HYPERCORE_9.sign([root], 2, keys.secret))
