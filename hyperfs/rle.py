"""The run-length encoding of bitfields on the wire.

Runs of equal whole bytes are varint(bytes << 2 | bit << 1 | 1), others varint(bytes << 1) and the bytes; trailing zero
bytes are left out. See docs/formats.md, "The wire". The rule: decoding never makes more than it was allowed to.
"""

import re

from hyperfs import varint
from hyperfs.errors import EncodingError

_RUN = re.compile(rb"\x00+|\xff+")
_ALIGNMENT = 4


def encode(bits: bytes) -> bytes:
    """Return ``bits`` (high bit first) encoded, with a run only where that is strictly shorter than raw bytes."""
    bits = bits.rstrip(b"\x00")
    encoded = bytearray()
    taken = 0
    for run in _RUN.finditer(bits):
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

    Raises `EncodingError` when ``data`` is cut short, or would become longer than ``limit`` bytes.
    """
    parts = []
    size = 0
    offset = 0
    while offset < len(data):
        token, offset = varint.decode(data, offset)
        count = token >> 2 if token & 1 else token >> 1
        size += count
        if size > limit:
            raise EncodingError(f"a bitfield of {size} bytes or more, where {limit} were asked for")
        if token & 1:
            parts.append((b"\xff" if token & 2 else b"\x00") * count)
            continue
        if offset + count > len(data):
            raise EncodingError(f"a bitfield's raw bytes are cut short at byte {len(data)}")
        parts.append(data[offset : offset + count])
        offset += count
    parts.append(bytes(-size % _ALIGNMENT))
    return b"".join(parts)
