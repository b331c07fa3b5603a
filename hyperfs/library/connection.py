"""One connection of a program's to a peer, and the cores that go over it.

The rule: a peer hears of those cores alone that were added to its connection.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.protocol.noise import NoiseKeyPair
from hyperfs.replication.exchange import Exchange
from hyperfs.replication.extensions import Extension
from hyperfs.replication.limits import Limits
from hyperfs.replication.link import Link
from hyperfs.replication.memory import Memory
from hyperfs.replication.pace import Pace
from hyperfs.replication.status import Ending, EndReason, Terms

if TYPE_CHECKING:
    from hyperfs.library.core import OpenCore

_NO_NAME: Final = "a peer"


class Together:
    """What connections of one core have in common: the time of the process, memory, and no limit on their rates."""

    def __init__(self) -> None:
        self.pace = Pace()
        self.limits = Limits()
        self.memory = Memory()


class Connection:
    """A connection over any stream of trio's: one for TCP, or TLS, or of a program's own.

    ``initiator`` is the side that dialled: one of the two is. One that is not ``live`` ends once neither side wants
    anything more: of a core that is not sparse, when all that the peer has is here. ``encrypted`` off leaves out the
    cipher, as the other side has to, too. ``key`` is the X25519 secret key (32 bytes) by which the peer knows us; a new
    one unless given. ``authenticate`` gets the peer's public key (32 bytes), and says whether to go on; if it raises,
    that is logged, and the connection ends.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        initiator: bool,
        live: bool = False,
        encrypted: bool = True,
        key: bytes | None = None,
        authenticate: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.extensions: tuple[Extension, ...] = ()
        self._together = Together()
        self._stream = stream
        self._initiator = initiator
        self._live = live
        self._encrypted = encrypted
        self._key = NoiseKeyPair.generate() if key is None else NoiseKeyPair.of_secret(key)
        self._authenticate = authenticate
        self._cores: dict[bytes, tuple[OpenCore, Exchange, Terms]] = {}
        self._link: Link | None = None
        self._has_begun = False
        self._linked = trio.Event()

    @property
    def public_key(self) -> bytes:
        """Our public key (32 bytes) as the peer sees it."""
        return self._key.public

    @property
    def remote_public_key(self) -> bytes | None:
        """The peer's public key (32 bytes), None before the handshake is done."""
        return None if self._link is None else self._link.remote_key

    @property
    def cores(self) -> "list[OpenCore]":
        """The cores that go over it."""
        return [core for core, _, _ in self._cores.values()]

    def add(self, core: "OpenCore", *, upload: bool = True, download: bool = True) -> None:
        """Have ``core`` go over the connection, also one that is up already. Raises `Closed`.

        Without ``upload`` the peer gets no blocks of it, without ``download`` it is asked for none. The channel opens
        as soon as both sides have added the core, whoever is first.
        """
        exchange = core.join(self)
        self._cores[core.discovery_key] = core, exchange, Terms(upload, download)
        if self._link is not None:
            self._link.channels.share(exchange)

    def remove(self, core: "OpenCore") -> None:
        """Have ``core`` go over it no more; when it was the last one the connection ends."""
        found = self._cores.pop(core.discovery_key, None)
        if found is not None:
            core.part(self)
            if self._link is not None:
                self._link.channels.unshare(found[1])
                if not self._cores:
                    self._link.end(EndReason.CLOSED, "no core goes over it any more")

    async def run(self) -> Ending:
        """Carry the connection to its end, close the stream, and say why it ended.

        Never raises for anything that the peer or the network does; a peer that breaks the rules is left, and the
        reason says so. Raises RuntimeError when it has run before, and OSError when what was appended cannot be made
        durable. Raising, or cancelled, the stream is closed, what was verified and written stays, and others are asked
        for the rest.
        """
        if self._has_begun:
            raise RuntimeError("a connection runs once")
        self._has_begun = True
        try:
            for core in self.cores:
                self._together = core.together
                if core.core.dirty:
                    await (
                        core.sync()
                    )  # peers hear only of what is on the disk, and one that is not live may ask but once
            self._link = Link(
                self,
                self._stream,
                initiator=self._initiator,
                name=_name_of(self._stream),
                static_key=self._key,
                live=self._live,
                encrypted=self._encrypted,
            )
            self._linked.set()
            ending = await self._link.run()
            if (
                ending.reason is EndReason.CLOSED
                and ending.remote_key
                and self._cores
                and not self._link.channels.has_shared
            ):
                ending = replace(ending, message=f"{ending.message}; it had none of the cores that were added here")
            return ending
        finally:
            self._linked.set()
            for core in self.cores:
                self._cores.pop(core.discovery_key)
                core.part(self)
            if self._link is None:  # which closes it else
                await trio.aclose_forcefully(self._stream)

    async def heard(self) -> None:
        """Return once it is known which of our cores the peer is asked about, or the connection has ended.

        One that does not run yet has nothing to wait for.
        """
        if self._has_begun:
            await self._linked.wait()
        if self._link is not None:
            await self._link.ready.wait()

    # what the link asks

    @property
    def pace(self) -> Pace:
        """See `LinkHost.pace`."""
        return self._together.pace

    @property
    def limits(self) -> Limits:
        """See `LinkHost.limits`."""
        return self._together.limits

    @property
    def memory(self) -> Memory:
        """See `LinkHost.memory`."""
        return self._together.memory

    @property
    def exchanges(self) -> list[Exchange]:
        """See `LinkHost.exchanges`."""
        return [exchange for _, exchange, _ in self._cores.values()]

    def exchange_of(self, discovery_key: bytes) -> Exchange | None:
        """See `LinkHost.exchange_of`."""
        found = self._cores.get(discovery_key)
        return None if found is None else found[1]

    def terms_of(self, exchange: Exchange) -> Terms:
        """See `LinkHost.terms_of`."""
        return self._cores[exchange.core.discovery_key][2]

    def handshaken(self, link: Link) -> Ending | None:
        """See `LinkHost.handshaken`."""
        assert link.remote_key is not None
        if self._authenticate is not None and not self._authenticate(link.remote_key):
            return Ending(EndReason.BANNED, "the program refused its key", link.remote_key)
        for exchange in self.exchanges:  # of both sides: who answers a dialler may wait for what it has, too
            link.channels.share(exchange)
        return None


def _name_of(stream: trio.abc.Stream) -> str:
    """Return how logs call the other end of ``stream``."""
    socket = getattr(stream, "socket", None)
    if socket is None:
        return _NO_NAME
    try:
        host, port, *_ = socket.getpeername()
    except (OSError, ValueError):
        return _NO_NAME
    return f"{host}:{port}"
