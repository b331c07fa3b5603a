"""The connections of a process: which addresses it listens on, and whom it dials.

The one rule: each address that was added is dialled by one task of its own until it is removed, and nothing is dialled
that nobody added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from hyperfs.replication.replicator import Replicator


@dataclass(frozen=True, slots=True)
class Listening:
    """A TCP address that accepts peers. ``port`` is the real one, also when 0 was asked for."""

    host: str
    port: int


class Swarm:
    """Owns the connections of ``replicator``; its tasks run in ``nursery`` until that is cancelled."""

    def __init__(self, replicator: Replicator, nursery: trio.Nursery) -> None: ...

    async def listen(self, host: str, port: int) -> Listening:
        """Accept peers at ``host`` (a name or an IPv4 or IPv6 address; ``::`` and ``0.0.0.0`` are all) and ``port`` (0:
        any free one). Raises OSError when that is not possible. Listening twice at one address is one listening."""
        ...

    async def unlisten(self, host: str, port: int) -> None:
        """Stop accepting there; connections that are up stay. Raises KeyError for an address not listened on."""

    @property
    def listening(self) -> tuple[Listening, ...]:
        """Where peers are accepted now."""
        ...

    def add_peer(self, host: str, port: int) -> None:
        """Dial ``host:port`` and keep doing so whenever the connection ends. Adding a peer again dials it at once."""

    def remove_peer(self, host: str, port: int) -> None:
        """Stop dialling ``host:port`` and end the connection that was dialled. Unknown addresses are ignored."""

    @property
    def peers(self) -> tuple[tuple[str, int], ...]:
        """The addresses that are dialled."""
        ...
