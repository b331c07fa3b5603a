"""The cores that are shared with peers, and the connections they are shared over.

Every core has one exchange (`hyperfs.replication.exchange`) that decides what is asked of whom, and every stream one
link (`hyperfs.replication.link`) that carries it; this module only joins the two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.core.reader import Priority
from hyperfs.errors import BlockNotAvailable, short
from hyperfs.protocol.noise import NoiseKeyPair
from hyperfs.replication.bans import Bans
from hyperfs.replication.bundle import Bundle
from hyperfs.replication.exchange import Exchange
from hyperfs.replication.extensions import Extension
from hyperfs.replication.limits import Limits
from hyperfs.replication.link import Link
from hyperfs.replication.memory import Memory
from hyperfs.replication.pace import Pace
from hyperfs.replication.status import CoreStatus, Ending, EndReason, Follow, PeerStatus, ReplicationStatus, Terms

if TYPE_CHECKING:
    from hyperfs.core.core import Core
    from hyperfs.core.reader import CoreReader, Hint

logger = logging.getLogger(__name__)

HINTED_PEERS: Final = 3
"""How many peers a hint goes to: their answers overlap, and the same block is asked of only one."""


class Replicator:
    """Shares cores over any number of connections; the `Source` of those cores.

    ``static_key`` is this process's X25519 secret key (32 bytes; random by default), by whose public key peers know us.
    ``alone_timeout_seconds``: when no peer had a core for this long, fetches of it fail at once instead of waiting.
    ``extensions`` are spoken with peers that know them too.
    """

    def __init__(
        self,
        *,
        static_key: bytes | None = None,
        alone_timeout_seconds: float = 20.0,
        extensions: Iterable[Extension] = (),
    ) -> None:
        self.alone_timeout_seconds = alone_timeout_seconds
        self.extensions = tuple(extensions)
        self.pace = Pace()
        self.limits = Limits()
        self.memory = Memory()
        self.on_wanted: Callable[[], None] | None = None
        """Called when somebody asks, or begins to wait, for blocks of a core that no peer is there for."""
        self._key = NoiseKeyPair.generate() if static_key is None else NoiseKeyPair.of_secret(static_key)
        self._exchanges: dict[bytes, Exchange] = {}
        self._links: dict[Link, None] = {}
        self._bans = Bans()
        self._changed = trio.Event()

    @property
    def public_key(self) -> bytes:
        """The X25519 public key that peers see."""
        return self._key.public

    # cores

    def add_core(self, core: Core, *, follow: Follow = Follow.LENGTH, uploading: bool = True) -> None:
        """Share ``core``: with new connections, and at once on those that are up. Again: change the options.

        Without ``uploading`` peers are only asked what they have, and get nothing.
        """
        exchange = self._exchanges.get(core.discovery_key)
        if exchange is not None:
            exchange.follow = follow
            exchange.set_uploading(uploading=uploading)
            return
        exchange = Exchange(core, follow, uploading=uploading)
        self._exchanges[core.discovery_key] = exchange
        for link in self._links:
            if not link.is_extra:
                link.channels.share(exchange)

    def remove_core(self, core: Core) -> None:
        """Stop sharing ``core``; its channels are closed and its waiting fetches raise `BlockNotAvailable`."""
        exchange = self._exchanges.pop(core.discovery_key, None)
        if exchange is not None:
            for link in self._links:
                link.channels.unshare(exchange)
            exchange.close()

    def expect_peers(self) -> None:
        """Begin the timeout for cores without peers anew: somebody is about to connect."""
        for exchange in self._exchanges.values():
            exchange.alone_since = trio.current_time()

    @property
    def wanted(self) -> bool:
        """Whether a reader waits for blocks of a core that no peer is there for."""
        return any(exchange.wanted for exchange in self._exchanges.values())

    @property
    def exchanges(self) -> list[Exchange]:
        """The shared cores' exchanges."""
        return list(self._exchanges.values())

    def exchange_of(self, discovery_key: bytes) -> Exchange | None:
        """Return the exchange of a core that is shared, None for any other."""
        return self._exchanges.get(discovery_key)

    def terms_of(self, exchange: Exchange) -> Terms:
        """Return what goes over a connection of a core: everything, and `Exchange.set_uploading` says what not."""
        return Terms()

    # the source of the cores

    async def fetch(self, core: CoreReader, ranges: Sequence[range], priority: Priority, hint: Hint | None) -> None:
        """See `hyperfs.core.reader.Source.fetch`. A ``hint`` goes to peers that list its extension."""
        exchange = self._exchange_for(core)
        self._send_hint(exchange, hint)
        await exchange.fetch(ranges, priority)

    def prefetch(self, core: CoreReader, ranges: Sequence[range], hint: Hint | None) -> None:
        """See `hyperfs.core.reader.Source.prefetch`. Beyond a number of them the oldest such wishes are given up."""
        exchange = self._exchanges.get(core.discovery_key)
        if exchange is not None:
            self._send_hint(exchange, hint)
            exchange.prefetch(ranges, Priority.AHEAD)

    def _send_hint(self, exchange: Exchange, hint: Hint | None) -> None:
        if hint is None:
            return
        hinted = sorted(
            (peer for peer in exchange.open_peers if not peer.only_asked), key=lambda peer: len(peer.requests)
        )
        for peer in [peer for peer in hinted if peer.channel.remote_supports(hint.extension)][:HINTED_PEERS]:
            if isinstance(peer.link, Link):
                peer.link.send_hint(peer, hint)

    async def seek(self, core: CoreReader, byte_offset: int, blocks: range, priority: Priority) -> None:
        """See `hyperfs.core.reader.Source.seek`."""
        await self._exchange_for(core).seeks.seek(byte_offset, blocks)

    async def update(self, core: CoreReader) -> None:
        """See `hyperfs.core.reader.Source.update`."""
        for link in list(self._links):
            await link.ready.wait()
        exchange = self._exchanges.get(core.discovery_key)
        if exchange is not None:
            await exchange.heads.update()

    def _exchange_for(self, core: CoreReader) -> Exchange:
        exchange = self._exchanges.get(core.discovery_key)
        if exchange is None:
            raise BlockNotAvailable(f"{short(core.key)} is not shared with peers")
        if not exchange.open_peers and self.on_wanted is not None:
            self.on_wanted()
        if not exchange.open_peers and trio.current_time() - exchange.alone_since >= self.alone_timeout_seconds:
            raise BlockNotAvailable(f"no peer that has it was connected for {self.alone_timeout_seconds:g} s")
        return exchange

    # connections

    async def run(
        self,
        stream: trio.abc.Stream,
        *,
        initiator: bool,
        name: str,
        is_tcp: bool = True,
        bundle: Bundle | None = None,
        is_extra: bool = False,
    ) -> Ending:
        """Run one connection over ``stream`` to its end, close the stream, and say why it ended.

        ``initiator`` is the side that dialled; ``is_tcp`` is false for uTP, which yields to TCP to the same peer.
        ``name`` is how logs and `status` call the peer (``host:port``). ``bundle`` has the connections that are dialled
        as this one is, of which all but the first are ``is_extra``. Never raises for anything the peer or the network
        does.

        Cancelled, the stream is closed, what was verified and written stays, and others are asked for the rest.
        """
        link = Link(
            self,
            stream,
            initiator=initiator,
            name=name,
            static_key=NoiseKeyPair.generate() if is_extra else self._key,
            is_tcp=is_tcp,
            bundle=bundle,
            is_extra=is_extra,
        )
        self._links[link] = None
        if bundle is not None:
            bundle.links[link] = None
        try:
            ending = await link.run()
        finally:
            del self._links[link]
            if bundle is not None:
                del bundle.links[link]
            self._note_change()
            if self.on_wanted is not None and self.wanted:
                self.on_wanted()
        if ending.reason is EndReason.MISBEHAVED:
            # By uTP, few bits have to be guessed to speak from another's address, until there is a handshake.
            if initiator and (is_tcp or ending.remote_key is not None):
                self._bans.add(name)
            if ending.remote_key is not None:
                self._ban(_place(name, ending.remote_key))
        return ending

    def _ban(self, place: str) -> None:
        """Speak no more with a key at a host, on no connection.

        With the key elsewhere one goes on: who relays an honest peer's handshake seems to have its key, and can garble
        what comes behind it, which nothing authenticates.
        """
        self._bans.add(place)
        for link in self._links:
            if link.remote_key is not None and _place(link.name, link.remote_key) == place:
                link.end(EndReason.BANNED, "it misbehaved on another connection")

    def make_room(self, strangers: Container[str], crowd: Container[str]) -> bool:
        """End one connection that a peer began, for another; return whether there was one to end.

        That is the oldest with a name of ``strangers`` whose peer has shown to know no key, or else the newest with one
        of ``crowd``.
        """
        link = self._giving_way(strangers, crowd)
        if link is None:
            return False
        link.end(EndReason.CLOSED, "somebody else wanted its place")
        return True

    def can_make_room(self, strangers: Container[str], crowd: Container[str]) -> bool:
        """Tell whether there is one that `make_room` would end."""
        return self._giving_way(strangers, crowd) is not None

    def _giving_way(self, strangers: Container[str], crowd: Container[str]) -> Link | None:
        accepted = [link for link in self._links if not link.initiator and not link.is_ending]
        for link in accepted:
            if link.is_stranger and link.name in strangers:
                return link
        return next((link for link in reversed(accepted) if link.name in crowd), None)

    def is_banned(self, name: str) -> bool:
        """Tell whether the peer that was dialled as ``name`` misbehaved lately."""
        return name in self._bans

    def handshaken(self, link: Link) -> Ending | None:
        """Take note of who ``link`` leads to; return why it has to end, if so.

        Of two connections to one peer the one stays that goes by TCP, or else the one that the side with the smaller
        static key dialled (of two dialled by the same side the older), and the dialler closes the other; but extra ones
        stay, whose other side sees another key than ours. See
        docs/formats.md, "Finding peers".
        """
        remote_key = link.remote_key
        assert remote_key is not None
        if remote_key == self.public_key:
            return Ending(EndReason.SELF, "it is this very process", remote_key)
        if _place(link.name, remote_key) in self._bans:
            return Ending(EndReason.BANNED, "it misbehaved lately", remote_key)
        for other in list(self._links):
            if other is link or other.remote_key != remote_key or link.is_extra or other.is_extra:
                continue
            if other.is_tcp != link.is_tcp:
                loser = other if link.is_tcp else link
            elif other.initiator == link.initiator or link.initiator != (self.public_key < remote_key):
                loser = link
            else:
                loser = other
            if not loser.initiator:
                continue
            if loser is link:
                return Ending(EndReason.DOUBLE, f"{other.name} leads to the same peer", remote_key)
            other.end(EndReason.DOUBLE, f"{link.name} leads to the same peer")
        self._note_change()
        return None

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        """Return once a connection has come or gone."""
        await self._changed.wait()

    async def wait_disconnected(self, remote_key: bytes) -> None:
        """Return once no connection to the peer with this static key is up."""
        for link in list(self._links):
            if link.remote_key == remote_key:
                await link.ended.wait()

    def disconnect(self, name: str) -> None:
        """End the connections that were dialled as ``name``."""
        for link in list(self._links):
            if link.initiator and link.name == name:
                link.end(EndReason.CLOSED, "closed by us")

    def end_where(self, leads_nowhere: Callable[[trio.abc.Stream], bool], message: str) -> None:
        """End the connections of whose streams ``leads_nowhere`` says so; ``message`` is why, for the log."""
        for link in list(self._links):
            if leads_nowhere(link.stream):
                link.end(EndReason.TIMED_OUT, message)

    @property
    def peer_count(self) -> int:
        """How many peers are connected."""
        return sum(link.remote_key is not None and not link.is_extra for link in self._links)

    def peer_statuses(self) -> Iterator[PeerStatus]:
        """Yield what is known of each peer that is connected now, as it is when it is yielded."""
        return (link.status() for link in list(self._links) if link.remote_key is not None and not link.is_extra)

    def core_statuses(self) -> Iterator[CoreStatus]:
        """Yield what is known of each core that is shared now, as it is when it is yielded."""
        return (
            CoreStatus(
                key=exchange.core.key,
                peers=sum(not peer.only_asked for peer in exchange.open_peers),
                length=exchange.core.length,
                claimed_length=exchange.claimed_length,
                in_flight=len(exchange.under_way),
                demands=len(exchange.demands),
            )
            for exchange in list(self._exchanges.values())
        )

    def status(self) -> ReplicationStatus:
        """Return what is connected, shared and under way right now. Of a thousand cores that takes long."""
        return ReplicationStatus(tuple(self.peer_statuses()), tuple(self.core_statuses()))


def _place(name: str, key: bytes) -> str:
    """Return what stands for a static key at the host of ``name``."""
    return f"{name.rpartition(':')[0]} {key.hex()}"
