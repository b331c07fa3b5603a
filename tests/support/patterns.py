"""As many bytes as a test likes, the same here and in the reference peer (tests/interop/reference/lib/data.js)."""

import hashlib

_CHUNK_BYTES = 65536


def pattern(seed: object, size: int) -> bytes:
    """Return ``size`` bytes: one random 64 KiB chunk over and over, numbered in its first 8 bytes."""
    tail = hashlib.shake_256(str(seed).encode()).digest(_CHUNK_BYTES)[8:]
    chunks = (number.to_bytes(8, "big") + tail for number in range(-(-size // _CHUNK_BYTES)))
    return b"".join(chunks)[:size]


def sha256(data: bytes) -> str:
    """Return the hex SHA-256 of ``data``, as the reference peer reports files."""
    return hashlib.sha256(data).hexdigest()
