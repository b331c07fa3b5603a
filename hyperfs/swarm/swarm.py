"""The connections of a process: which addresses it listens on, and whom it dials.

The one rule: each address that was added is dialled by one task of its own until it is removed, and nothing is dialled
that nobody added or found.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import trio

from hyperfs.replication.replicator import Replicator
from hyperfs.replication.status import EndReason
from hyperfs.swarm.admission import Admission
from hyperfs.swarm.dialling import Dialling, address_name
from hyperfs.swarm.discovery import Discovery

logger = logging.getLogger(__name__)

MAX_FOUND: Final = 24
"""Addresses of one topic, as a discovery named them, that are dialled at one time."""
FOUND_ATTEMPTS: Final = 4
"""Failures in a row after which a found address is given up, until it is found again."""
_ANY_HOSTS: Final = ("", "*", "::", "0.0.0.0")
_SAME_PORT_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class Listening:
    """A TCP address that accepts peers. ``port`` is the real one, also when 0 was asked for."""

    host: str
    port: int


class Swarm:
    """Owns the connections of ``replicator``; its tasks run in ``nursery`` until that is cancelled."""

    def __init__(self, replicator: Replicator, nursery: trio.Nursery) -> None:
        self._replicator = replicator
        self._nursery = nursery
        self._listening: dict[Listening, trio.CancelScope] = {}
        self._diallings: dict[tuple[str, int], Dialling] = {}
        self._admission = Admission()
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
            listeners = await _open_listeners(host, port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(error.errno, f"cannot listen there: {reason}", address_name(host, port)) from error
        listening = Listening(host, listeners[0].socket.getsockname()[1])
        scope = self._listening[listening] = trio.CancelScope()
        self._nursery.start_soon(self._accept, listeners, scope)
        logger.info("listening at %s", address_name(host, listening.port))
        return listening

    def unlisten(self, host: str, port: int) -> None:
        """Stop accepting there; connections that are up stay. Unknown addresses are ignored."""
        scope = self._listening.pop(Listening(host, port), None)
        if scope is not None:
            scope.cancel()

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
        refusal = self._admission.refusal(host)
        if refusal is not None:
            logger.warning("refused %s: %s", name, refusal)
            await stream.aclose()
            return
        with self._admission.admitted(host):
            ending = await self._replicator.run(stream, initiator=False, name=name)
        if ending.reason is EndReason.MISBEHAVED:
            self._admission.note_offence(host)

    # dialling

    def add_peer(self, host: str, port: int) -> None:
        """Dial ``host:port`` and keep doing so whenever the connection ends. Adding a peer again dials it at once."""
        self._replicator.expect_peers()
        dialling = self._diallings.get((host, port))
        if dialling is not None:
            dialling.attempts = None
            dialling.hurry()
        else:
            self._dial(Dialling(self._replicator, host, port))

    def remove_peer(self, host: str, port: int) -> None:
        """Stop dialling ``host:port`` and end the connection that was dialled. Unknown addresses are ignored."""
        dialling = self._diallings.pop((host, port), None)
        if dialling is not None:
            dialling.stop()

    @property
    def peers(self) -> tuple[tuple[str, int], ...]:
        """The addresses that are dialled."""
        return tuple(self._diallings)

    @property
    def unreached(self) -> dict[tuple[str, int], str]:
        """The addresses that are dialled and could not be reached the last time, each with the reason."""
        return {address: one.problem for address, one in self._diallings.items() if one.problem is not None}

    async def wait_tried(self) -> None:
        """Return once each address that is dialled has been reached since it was (last) added, or has not."""
        for dialling in list(self._diallings.values()):
            await dialling.tried.wait()

    def _want(self) -> None:
        for dialling in self._diallings.values():
            dialling.want()

    def _dial(self, dialling: Dialling) -> None:
        self._diallings[dialling.host, dialling.port] = dialling
        self._nursery.start_soon(self._run, dialling)

    async def _run(self, dialling: Dialling) -> None:
        try:
            await dialling.run()
        finally:
            if self._diallings.get((dialling.host, dialling.port)) is dialling:
                del self._diallings[dialling.host, dialling.port]

    # finding

    async def join(self, topic: bytes, discovery: Discovery) -> None:
        """Dial what ``discovery`` finds for ``topic``, until it ends or this call is cancelled."""
        found: dict[tuple[str, int], Dialling] = {}
        addresses = discovery.find(topic)
        try:
            async for host, port in addresses:
                found = {at: one for at, one in found.items() if self._diallings.get(at) is one}
                if (host, port) not in self._diallings and len(found) < MAX_FOUND:
                    found[host, port] = Dialling(self._replicator, host, port, attempts=FOUND_ATTEMPTS)
                    self._dial(found[host, port])
        finally:
            await addresses.aclose()
            for address, dialling in found.items():
                if dialling.attempts is not None and self._diallings.get(address) is dialling:
                    self.remove_peer(*address)


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
