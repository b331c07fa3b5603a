"""XSalsa20 as a stream: the cipher under all of a connection after its handshake.

The rule: one object is one direction of one connection, and every byte of that direction goes through it once, in
order. There is no authentication here; blocks are verified by their proofs. XSalsa20 is Salsa20 under a key that
HSalsa20 makes of the key and the first 16 bytes of the nonce (Bernstein, "Extending the Salsa20 nonce").
"""

import struct
from typing import Protocol

from Crypto.Cipher import Salsa20

KEY_BYTES = 32
NONCE_BYTES = 24

Buffer = bytes | bytearray | memoryview

_MASK = 0xFFFFFFFF
_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
# The quarter rounds of a double round: the four columns, then the four rows.
_QUARTERS = (
    (0, 4, 8, 12),
    (5, 9, 13, 1),
    (10, 14, 2, 6),
    (15, 3, 7, 11),
    (0, 1, 2, 3),
    (5, 6, 7, 4),
    (10, 11, 8, 9),
    (15, 12, 13, 14),
)


class _Stream(Protocol):
    def encrypt(self, plaintext: Buffer, output: bytearray | memoryview) -> None: ...


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """Return the 32-byte subkey of a 32-byte ``key`` and a 16-byte ``nonce``."""
    k = struct.unpack("<8I", key)
    n = struct.unpack("<4I", nonce)
    c = _CONSTANTS
    x = [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]
    for _ in range(10):
        for p, q, r, s in _QUARTERS:
            x[q] ^= _rotate(x[p] + x[s], 7)
            x[r] ^= _rotate(x[q] + x[p], 9)
            x[s] ^= _rotate(x[r] + x[q], 13)
            x[p] ^= _rotate(x[s] + x[r], 18)
    return struct.pack("<8I", x[0], x[5], x[10], x[15], x[6], x[7], x[8], x[9])


def _rotate(word: int, bits: int) -> int:
    word &= _MASK
    return (word << bits | word >> (32 - bits)) & _MASK


class XSalsa20:
    """One direction's key stream, from its first byte on."""

    __slots__ = ("_stream",)

    def __init__(self, key: bytes, nonce: bytes) -> None:
        """Take a 32-byte ``key`` and a 24-byte ``nonce``; raise ValueError for other sizes."""
        if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
            raise ValueError(f"XSalsa20 takes {KEY_BYTES} and {NONCE_BYTES} bytes, not {len(key)} and {len(nonce)}")
        self._stream: _Stream = Salsa20.new(key=hsalsa20(key, nonce[:16]), nonce=nonce[16:])

    def apply(self, data: Buffer, output: bytearray | memoryview) -> None:
        """XOR ``data`` with the next bytes of the key stream into ``output``, of the same size; both may be one."""
        self._stream.encrypt(data, output)
