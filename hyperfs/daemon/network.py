"""Where this process is in the network: its port, its node of the DHT, and its multicast DNS.

The rule: the DHT's socket and the listener for peers have one number, which a store keeps from start to start: peers
that only saw the one reach the other.
"""

import dataclasses
import errno
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import trio

from hyperfs.daemon.addresses import parse_address
from hyperfs.daemon.discoveries import Switched
from hyperfs.daemon.network_settings import NetworkSettings
from hyperfs.daemon.ports import DEFAULT_PORT, free_port, is_free
from hyperfs.daemon.state import StateKeeper
from hyperfs.errors import UsageError
from hyperfs.replication import Replicator
from hyperfs.swarm import Listening, Swarm
from hyperfs.swarm.dht.discovery import DhtDiscovery
from hyperfs.swarm.dht.service import DEFAULT_BOOTSTRAP, DhtService, open_dht, resolve
from hyperfs.swarm.discovery import Discovery, Interest
from hyperfs.swarm.mdns.discovery import MdnsDiscovery
from hyperfs.swarm.mdns.service import open_mdns
from hyperfs.swarm.whereabouts import Whereabouts, tell_moves, whereabouts

_log = logging.getLogger(__name__)

ANY_HOST: Final = "0.0.0.0"
_FIRST_RETRY_SECONDS: Final = 2.0
_LAST_RETRY_SECONDS: Final = 60.0
"""Names of bootstrap nodes that could not be looked up are tried again after twice as long each time, up to so long."""
_LISTEN_ATTEMPTS: Final = 8
"""Somebody may take a port between the look whether it is free and its being listened at."""
_LISTEN_AGAIN_SECONDS: Final = 30.0


class Network:
    """Owns the swarm, and what peers are found by. Its tasks run in ``nursery``.

    ``settings`` are those in force; `change` changes them.
    """

    def __init__(
        self, replicator: Replicator, state: StateKeeper, settings: NetworkSettings, nursery: trio.Nursery
    ) -> None:
        self.settings = settings
        self.dht = Switched(DhtDiscovery.name, self._open_dht, nursery, on=settings.dht)
        self.mdns = Switched(MdnsDiscovery.name, _open_mdns, nursery, on=settings.mdns)
        self.node: DhtService | None = None
        """The node of the DHT, while there is one."""
        self.swarm = Swarm(replicator, nursery, discoveries=[self.dht, self.mdns])
        self.swarm.on_port_changed = self._port_changed
        self._replicator = replicator
        self._limit()
        self._state = state
        self._nursery = nursery
        self._own: Listening | None = None
        self._wants_own = False
        self._is_trying = False
        self._holders = 0
        """Who needs the own port just now, whether it is wanted for longer or not."""
        self._opening = trio.Lock()
        self._dht_port: int | None = None
        self._first_nodes: _Bootstrapped | None = None
        nursery.start_soon(tell_moves, self._whereabouts, self._moved)

    @property
    def finds(self) -> bool:
        """Whether peers are looked for, and drives announced, in any way."""
        return self.settings.dht or self.settings.mdns

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """The nodes that the DHT is begun with, ``HOST:PORT``."""
        return self.settings.bootstrap or tuple(f"{host}:{port}" for host, port in DEFAULT_BOOTSTRAP)

    @property
    def problems(self) -> dict[str, str]:
        """By the names of the ways to find peers: why one of them is of no use."""
        names = None if self._first_nodes is None else self._first_nodes.problem
        found = {self.dht.name: self.dht.problem or names, self.mdns.name: self.mdns.problem}
        return {name: problem for name, problem in found.items() if problem is not None}

    def change(self, settings: NetworkSettings) -> None:
        """Be in the network as ``settings`` say from now on. Raises `UsageError` when the port is taken."""
        if settings.port not in (None, self.port) and not is_free(settings.port):
            raise UsageError(f"port {settings.port} is taken: say another --port, or none for one that is free")
        old, self.settings = self.settings, settings
        self._limit()
        self.dht.switch(on=settings.dht)
        self.mdns.switch(on=settings.mdns)
        if settings.bootstrap != old.bootstrap or settings.port != old.port:
            self.dht.reopen()
        if settings.port != old.port and self._own is not None:
            self._close_own()
            self.want_own_port(wanted=self._wants_own)

    # The machine

    def _whereabouts(self) -> Whereabouts:
        return whereabouts(None if self.node is None else self.node.node.public_address())

    def _moved(self) -> None:
        _log.info("this machine is elsewhere in the network: looking and announcing anew")
        if self._first_nodes is not None:
            self._first_nodes.hurry()
        self.swarm.moved()

    def _limit(self) -> None:
        """Have the rates hold that are in force."""
        limits = self._replicator.limits
        for limit, rate in ((limits.up, self.settings.limit_up), (limits.down, self.settings.limit_down)):
            if limit.rate != rate:
                limit.rate = rate

    # The port

    @property
    def port(self) -> int:
        """The number at which peers are accepted, or would be."""
        listening = next(iter(self.swarm.listening), None)
        if listening is not None:
            return listening.port
        return self.settings.port or self._state.state.port or DEFAULT_PORT

    @property
    def own(self) -> Listening | None:
        """The listener at the store's own port, while there is one."""
        return self._own

    @asynccontextmanager
    async def own_port(self) -> AsyncIterator[None]:
        """Accept peers at the store's own port for as long as the body runs, and then as `want_own_port` says.

        Raises OSError when it was chosen by the user and cannot be had.
        """
        self._holders += 1
        try:
            await self._open_own()
            yield
        finally:
            self._holders -= 1
            self.want_own_port(wanted=self._wants_own)

    def want_own_port(self, *, wanted: bool) -> None:
        """Accept peers at the store's own port, or no more. Where that cannot be is logged, and tried again."""
        self._wants_own = wanted
        if not wanted and not self._holders:
            self._close_own()
        elif wanted and self._own is None and not self._is_trying:
            self._is_trying = True
            self._nursery.start_soon(self._keep_trying)

    async def _open_own(self) -> None:
        async with self._opening:
            attempts = _LISTEN_ATTEMPTS if self.settings.port is None else 1
            while self._own is None:
                attempts -= 1
                try:
                    self._own = await self.swarm.listen(ANY_HOST, self._free_number(tcp=True))
                except OSError as error:
                    if error.errno != errno.EADDRINUSE or not attempts:
                        raise

    async def _keep_trying(self) -> None:
        try:
            while self._wants_own and self._own is None:
                try:
                    await self._open_own()
                except OSError as error:
                    _log.error("%s", error)
                    await trio.sleep(_LISTEN_AGAIN_SECONDS)
        finally:
            self._is_trying = False
        self.want_own_port(wanted=self._wants_own)

    def _close_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            self.swarm.unlisten(own.host, own.port)

    def _free_number(self, *, tcp: bool) -> int:
        """Return the number to open at: the usual one, or if it is taken another one, which is the usual from then on.

        What the user chose stays what it is.
        """
        port = self.port
        if self.settings.port is not None or is_free(port, tcp=tcp, udp=port != self._dht_port):
            return port
        other = free_port()
        _log.warning("port %d is taken: port %d is this store's from now on", port, other)
        self._state.change_soon(lambda state: dataclasses.replace(state, port=other))
        return other

    def _port_changed(self) -> None:
        if self.swarm.listening and self._dht_port not in (None, self.port):
            self.dht.reopen()

    # The DHT

    @asynccontextmanager
    async def _open_dht(self) -> AsyncIterator[Discovery]:
        port = self.port if self.swarm.listening else self._free_number(tcp=True)
        self._dht_port = port
        actual = port if is_free(port, tcp=False) else 0  # peers are told the number of the listener all the same
        async with open_dht(ANY_HOST, actual, bootstrap=()) as service, trio.open_nursery() as nursery:
            found = _Bootstrapped(service, self.bootstrap)
            nursery.start_soon(found.run)
            self.node, self._first_nodes = service, found
            service.utp.on_accept, service.utp.admits = self.swarm.accept, self.swarm.admits
            try:
                yield found
            finally:
                service.utp.on_accept = None
                self.node = self._first_nodes = self._dht_port = None
                nursery.cancel_scope.cancel()


class _Bootstrapped:
    """The DHT, once there is somebody to begin with: a `Discovery`. Names are looked up until they are known."""

    name: Final = DhtDiscovery.name

    def __init__(self, service: DhtService, bootstrap: Iterable[str]) -> None:
        self._service = service
        self._bootstrap = [parse_address(node) for node in bootstrap]
        self.problem: str | None = None
        """Why nobody is known to begin with."""
        self._changed = trio.Event()
        self._again = trio.Event()

    async def run(self) -> None:
        """Find the first nodes, and join."""
        pause = _FIRST_RETRY_SECONDS
        while not (known := await resolve(self._bootstrap)):
            self.problem = "the names of its first nodes cannot be looked up"
            self._has_changed()
            self._again = trio.Event()
            with trio.move_on_after(pause) as paused:
                await self._again.wait()
            pause = min(2 * pause, _LAST_RETRY_SECONDS) if paused.cancelled_caught else _FIRST_RETRY_SECONDS
        self._service.node.bootstrap = tuple(known)
        self.problem = None
        self._has_changed()
        await self._service.join()

    def hurry(self) -> None:
        """Look names up again now, if that is only waited for: the network is another one."""
        self._again.set()

    async def follow(self, interest: Interest) -> None:
        """See `Discovery.follow`."""
        while not self._service.node.bootstrap:
            if self.problem is not None:
                interest.looked(self.problem)
            await self._changed.wait()
        await DhtDiscovery(self._service).follow(interest)

    def _has_changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def _open_mdns() -> AsyncIterator[Discovery]:
    async with open_mdns() as service:
        yield MdnsDiscovery(service)
