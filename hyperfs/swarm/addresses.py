"""IPv4 addresses with a port, as datagrams hold them: four bytes and a big-endian port.

The one rule: what is decoded is an address that can be sent to, or nothing: no list with a hole in it.
"""

from __future__ import annotations

import socket
import struct
from typing import Final, NamedTuple

ADDRESS_BYTES: Final = 6
_ADDRESS: Final = struct.Struct(">4sH")
_NO_HOST: Final = bytes(4)


class Address(NamedTuple):
    """``host`` is an IPv4 address in dotted form."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def encode_address(address: Address) -> bytes:
    """Return the 6 bytes of an address. Raises OSError when ``host`` is not an IPv4 address."""
    return _ADDRESS.pack(socket.inet_aton(address.host), address.port)


def decode_address(data: bytes) -> Address | None:
    """Return the address in 6 bytes; None for another size, port 0, or 0.0.0.0."""
    return address_of(*_ADDRESS.unpack(data)) if len(data) == ADDRESS_BYTES else None


def address_of(host: bytes, port: int) -> Address | None:
    """Return the address of four bytes and a port; None for port 0, or 0.0.0.0."""
    return Address(socket.inet_ntoa(host), port) if port and host != _NO_HOST else None


def decode_addresses(data: bytes, most: int) -> list[Address]:
    """Return up to ``most`` addresses; none at all when the list is malformed, as the reference takes it."""
    if len(data) % ADDRESS_BYTES:
        return []
    found = [decode_address(data[at : at + ADDRESS_BYTES]) for at in range(0, len(data), ADDRESS_BYTES)]
    whole = [address for address in found if address is not None]
    return whole[:most] if len(whole) == len(found) else []
