"""What a generation of the core format hashes and signs, as one object that a core is given.

The rule: nothing else in hyperfs knows how a node is hashed, what a signature covers, or how a discovery key is made.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from hyperfs import crypto
from hyperfs.tree_node import TreeNode

_SMALL_BATCH = 24
_LEAF_PREFIXES = [b"\x00" + size.to_bytes(8, "big") for size in range(4096)]

Hashes = list[bytes]


NO_SIGNATURE: Final = bytes(64)
"""What stands for the signature of a tree that needs none: the core's key is its hash, so the core never grows."""


class CoreFormat(Protocol):
    """How one generation of hypercore hashes, signs, and names."""

    signature_algorithm: bytes
    hash_algorithm: bytes

    def leaf_hash(self, block: bytes) -> bytes:
        """Return the hash of one block."""
        ...

    def leaf_hashes(self, blocks: Sequence[bytes]) -> Hashes:
        """Return the hashes of many blocks."""
        ...

    def parent_hash(self, size: int, left: bytes, right: bytes) -> bytes:
        """Return the hash of two siblings; ``size`` is the bytes under both."""
        ...

    def parent_hashes(self, hashes: Hashes, sizes: Sequence[int]) -> Hashes:
        """Return the hashes above pairs of siblings: ``hashes`` two for each, ``sizes`` one for each."""
        ...

    def sign(self, roots: Sequence[TreeNode], length: int, secret_key: bytes) -> bytes:
        """Return the signature of a tree of ``length`` blocks."""
        ...

    def verify(self, roots: Sequence[TreeNode], length: int, signature: bytes, key: bytes) -> bool:
        """Tell whether ``signature`` is that of ``key`` for the tree of ``length`` blocks.

        `NO_SIGNATURE` is when ``key`` is the tree's own hash.
        """
        ...

    def tree_hash(self, roots: Sequence[TreeNode]) -> bytes:
        """Return the hash of the roots, which tells any two trees apart."""
        ...

    def discovery_key(self, key: bytes) -> bytes:
        """Return the name under which peers look for the core."""
        ...


class Hypercore9:
    """BLAKE2b and Ed25519, everything big-endian. See docs/formats.md, "Hashes and keys"."""

    signature_algorithm = b"Ed25519"
    hash_algorithm = b"BLAKE2b"

    def leaf_hash(self, block: bytes) -> bytes:
        """See `CoreFormat.leaf_hash`."""
        size = len(block)
        if size < 4096:
            return blake2b(_LEAF_PREFIXES[size] + block, digest_size=32).digest()
        return crypto.leaf_hash(block)

    def leaf_hashes(self, blocks: Sequence[bytes]) -> Hashes:
        """See `CoreFormat.leaf_hashes`."""
        if max(map(len, blocks), default=0) < 4096:
            prefixes = _LEAF_PREFIXES
            return [blake2b(prefixes[len(block)] + block, digest_size=32).digest() for block in blocks]
        return [self.leaf_hash(block) for block in blocks]

    parent_hash = staticmethod(crypto.parent_hash)

    def parent_hashes(self, hashes: Hashes, sizes: Sequence[int]) -> Hashes:
        """See `CoreFormat.parent_hashes`."""
        count = len(sizes)
        if count < _SMALL_BATCH:
            return [self.parent_hash(sizes[i], hashes[2 * i], hashes[2 * i + 1]) for i in range(count)]
        messages = np.empty((count, 73), np.uint8)
        messages[:, 0] = 1
        messages[:, 1:9] = np.array(sizes, ">u8").view(np.uint8).reshape(count, 8)
        messages[:, 9:] = _matrix(hashes, 64)
        joined = messages.tobytes()
        return [blake2b(joined[at : at + 73], digest_size=32).digest() for at in range(0, 73 * count, 73)]

    def sign(self, roots: Sequence[TreeNode], length: int, secret_key: bytes) -> bytes:
        """See `CoreFormat.sign`."""
        return crypto.sign(crypto.signable(crypto.tree_hash(roots), length), secret_key)

    def verify(self, roots: Sequence[TreeNode], length: int, signature: bytes, key: bytes) -> bool:
        """See `CoreFormat.verify`; older writers signed the bare tree hash."""
        digest = crypto.tree_hash(roots)
        if signature == NO_SIGNATURE:
            return digest == key
        return crypto.verify(crypto.signable(digest, length), signature, key) or crypto.verify(digest, signature, key)

    def tree_hash(self, roots: Sequence[TreeNode]) -> bytes:
        """See `CoreFormat.tree_hash`."""
        return crypto.tree_hash(roots)

    def discovery_key(self, key: bytes) -> bytes:
        """See `CoreFormat.discovery_key`."""
        return crypto.discovery_key(key)


def _matrix(hashes: Hashes, width: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, width)


HYPERCORE_9 = Hypercore9()
