"""Whoever wants to hear what happens between a core and its peers.

The rule: observers are told inline, in the order in which things happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hyperfs.replication.peer import Peer


class ExchangeObserver(Protocol):
    """Whoever wants to hear what happens between a core and its peers. Called inline: quick, and never raising."""

    def peer_opened(self, peer: Peer) -> None:
        """Its channel is open both ways."""

    def peer_left(self, peer: Peer) -> None:
        """It is here no more, after it was."""

    def uploaded(self, peer: Peer, index: int) -> None:
        """A block is on its way to it."""

    def received(self, peer: Peer, name: str, payload: bytes) -> None:
        """It sent a message of one of the core's own extensions."""
