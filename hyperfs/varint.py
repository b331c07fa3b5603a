"""Unsigned LEB128 integers, the varints of Protocol Buffers.

The one rule: a varint is at most ten bytes and at most 2**64 - 1, so that an endless one is refused instead of read.
"""

from hyperfs.errors import EncodingError

MAX_VARINT_BYTES = 10
_MAX_VALUE = (1 << 64) - 1


def encode(value: int) -> bytes:
    """Return the shortest encoding of ``value`` (0 <= value < 2**64)."""
    if value < 0x80:
        if value < 0:
            raise ValueError(f"a varint cannot be negative: {value}")
        return _SINGLE_BYTES[value]
    if value > _MAX_VALUE:
        raise ValueError(f"a varint cannot exceed 64 bits: {value}")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append((value & 0x7F) | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int]:
    """Return ``(value, offset after it)``; raise `EncodingError` when it is cut short or too long."""
    decoded = decode_partial(data, offset)
    if decoded is None:
        raise EncodingError(f"varint at byte {offset} is cut short")
    return decoded


def decode_partial(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int] | None:
    """Like `decode`, but return None when more bytes are needed."""
    value = 0
    shift = 0
    end = min(len(data), offset + MAX_VARINT_BYTES)
    for position in range(offset, end):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _MAX_VALUE:
                raise EncodingError(f"varint at byte {offset} exceeds 64 bits")
            return value, position + 1
        shift += 7
    if end - offset >= MAX_VARINT_BYTES:
        raise EncodingError(f"varint at byte {offset} is longer than {MAX_VARINT_BYTES} bytes")
    return None


_SINGLE_BYTES = tuple(bytes([value]) for value in range(0x80))
