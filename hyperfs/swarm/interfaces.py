"""The network interfaces of this machine, and their IPv4 addresses."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final

_REQUEST: Final = struct.Struct("@16sH22s")
"""struct ifreq: a name, and what is asked; flags are a short, a socket address begins with its family and port."""
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFADDR: Final = 0x8915
_IFF_UP: Final = 0x1
_IFF_LOOPBACK: Final = 0x8
_ADDRESS: Final = slice(2, 6)
"""Where an IPv4 address lies in a socket address, behind the family."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that is up. ``host`` is its first IPv4 address, None when it has none."""

    index: int
    is_loopback: bool
    host: str | None


def interfaces() -> list[Interface]:
    """Return the interfaces that are up."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
        for index, name in socket.if_nameindex():
            flags = _ask(asked, _SIOCGIFFLAGS, name)
            if flags is None or not flags[0] & _IFF_UP:
                continue
            address = _ask(asked, _SIOCGIFADDR, name)
            host = None if address is None else socket.inet_ntoa(address[1][_ADDRESS])
            found.append(Interface(index, bool(flags[0] & _IFF_LOOPBACK), host))
    return found


def has_address(family: int, address: tuple[Any, ...]) -> bool:
    """Tell whether this machine has an address, as `socket.socket.getsockname` returns it, on any interface.

    It is taken to have it where that cannot be found out.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
            asked.bind((address[0], 0, *address[2:]))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def _ask(asked: socket.socket, what: int, name: str) -> tuple[int, bytes] | None:
    """Return what the kernel says of an interface; None when it is gone, or has no such thing."""
    try:
        answer = fcntl.ioctl(asked, what, _REQUEST.pack(name.encode(), 0, bytes(22)))
    except OSError:
        return None
    _, first, rest = _REQUEST.unpack(answer)
    return first, rest
