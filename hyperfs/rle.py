"""The run-length encoding of bitfields on the wire.

Runs of equal whole bytes are varint(bytes << 2 | bit << 1 | 1), others varint(bytes << 1) and the bytes; trailing zero
bytes are left out. See docs/formats.md, "The wire". Neither direction takes more work than the bitfield has bytes: a
token that stands for nothing, which no encoder writes, is refused.
"""

import re
from collections.abc import Iterator

from hyperfs import varint
from hyperfs.errors import EncodingError

_RUN = re.compile(rb"\x00+|\xff+")
_LONG_RUN = re.compile(rb"\x00{32,}|\xff{32,}")
_MANY_CHANGES = 8192
_ALIGNMENT = 4
_TOKENS_A_STEP = 1024


def encode(bits: bytes) -> bytes:
    """Return ``bits`` (high bit first) encoded, with a run only where that is strictly shorter than raw bytes.

    Of bits that hardly ever repeat a byte only long runs are encoded as such: looking at each of the others would take
    more time than it saves bytes.
    """
    bits = bits.rstrip(b"\x00")
    encoded = bytearray()
    taken = 0
    for run in (_LONG_RUN if _changes(bits) > _MANY_CHANGES else _RUN).finditer(bits):
        start, end = run.span()
        # Runs that cannot pay for themselves are most of a random bitfield: skip them before the arithmetic.
        if end - start < 2 and start != taken:
            continue
        head = start - taken
        head_cost = len(varint.encode(2 * head)) + head if head else 0
        token = varint.encode((end - start) << 2 | (2 if bits[start] else 0) | 1)
        if head_cost + len(token) >= len(varint.encode(2 * (end - taken))) + end - taken:
            continue
        if head:
            encoded += varint.encode(2 * head)
            encoded += bits[taken:start]
        encoded += token
        taken = end
    if taken < len(bits):
        encoded += varint.encode(2 * (len(bits) - taken))
        encoded += bits[taken:]
    return bytes(encoded)


def decode(data: bytes, *, limit: int) -> bytes:
    """Return the bits, zero-padded to a multiple of 4 bytes, as the reference does.

    Raises `EncodingError` when ``data`` is cut short, has an empty run, or would become longer than ``limit`` bytes.
    """
    *_, decoded = decode_in_steps(data, limit=limit)
    assert decoded is not None
    return decoded


def decode_in_steps(data: bytes, *, limit: int) -> Iterator[bytes | None]:
    """Do what `decode` does, yielding None after each little work, and the bits at the end."""
    decoded = bytearray()
    offset = 0
    end = len(data)
    left = _TOKENS_A_STEP
    while offset < end:
        left -= 1
        if not left:
            left = _TOKENS_A_STEP
            yield None
        token = data[offset]
        offset += 1
        if token >= 0x80:
            token, offset = varint.decode(data, offset - 1)
        count = token >> 2 if token & 1 else token >> 1
        if len(decoded) + count > limit:
            raise EncodingError(f"a bitfield of {len(decoded) + count} bytes or more, where {limit} were asked for")
        if not count:
            raise EncodingError(f"a bitfield has a run of no bytes at byte {offset}")
        if token & 1:
            decoded += (b"\xff" if token & 2 else b"\x00") * count
            continue
        if offset + count > end:
            raise EncodingError(f"a bitfield's raw bytes are cut short at byte {end}")
        decoded += data[offset : offset + count]
        offset += count
    decoded += bytes(-len(decoded) % _ALIGNMENT)
    yield bytes(decoded)


def _changes(bits: bytes) -> int:
    """Return about how many bytes of ``bits`` differ from the one before."""
    number = int.from_bytes(bits, "big")
    return len(bits) - (number ^ (number >> 8)).to_bytes(len(bits), "big").count(0)
