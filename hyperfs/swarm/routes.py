"""How a peer can be reached: a value that knows how to open a stream to him.

The one rule: two routes that are equal lead to the same place, so that nobody is dialled twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import trio


def address_name(host: str, port: int) -> str:
    """Return ``host:port``, IPv6 addresses in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def host_names() -> Iterator[None]:
    """Let a name that no host can have be an OSError, as one that nobody has is."""
    try:
        yield
    except UnicodeError:
        raise OSError("no host can have this name") from None


class Route(Protocol):
    """One way to one peer. Hashable, equal to whatever leads to the same place in the same way."""

    @property
    def name(self) -> str:
        """How logs and status call it."""
        ...

    async def open(self) -> trio.abc.Stream:
        """Open a stream to the peer. Raises OSError when that cannot be; whoever calls sets a time limit."""
        ...


@dataclass(frozen=True, slots=True)
class TcpRoute:
    """TCP to a host, by name or address, and a port."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """``host:port``."""
        return address_name(self.host, self.port)

    async def open(self) -> trio.abc.Stream:
        """See `Route.open`."""
        with host_names():
            return await trio.open_tcp_stream(self.host, self.port)
