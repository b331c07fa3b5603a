"""Ranges of bits in a buffer, the high bit of each byte first.

The rule: every function takes a half-open range that lies within the buffer, and touches no bit outside it.
"""

from mmap import mmap

Buffer = bytes | bytearray | memoryview | mmap


def all_set(buffer: Buffer, start: int, end: int) -> bool:
    """Tell whether all bits of [start, end) are 1; an empty range is."""
    if end - start <= 0:
        return True
    first, last = start >> 3, (end - 1) >> 3
    head = 0xFF >> (start & 7)
    tail = 0xFF00 >> (((end - 1) & 7) + 1) & 0xFF
    if first == last:
        mask = head & tail
        return buffer[first] & mask == mask
    if buffer[first] & head != head or buffer[last] & tail != tail:
        return False
    middle = last - first - 1
    return middle == 0 or bytes(buffer[first + 1 : last]).count(b"\xff") == middle


def count_set(buffer: Buffer, start: int, end: int) -> int:
    """Return how many bits of [start, end) are 1."""
    if end - start <= 0:
        return 0
    first, last = start >> 3, (end - 1) >> 3
    value = int.from_bytes(buffer[first : last + 1], "big")
    value >>= 7 - ((end - 1) & 7)
    return (value & ((1 << (end - start)) - 1)).bit_count()


def set_range(buffer: bytearray | mmap, start: int, end: int) -> None:
    """Make all bits of [start, end) 1."""
    if end - start <= 0:
        return
    first, last = start >> 3, (end - 1) >> 3
    head = 0xFF >> (start & 7)
    tail = 0xFF00 >> (((end - 1) & 7) + 1) & 0xFF
    if first == last:
        buffer[first] |= head & tail
        return
    buffer[first] |= head
    if last - first > 1:
        buffer[first + 1 : last] = b"\xff" * (last - first - 1)
    buffer[last] |= tail


def clear_range(buffer: bytearray | mmap, start: int, end: int) -> None:
    """Make all bits of [start, end) 0."""
    if end - start <= 0:
        return
    first, last = start >> 3, (end - 1) >> 3
    head = 0xFF >> (start & 7)
    tail = 0xFF00 >> (((end - 1) & 7) + 1) & 0xFF
    if first == last:
        buffer[first] &= ~(head & tail) & 0xFF
        return
    buffer[first] &= ~head & 0xFF
    if last - first > 1:
        buffer[first + 1 : last] = bytes(last - first - 1)
    buffer[last] &= ~tail & 0xFF


def first_clear(buffer: Buffer, start: int, end: int) -> int:
    """Return the first bit of [start, end) that is 0, or ``end``."""
    return _first(buffer, start, end, b"\xff", 0xFF)


def first_set(buffer: Buffer, start: int, end: int) -> int:
    """Return the first bit of [start, end) that is 1, or ``end``."""
    return _first(buffer, start, end, b"\x00", 0)


def _first(buffer: Buffer, start: int, end: int, skipped: bytes, flip: int) -> int:
    if end - start <= 0:
        return end
    first, last = start >> 3, (end - 1) >> 3
    found = (buffer[first] ^ flip) & (0xFF >> (start & 7))
    if not found:
        rest = bytes(buffer[first + 1 : last + 1])
        first += 1 + len(rest) - len(rest.lstrip(skipped))
        if first > last:
            return end
        found = buffer[first] ^ flip
    return min(end, 8 * first + 8 - found.bit_length())
