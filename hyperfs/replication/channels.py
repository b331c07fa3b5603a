"""Which cores go over one connection: its channels, each with the peer that it leads to.

The rule: a core has one channel, open or opening, and that has one peer, which its exchange counts in when the channel
is asked for and out when it closes, whoever closes it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from hyperfs.errors import short
from hyperfs.protocol.channel import Channel
from hyperfs.replication.availability import PageBudget
from hyperfs.replication.peer import Peer
from hyperfs.replication.uploads import QuestionBudget

if TYPE_CHECKING:
    from hyperfs.protocol.connection import Connection
    from hyperfs.replication.exchange import Exchange, OutOfStep
    from hyperfs.replication.extensions import Extensions
    from hyperfs.replication.link import Link, LinkHost

logger = logging.getLogger(__name__)

MAX_REOPENED: Final = 8
"""How often a channel is opened anew because of requests that relied on each other; from then on none do."""


class Channels:
    """The channels of ``link``, which ``protocol`` opens and closes; ``extensions`` are those of all cores."""

    def __init__(self, link: Link, host: LinkHost, protocol: Connection, extensions: Extensions) -> None:
        self.peers: dict[Channel, Peer] = {}
        self.due: dict[Peer, None] = {}
        """The peers that something is to be done for; see `Link.attend_soon`."""
        self.are_done = False
        """Whether there were some, there are none, and the connection is not to stay for others."""
        self.has_shared = False
        """Whether one was ever open: both sides had that core."""
        self._link = link
        self._host = host
        self._protocol = protocol
        self._extensions = extensions
        self._offered: set[Exchange] = set()
        self._pages = PageBudget()
        self._questions = QuestionBudget()
        self._reopened = 0

    @property
    def held_bytes(self) -> int:
        """What is in memory of what peers announced and asked."""
        return self._pages.size_bytes + self._questions.size_bytes

    def share(self, exchange: Exchange) -> None:
        """Open the channel of a core, unless it is open or the handshake is not done yet."""
        if self._protocol.is_ready and self._protocol.channel(exchange.core.discovery_key) is None:
            self._open(exchange)
            self._link.wake()

    def offer(self, exchange: Exchange) -> None:
        """Open the channel of a core on an extra connection, but not a second time."""
        if self._protocol.is_ready and exchange not in self._offered:
            self._offered.add(exchange)
            self.share(exchange)

    def unshare(self, exchange: Exchange) -> None:
        """Close the channel of a core."""
        for peer in [peer for peer in self.peers.values() if peer.exchange is exchange]:
            self.close(peer)

    def close(self, peer: Peer) -> None:
        """Close the channel of a peer."""
        peer.channel.close()
        self.left(peer.channel)
        self._link.wake()

    def reopen(self, peer: Peer, error: OutOfStep) -> None:
        """Begin anew on the channel of ``peer``: what each side takes the other to know is forgotten."""
        self._reopened += 1
        name = short(peer.exchange.core.key)
        logger.info("%s: the channel of %s is opened anew: %s", self._link.name, name, error)
        peer.channel.close()
        self.left(peer.channel)
        self.share(peer.exchange)

    def requested(self, discovery_key: bytes) -> None:
        """Open the channel that the other side asks for, or refuse it."""
        exchange = self._host.exchange_of(discovery_key)
        if exchange is None:
            self._protocol.refuse(discovery_key)
        elif self._open(exchange) is None:
            logger.warning("refused %s to %s: it does not know the key", short(discovery_key), self._link.name)

    def opened(self, channel: Channel) -> None:
        """Begin with the peer of a channel that is open both ways now, unless it was closed here meanwhile."""
        peer = self.peers.get(channel)
        if peer is not None and channel.is_open:
            self._begin(peer)

    def left(self, channel: Channel) -> None:
        """Count out the peer of a channel that is closed."""
        peer = self.peers.pop(channel, None)
        if peer is not None:
            self.due.pop(peer, None)
            peer.exchange.leave(peer)
            self.are_done = not (self._link.live or self.peers)

    def end(self) -> None:
        """Count all peers out: the connection is over."""
        for peer in list(self.peers.values()):
            peer.exchange.leave(peer)
        self.peers.clear()

    def list_extensions(self, peer: Peer) -> None:
        """Tell a peer which extensions there are on its channel."""
        peer.channel.set_extensions((*self._extensions.names, *peer.exchange.extension_names))
        self._link.wake()

    def _open(self, exchange: Exchange) -> Peer | None:
        extensions = (*self._extensions.names, *exchange.extension_names)
        channel = self._protocol.open_channel(exchange.core.key, extensions=extensions)
        if channel is None:
            return None
        if channel in self.peers:  # asked for, taken back and asked for again, before we looked at the first
            return self.peers[channel]
        peer = Peer(
            self._link,
            channel,
            exchange,
            pages=self._pages,
            questions=self._questions,
            rely=self._reopened < MAX_REOPENED,
            only_asked=self._link.is_extra,
            terms=self._host.terms_of(exchange),
        )
        self.peers[channel] = peer
        self.are_done = False
        exchange.join(peer)
        if channel.is_open:
            self._begin(peer)
        return peer

    def _begin(self, peer: Peer) -> None:
        self.has_shared = True
        peer.exchange.opened(peer)
