"""Packets of uTP: bytes to values and back.

The one rule: what `decode` returns has the form that docs/formats.md, "uTP", gives it; anything else is None.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, NamedTuple

VERSION: Final = 1
HEADER: Final = struct.Struct(">BBHIIIHH")
SELECTIVE_ACK: Final = 1
"""The extension that says which packets came behind a gap."""
SEQUENCE_MASK: Final = (1 << 16) - 1
MICROSECONDS_MASK: Final = (1 << 32) - 1
NO_DELAY: Final = (1 << 31) - 1
"""What libutp says of a delay that it has not measured."""


class PacketType(IntEnum):
    """What a packet is."""

    DATA = 0
    FIN = 1
    STATE = 2
    """an acknowledgement"""
    RESET = 3
    SYN = 4


_FIRST_BYTES: Final = frozenset(kind << 4 | VERSION for kind in PacketType)


class Packet(NamedTuple):
    """One packet. ``sent_at`` and ``delay`` are microseconds modulo 2^32: the sender's clock, and what he measured.

    ``window`` is how many bytes more he takes. ``selective`` has bit i set (least significant first in each byte) when
    he has the packet ``acknowledged + 2 + i``; it is empty when nothing is missing.
    """

    kind: PacketType
    connection_id: int
    sent_at: int
    delay: int
    window: int
    sequence: int
    acknowledged: int
    selective: bytes = b""
    payload: bytes = b""


def is_utp(data: bytes) -> bool:
    """Tell whether a datagram that came to the socket of the DHT is for uTP."""
    return len(data) >= HEADER.size and data[0] in _FIRST_BYTES


def encode(packet: Packet) -> bytes:
    """Return the bytes of a packet. ``selective`` has 4 to 252 bytes, a multiple of 4, if any."""
    kind, connection_id, sent_at, delay, window, sequence, acknowledged, selective, payload = packet
    first = HEADER.pack(
        kind << 4 | VERSION,
        SELECTIVE_ACK if selective else 0,
        connection_id,
        sent_at,
        delay,
        window,
        sequence,
        acknowledged,
    )
    extension = bytes((0, len(selective))) + selective if selective else b""
    return first + extension + payload


def decode(data: bytes) -> Packet | None:
    """Return what ``data`` says, or None when it is no packet. Unknown extensions are passed over."""
    if not is_utp(data):
        return None
    first, extension, connection_id, sent_at, delay, window, sequence, acknowledged = HEADER.unpack_from(data)
    at = HEADER.size
    selective = b""
    while extension:
        if at + 2 > len(data):
            return None
        following, size = data[at], data[at + 1]
        at += 2
        if at + size > len(data):
            return None
        if extension == SELECTIVE_ACK:
            selective = data[at : at + size]
        at += size
        extension = following
    kind = PacketType(first >> 4)
    payload = data[at:] if kind is PacketType.DATA else b""
    return Packet(kind, connection_id, sent_at, delay, window, sequence, acknowledged, selective, payload)
