"""Hashes, signatures and keys of a hypercore, as pure functions.

Every hash is BLAKE2b with a 32-byte digest; signatures are Ed25519. See docs/formats.md, "Hashes and keys".

Python's own BLAKE2b is the faster one for small blocks, as it is called sooner; libsodium's for large ones, by 4 % at
`LARGE_BYTES`, 6 % at 64 KiB and 10 % at 512 KiB. Neither holds the interpreter's lock for a large one.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import nacl.bindings
import nacl.exceptions
from nacl._sodium import ffi, lib

KEY_BYTES = 32
SECRET_KEY_BYTES = 64
SIGNATURE_BYTES = 64
HASH_BYTES = 32
LARGE_BYTES = 16 * 1024
"""A message of as many bytes, or more, is hashed by libsodium."""

_NO_SALT = bytes(16)

nacl.bindings.sodium_init()  # which chooses the code for this processor


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 key pair; ``secret`` is libsodium's 64-byte form, seed and public key."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


def key_pair(seed: bytes | None = None) -> KeyPair:
    """Return the key pair made from a 32-byte ``seed``, or a new random one."""
    public, secret = nacl.bindings.crypto_sign_seed_keypair(seed or secrets.token_bytes(32))
    return KeyPair(public, secret)


def leaf_hash(block: bytes | memoryview) -> bytes:
    """Return the hash of one block."""
    prefix = b"\x00" + len(block).to_bytes(8, "big")
    if len(block) >= LARGE_BYTES:
        return _large_hash(prefix, block)
    state = hashlib.blake2b(prefix, digest_size=HASH_BYTES)
    state.update(block)
    return state.digest()


def _large_hash(prefix: bytes, block: bytes | memoryview) -> bytes:
    """Return the hash of both, one behind the other. PyNaCl's own function of the kind takes no views."""
    state = ffi.new("unsigned char[]", lib.crypto_generichash_statebytes())
    digest = ffi.new("unsigned char[]", HASH_BYTES)
    lib.crypto_generichash_blake2b_init_salt_personal(state, b"", 0, HASH_BYTES, _NO_SALT, _NO_SALT)
    lib.crypto_generichash_blake2b_update(state, prefix, len(prefix))
    lib.crypto_generichash_blake2b_update(state, ffi.from_buffer(block), len(block))
    lib.crypto_generichash_blake2b_final(state, digest, HASH_BYTES)
    return bytes(ffi.buffer(digest))


def parent_hash(size: int, left: bytes, right: bytes) -> bytes:
    """Return the hash of two siblings, left first; ``size`` is the bytes under both."""
    return hashlib.blake2b(b"\x01" + size.to_bytes(8, "big") + left + right, digest_size=32).digest()


def tree_hash(roots: Iterable[tuple[int, bytes, int]]) -> bytes:
    """Return the hash of the roots, each ``(tree index, hash, size in bytes)``, from left to right."""
    state = hashlib.blake2b(b"\x02", digest_size=32)
    for tree_index, digest, size in roots:
        state.update(digest + tree_index.to_bytes(8, "big") + size.to_bytes(8, "big"))
    return state.digest()


def signable(tree_digest: bytes, length: int) -> bytes:
    """Return what is signed for a tree of ``length`` blocks."""
    return tree_digest + length.to_bytes(8, "big")


def sign(message: bytes, secret_key: bytes) -> bytes:
    """Return the 64-byte detached Ed25519 signature of ``message``."""
    return nacl.bindings.crypto_sign(message, secret_key)[:SIGNATURE_BYTES]


def verify(message: bytes, signature: bytes, public_key: bytes) -> bool:
    """Tell whether ``signature`` is ``public_key``'s for ``message``."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public_key)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def keyed_hash(key: bytes, *parts: bytes) -> bytes:
    """Return the keyed BLAKE2b-256 of the joined ``parts``."""
    return hashlib.blake2b(b"".join(parts), key=key, digest_size=32).digest()


def discovery_key(public_key: bytes) -> bytes:
    """Return the name under which peers look for a core without telling its key."""
    return keyed_hash(public_key, b"hypercore")


def capability(public_key: bytes, split_tx: bytes, split_rx: bytes) -> bytes:
    """Return the proof, to the other end of a Noise session, that one knows ``public_key``.

    ``split_tx`` and ``split_rx`` are the session's sending and receiving keys as seen by the side that proves.
    """
    return keyed_hash(split_rx[:32], b"hypercore capability", split_tx[:32], public_key)
