"""XSalsa20 as a stream: the cipher under all of a connection after its handshake.

One object is one direction of one connection, and every byte of that direction goes through it once, in order. There is
no authentication here; blocks are verified by their proofs. XSalsa20 is Salsa20 under a key that HSalsa20 makes of the
key and the first 16 bytes of the nonce (Bernstein, "Extending the Salsa20 nonce").

Both are libsodium's. PyNaCl brings that library with it and offers none of its streams, so they are called past PyNaCl,
in the same copy of the library; `sodium_init` lets that choose the fastest code for this processor.
"""

import ctypes
from collections.abc import Callable
from typing import Protocol

import nacl._sodium
import nacl.bindings

KEY_BYTES = 32
NONCE_BYTES = 24

_BLOCK_BYTES = 64
_Function = Callable[..., int]


def _load() -> tuple[_Function, _Function]:
    """Return (crypto_core_hsalsa20, crypto_stream_salsa20_xor_ic) of the libsodium that PyNaCl uses."""
    nacl.bindings.sodium_init()
    library = ctypes.CDLL(nacl._sodium.__file__)
    subkey, xor = library.crypto_core_hsalsa20, library.crypto_stream_salsa20_xor_ic
    text, address, size = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint64
    subkey.argtypes = (address, text, text, text)  # output, input, key, constant
    xor.argtypes = (address, address, size, text, size, text)  # output, input, size, nonce, first block, key
    return subkey, xor


_subkey, _xor = _load()


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """Return the 32-byte subkey of a 32-byte ``key`` and a 16-byte ``nonce``."""
    subkey = ctypes.create_string_buffer(KEY_BYTES)
    _subkey(subkey, nonce, key, None)
    return subkey.raw


class Cipher(Protocol):
    """One direction of a connection: every byte of it goes through once, in order."""

    def apply(self, data: bytearray | memoryview) -> None:
        """Encrypt, or decrypt, ``data`` in place."""
        ...


class PlainText:
    """What stands for a cipher on a connection whose sides have agreed to have none."""

    def apply(self, data: bytearray | memoryview) -> None:
        """Leave ``data`` as it is."""


class XSalsa20:
    """One direction's key stream, from its first byte on."""

    __slots__ = ("_key", "_nonce", "_position")

    def __init__(self, key: bytes, nonce: bytes) -> None:
        """Take a 32-byte ``key`` and a 24-byte ``nonce``; raise ValueError for other sizes."""
        if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
            raise ValueError(f"XSalsa20 takes {KEY_BYTES} and {NONCE_BYTES} bytes, not {len(key)} and {len(nonce)}")
        self._key = hsalsa20(key, nonce[:16])
        self._nonce = nonce[16:]
        self._position = 0

    def apply(self, data: bytearray | memoryview) -> None:
        """XOR ``data``, in place, with the next bytes of the key stream."""
        size = len(data)
        block, used = divmod(self._position, _BLOCK_BYTES)
        self._position += size
        first = min(size, -used % _BLOCK_BYTES)
        if first:
            # the library begins at a block's start, so what is left of the last one goes through it by itself
            whole = bytearray(_BLOCK_BYTES)
            whole[used : used + first] = data[:first]
            self._apply(whole, 0, block)
            data[:first] = whole[used : used + first]
        if size > first:
            self._apply(data, first, block + (used > 0))

    def _apply(self, data: bytearray | memoryview, begin: int, block: int) -> None:
        address = ctypes.addressof(ctypes.c_char.from_buffer(data, begin))
        _xor(address, address, len(data) - begin, self._nonce, block, self._key)
