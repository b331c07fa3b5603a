"""The connections of a process: where it listens, whom it dials, and what it looks for and announces.

The one rule: nothing is dialled that nobody named or found, and of what was found only what `reach` lets through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import trio

from hyperfs.replication.replicator import Replicator
from hyperfs.replication.status import EndReason
from hyperfs.swarm.addresses import Address
from hyperfs.swarm.admission import Admission
from hyperfs.swarm.dialler import Dialler
from hyperfs.swarm.discovery import Discovery, Found
from hyperfs.swarm.interfaces import has_address, interfaces
from hyperfs.swarm.reach import may_dial
from hyperfs.swarm.routes import Route, TcpRoute, address_name, host_names
from hyperfs.swarm.topics import Topic, TopicStatus
from hyperfs.swarm.utp.endpoint import UtpLink
from hyperfs.swarm.utp.stream import UtpStream

logger = logging.getLogger(__name__)

_ANY_HOSTS: Final = ("", "*", "::", "0.0.0.0")
_OWN_SECONDS: Final = 5.0
"""For how long the addresses of this machine are taken for the same."""
_SAME_PORT_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class Listening:
    """A TCP address that accepts peers. ``port`` is the real one, also when 0 was asked for."""

    host: str
    port: int


class Swarm:
    """Owns the connections of ``replicator``; its tasks run in ``nursery`` until that is cancelled."""

    def __init__(self, replicator: Replicator, nursery: trio.Nursery, *, discoveries: Iterable[Discovery] = ()) -> None:
        self._replicator = replicator
        self._nursery = nursery
        self._listening: dict[Listening, trio.CancelScope] = {}
        self._discoveries = tuple(discoveries)
        self._dialler = Dialler(replicator, nursery)
        self._wanted: dict[bytes, tuple[bool, bool]] = {}
        self._topics: dict[bytes, Topic] = {}
        self._ending: dict[bytes, Topic] = {}
        """Those that are left, and perhaps not taken back yet."""
        self._has_left = False
        self._own: set[Address] = set()
        self._own_until = 0.0
        self._admission = Admission()
        self.on_port_changed: Callable[[], None] | None = None
        """Called when another port is listened on first, or none any more."""
        replicator.on_wanted = self._want

    # accepting

    async def listen(self, host: str, port: int) -> Listening:
        """Accept peers at ``host`` and ``port`` (0: any free one), and return where.

        ``host`` is a name or an address; ``0.0.0.0``, ``::`` and the empty one are all addresses of the machine, by
        IPv4 and IPv6. Listening twice at one address is one listening. Raises OSError when it is not possible.
        """
        for listening in self._listening:
            if listening == Listening(host, port):
                return listening
        try:
            with host_names():
                listeners = await _open_listeners(host, port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(error.errno, f"cannot listen there: {reason}", address_name(host, port)) from error
        listening = Listening(host, listeners[0].socket.getsockname()[1])
        scope = self._listening[listening] = trio.CancelScope()
        self._nursery.start_soon(self._accept, listeners, scope)
        logger.info("listening at %s", address_name(host, listening.port))
        self._port_changed()
        return listening

    def unlisten(self, host: str, port: int) -> None:
        """Stop accepting there; connections that are up stay. Unknown addresses are ignored."""
        scope = self._listening.pop(Listening(host, port), None)
        if scope is not None:
            scope.cancel()
            self._port_changed()

    @property
    def listening(self) -> tuple[Listening, ...]:
        """Where peers are accepted now."""
        return tuple(self._listening)

    async def _accept(self, listeners: list[trio.SocketListener], scope: trio.CancelScope) -> None:
        with scope:
            await trio.serve_listeners(self._serve, listeners, handler_nursery=self._nursery)

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:
            await stream.aclose()
            return
        name = address_name(host.removeprefix("::ffff:"), port)
        if not self._has_place(host, name):
            await stream.aclose()
            return
        with self._admission.admitted(host, name):
            ending = await self._replicator.run(stream, initiator=False, name=name)
        if ending.reason is EndReason.MISBEHAVED:
            self._admission.note_offence(host)

    def admits(self, address: Address) -> bool:
        """Tell whether whoever has an address would be accepted now; what is accepted is told to `accept`.

        Nothing is done for it, as the address may be forged.
        """
        if not self._listening:
            return False
        refusal = self._admission.refusal(address.host)
        return refusal is None or self._replicator.can_make_room(refusal.strangers, refusal.crowd)

    def accept(self, link: UtpLink) -> None:
        """Take a connection that a peer began by uTP; where nothing is listened for, none is wanted."""
        if self._listening:
            self._nursery.start_soon(self._serve_utp, link)
        else:
            link.abort()

    async def _serve_utp(self, link: UtpLink) -> None:
        name = str(link.address)
        if not self._has_place(link.address.host, name):
            link.abort()  # not closed: nothing is kept of who is refused
            return
        with self._admission.admitted(link.address.host, name):
            ending = await self._replicator.run(UtpStream(link), initiator=False, name=name, is_tcp=False)
        # Before the handshake 16 bits were all that had to be guessed to speak from somebody else's address.
        if ending.reason is EndReason.MISBEHAVED and ending.remote_key is not None:
            self._admission.note_offence(link.address.host)

    def _has_place(self, host: str, name: str) -> bool:
        """Tell whether a connection from ``host`` is accepted, and make room for it, if somebody has to give way."""
        refusal = self._admission.refusal(host)
        if refusal is None or self._replicator.make_room(refusal.strangers, refusal.crowd):
            return True
        logger.warning("refused %s: %s", name, refusal.reason)
        return False

    # dialling

    def add_peer(self, host: str, port: int) -> None:
        """Dial ``host:port`` and keep doing so whenever the connection ends. Adding a peer again dials it at once."""
        self._replicator.expect_peers()
        route = TcpRoute(host, port)
        self._dialler.hold(route, _NAMED)

    def remove_peer(self, host: str, port: int) -> None:
        """Dial ``host:port`` no more; unless it was found as well, the connection ends. Unknown ones are ignored."""
        route = TcpRoute(host, port)
        self._dialler.release(route, _NAMED)

    @property
    def peers(self) -> tuple[str, ...]:
        """The names of the routes that are dialled, found ones included."""
        return tuple(dialling.name for dialling in self._dialler.diallings)

    @property
    def unreached(self) -> dict[str, str]:
        """The routes by name that could not be opened the last time, each with the reason."""
        return {one.name: one.problem for one in self._dialler.diallings if one.problem is not None}

    async def wait_tried(self) -> None:
        """Return once each peer that was named has been reached since it was (last) added, or could not be."""
        await self._dialler.wait_named_tried()

    def _want(self) -> None:
        self._dialler.want()
        for topic in self._topics.values():
            topic.hurry()

    # finding

    def join(self, topic: bytes, *, looks: bool, announces: bool) -> None:
        """Look for peers of a 32-byte topic, and dial them; announce it where this process listens. Again: change that.

        What is announced names the port that is listened on first; without one nothing is.
        """
        if not self._has_left:
            self._wanted[topic] = (looks, announces)
            self._follow(topic)

    def moved(self) -> None:
        """This machine has come to be elsewhere: look, announce, and dial anew.

        Connections from addresses that it has no more are ended: they are dead, and new ones would count as doubles.
        """
        self._own_until = 0.0
        self._replicator.end_where(leads_nowhere, "this machine has its address no more")
        self._dialler.hurry()
        for topic in self._topics.values():
            topic.outdate()

    def leave(self, topic: bytes) -> None:
        """Look for and announce a topic no more; what was found by it alone is disconnected."""
        self._wanted.pop(topic, None)
        self._follow(topic)

    async def leave_all(self) -> None:
        """Look for and announce nothing any more, whatever is joined; return once that is taken back.

        Cancelled, it goes on.
        """
        self._has_left = True
        for topic in list(self._wanted):
            self.leave(topic)
        for ending in list(self._ending.values()):
            await ending.ended.wait()

    @property
    def topics(self) -> dict[bytes, TopicStatus]:
        """The topics that are followed."""
        return {topic: one.status for topic, one in self._topics.items()}

    @property
    def is_looking(self) -> bool:
        """Whether somebody is just being looked for, for the first time."""
        return any(topic.looks and topic.is_first_look for topic in self._topics.values())

    async def wait_looked(self) -> None:
        """Return once the first look for each topic that is followed is over, which takes a few seconds at most."""
        for topic in list(self._topics.values()):
            await topic.wait_looked()

    async def wait_found(self, topic: bytes) -> None:
        """Return once whoever the first look for a topic found was reached, or could not be; at once if none is."""
        following = self._topics.get(topic)
        if following is not None and following.looks:
            await following.wait_tried()

    def _follow(self, topic: bytes) -> None:
        """Have a topic followed as it is wanted now, at the port that there is now."""
        looks, announces = self._wanted.get(topic, (False, False))
        port = self._port if announces else None
        following = self._topics.get(topic)
        if following is not None and not (looks or port is not None):
            self._ending[topic] = self._topics.pop(topic)
            following.stop()
        elif following is not None and (following.looks, following.port) != (looks, port):
            following.change(port=port, looks=looks)
        elif following is None and (looks or port is not None):
            following = self._topics[topic] = Topic(
                topic,
                self._discoveries,
                self._dialler,
                port=port,
                looks=looks,
                may_dial=self._may_dial,
                somebody_waits=lambda: self._replicator.wanted,
            )
            self._nursery.start_soon(self._run, following, self._ending.get(topic))

    async def _run(self, following: Topic, before: Topic | None) -> None:
        """Follow a topic, once what ``before`` announced of it is taken back."""
        try:
            await following.run(after=before)
        finally:
            if self._ending.get(following.topic) is following:
                del self._ending[following.topic]

    @property
    def _port(self) -> int | None:
        return next((listening.port for listening in self._listening), None)

    def _port_changed(self) -> None:
        self._own_until = 0.0
        for topic in self._wanted:
            self._follow(topic)
        if self.on_port_changed is not None:
            self.on_port_changed()

    def _may_dial(self, found: Found) -> bool:
        if trio.current_time() >= self._own_until:
            ports = {listening.port for listening in self._listening}
            hosts = {interface.host for interface in interfaces() if interface.host is not None}
            self._own = {Address(host, port) for host in hosts for port in ports}
            self._own_until = trio.current_time() + _OWN_SECONDS
        return may_dial(found.address, told_by=found.told_by, own=self._own)


def leads_nowhere(stream: trio.abc.Stream) -> bool:
    """Tell whether a TCP stream goes out from an address that this machine has no more."""
    if not isinstance(stream, trio.SocketStream):
        return False
    try:
        return not has_address(stream.socket.family, stream.socket.getsockname())
    except OSError:  # closed meanwhile
        return True


class _Named:
    """Holds the routes that somebody named."""

    stays = True

    def given_up(self, route: Route) -> None:
        """It leads to this very process."""
        logger.debug("%s is dialled no more", route.name)


_NAMED: Final = _Named()


async def _open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Open a listener for each address of ``host``, all with one port."""
    name = None if host in _ANY_HOSTS else host
    for attempt in range(_SAME_PORT_ATTEMPTS):
        listeners = list(await trio.open_tcp_listeners(port, host=name))
        ports = {listener.socket.getsockname()[1] for listener in listeners}
        if len(ports) == 1:
            return listeners
        # port 0 gave each family another one: ask for the first one's for all
        for listener in listeners:
            await listener.aclose()
        try:
            return list(await trio.open_tcp_listeners(min(ports), host=name))
        except OSError:
            if attempt == _SAME_PORT_ATTEMPTS - 1:
                raise
    raise OSError(f"no port is free in all address families of {host!r}")
