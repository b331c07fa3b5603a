"""A running daemon: one store with its peers and its mounts, and what the requests of clients do to them.

The rule: what it does follows its state (see `state`), which changes in one step and is never held over an await.
"""

import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from hyperfs.core.core import Core
from hyperfs.core.store import Store
from hyperfs.daemon.acquaintances import Acquaintances
from hyperfs.daemon.cache import Cache
from hyperfs.daemon.finding import Finding
from hyperfs.daemon.linking import Links
from hyperfs.daemon.network import Network
from hyperfs.daemon.network_settings import NetworkChange, NetworkSettings
from hyperfs.daemon.peers import PeerBook
from hyperfs.daemon.pins import Pins
from hyperfs.daemon.places import Places
from hyperfs.daemon.readers import Readers
from hyperfs.daemon.registry import CoreRegistry, User
from hyperfs.daemon.serving import Serving
from hyperfs.daemon.state import State, StateKeeper, offered
from hyperfs.daemon.supervisor import Supervisor
from hyperfs.daemon.writers import Writers
from hyperfs.drive.create import create_drive
from hyperfs.drive.nursery import open_work
from hyperfs.errors import BlockNotAvailable, NotADrive, short
from hyperfs.replication import Replicator

_log = logging.getLogger(__name__)

FIRST_WORD_SECONDS: Final = 5.0
"""How long the first append to a drive waits to reach its peers, and then for what they have of it."""


MORE_PEERS_SECONDS: Final = 0.3
"""When one peer was found, so long others may come, too, who may have something newer."""
SILENT_SECONDS: Final = 2.0

LISTEN_SECONDS: Final = 5.0
"""How long a start waits until peers are accepted, where names have to be looked up; then that goes on beside."""


class Daemon:
    """Everything that a running daemon consists of, but the control socket. Made by `open_daemon`."""

    def __init__(
        self,
        places: Places,
        store: Store,
        replicator: Replicator,
        state: State,
        settings: NetworkSettings,
        nursery: trio.Nursery,
    ) -> None:
        self.places = places
        self.store = store
        self.replicator = replicator
        self.nursery = nursery
        self.state = StateKeeper(places.state, state, self._follow, store.reserve)
        self.network = Network(replicator, self.state, settings, nursery)
        self.swarm = self.network.swarm
        self.peers = PeerBook(self.swarm, replicator, nursery)
        self.registry = CoreRegistry(store, replicator, nursery)
        self.writers = Writers(store, self.registry, self._ask_peers)
        self.finding = Finding(self.network, self.registry)
        self.serving = Serving(self.state, self.registry, self.network, nursery)
        self.pins = Pins(self.registry, replicator, store.reserve, nursery)
        self.cache = Cache(store, self.registry, self.pins.drives)
        self.acquaintances = Acquaintances(self.state, self.peers, self.registry)
        self.supervisor = Supervisor(places, nursery, self._mount_gone)
        self.readers = Readers(self.supervisor)
        self.links = Links(self.supervisor, self.readers)
        self._clients = 0
        self._stop = trio.Event()
        self._changed = trio.Event()

    async def restore(self) -> None:
        """Begin again what the state says: addresses, peers, drives, mounts. What fails of it is logged, and kept."""
        with trio.move_on_after(LISTEN_SECONDS):
            for address in self.state.state.listen:
                await self.serving.listen(address)
        self._follow(State(), self.state.state)
        for record in self.state.state.mounts:
            if await self._was_unmounted(record.id):
                continue
            self.peers.hold(("mount", record.id), record.peers)
            self.supervisor.add(record)

    async def drive_cores(self, key: bytes, user: User) -> tuple[Core, Core]:
        """Return a drive's metadata and content, in use until ``user`` is released.

        Raises:
            BlockNotAvailable: nothing of it is here.
            NotADrive, DamagedStore, OSError.
        """
        metadata = await self.registry.open(key, user)
        if not metadata.length:
            raise BlockNotAvailable(f"nothing of drive {short(key)} is here; name a peer with --peer HOST:PORT")
        content_key = await self.registry.find_content_key(metadata)
        if content_key is None:
            raise NotADrive(f"{short(key)} is not a drive")
        return metadata, await self.registry.open(content_key, user, is_content=True)

    async def _ask_peers(self, *cores: Core) -> None:
        """Ask peers for what they have of cores of ours, and wait a little for them to bring it."""

        async def ask(core: Core) -> None:
            await core.update()
            await core.fork_guard.caught_up()

        if self.has_peers():
            with trio.move_on_after(FIRST_WORD_SECONDS):
                await self.wait_peers(cores[0])
            with trio.move_on_after(FIRST_WORD_SECONDS):
                async with trio.open_nursery() as nursery:
                    for core in cores:
                        nursery.start_soon(ask, core)

    async def update(self, core: Core) -> None:
        """Learn the newest head of ``core`` that peers have, as far as there are any.

        Who says nothing is waited for no longer than `SILENT_SECONDS` once another one has the core, and some head of
        it is known: whoever knows a topic can have us dial those that are silent. Cancelled, what comes still counts.
        """
        if not self.has_peers():
            return
        await self.wait_peers(core)
        exchange = self.replicator.exchange_of(core.discovery_key)
        async with open_work() as nursery:

            async def long_enough() -> None:
                if exchange is not None:
                    await exchange.wait_peer()
                    await core.wait_longer(0)
                    await trio.sleep(SILENT_SECONDS)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(long_enough)
            await core.update()
            nursery.cancel_scope.cancel()

    async def wait_peers(self, core: Core) -> None:
        """Return once it is known whom a drive's ``core`` can be asked of: each peer that was named was tried.

        Of those that are found the first one is enough, with `MORE_PEERS_SECONDS` for others; if there is none, the
        first look has to be over.
        """
        await self.swarm.wait_tried()
        exchange = self.replicator.exchange_of(core.discovery_key)
        async with open_work() as nursery:

            async def wait_for_one() -> None:
                if exchange is not None:
                    await exchange.wait_peer()
                    await trio.sleep(MORE_PEERS_SECONDS)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(wait_for_one)
            await self.swarm.wait_found(core.discovery_key)
            nursery.cancel_scope.cancel()

    async def create_drive(self) -> bytes:
        """Make a new, empty drive and return its key. Cancelled, it may have been made, and nobody is told its key."""
        key = await create_drive(self.store)
        user = User()  # so that its cores, which `create_drive` left open, are closed once nobody uses them
        try:
            await self.drive_cores(key, user)
        finally:
            self.registry.release(user)
        return key

    def has_peers(self) -> bool:
        """Tell whether anybody is connected, or may be soon."""
        return self._reaches_anybody() or bool(self.swarm.listening)

    def _reaches_anybody(self) -> bool:
        """Tell whether anybody may be there; whom nobody named today counts no more once he cannot be reached."""
        away = [peer for peer in self.swarm.unreached if self.acquaintances.is_one(peer)]
        return bool(set(self.swarm.peers).difference(away) or self.swarm.is_looking or self.replicator.peer_count)

    async def with_peers(self, core: Core, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work``, which waits for blocks of ``core``; not when there is nobody to wait for, once that is known.

        Raises `BlockNotAvailable` in that case. Cancelled, ``work`` is.
        """
        if not self.swarm.is_looking:
            self._refuse_without_peers(core)
            await work()
            return
        async with open_work() as nursery:

            async def refuse() -> None:
                await self.swarm.wait_looked()
                self._refuse_without_peers(core)

            nursery.start_soon(refuse)
            await work()
            nursery.cancel_scope.cancel()

    def _refuse_without_peers(self, core: Core) -> None:
        if not self._reaches_anybody() and not (self.swarm.listening and self.finding.is_offered(core)):
            away = [f"{peer}: {why}" for peer, why in self.swarm.unreached.items()]
            looked = "; ".join(filter(None, [*away, self.finding.words(core)]))
            raise BlockNotAvailable(f"no peer is known{looked and f' ({looked})'}; name one with --peer HOST:PORT")

    def change_network(self, change: NetworkChange) -> NetworkSettings:
        """Be in the network another way, until the daemon ends; return all settings. Raises `UsageError`."""
        settings = change.of(self.network.settings)
        settings.check()
        self.network.change(settings)
        self.finding.look_again()
        return self.network.settings

    async def leave_network(self) -> None:
        """Take back what is announced; takes a few seconds at most."""
        await self.swarm.leave_all()

    def client_came(self) -> None:
        """A client is there, so the daemon is not idle."""
        self._clients += 1
        self.has_changed()

    def client_went(self, user: User) -> None:
        """Let go of everything that a client had open."""
        self.writers.release(user)
        self.registry.release(user)
        self.peers.release(user)
        self._clients -= 1
        self.has_changed()

    def stop(self) -> None:
        """Begin to end."""
        self._stop.set()

    async def wait_stop(self) -> None:
        """Return once the daemon is to end."""
        await self._stop.wait()

    def has_changed(self) -> None:
        """Look again whether there is anything to do."""
        self._changed.set()
        self._changed = trio.Event()

    async def stop_when_idle(self, idle_seconds: float) -> None:
        """End the daemon once it has had no client, no mount and nothing to serve for ``idle_seconds``."""
        while True:
            changed = self._changed
            if self._clients or self.supervisor.all() or offered(self.state.state):
                await changed.wait()
                continue
            with trio.move_on_after(idle_seconds) as scope:
                await changed.wait()
            if scope.cancelled_caught:
                _log.info("nothing to do for %g s: ending", idle_seconds)
                self.stop()
                return

    def _follow(self, old: State, new: State) -> None:
        """Do what the state says now."""
        before, now = offered(old), offered(new)
        self._dial("state", old.peers, new.peers)
        for key in before.keys() | now.keys():
            self._dial(("served", key), before.get(key, ()), now.get(key, ()))
        self.serving.follow(
            begun=[bytes.fromhex(key) for key in now.keys() - before.keys()],
            ended=[bytes.fromhex(key) for key in before.keys() - now.keys()],
            listen=set(new.listen) - set(old.listen),
            unlisten=set(old.listen) - set(new.listen),
        )
        self.pins.follow([bytes.fromhex(one.key) for one in new.pinned])
        self.finding.follow(new)
        if (new.cache_limit, new.pinned) != (old.cache_limit, old.pinned):
            self.cache.set_limit(new.cache_limit)
        self.has_changed()

    def _dial(self, holder: Hashable, before: tuple[str, ...], now: tuple[str, ...]) -> None:
        """Dial for the sake of ``holder`` what it names now, and no more what it does not."""
        if before != now:
            self.peers.hold(holder, [address for address in now if address not in before])
            self.peers.release(holder, but=now)

    async def _was_unmounted(self, id: str) -> bool:
        """Tell whether a mount's folder was unmounted while no daemon was there, and forget the mount if so."""
        note = self.places.unmounted_note(id)
        if not note.exists():
            return False
        try:
            await self.state.change(partial(_without_mount, id=id))
            note.unlink()  # last: until then the state may still name the mount
        except OSError as error:
            _log.error("cannot note that a mount is gone: %s", error)
        return True

    def _mount_gone(self, id: str) -> None:
        self.state.change_soon(partial(_without_mount, id=id))
        self.peers.release(("mount", id))
        self.has_changed()


def _without_mount(state: State, *, id: str) -> State:
    return replace(state, mounts=tuple(record for record in state.mounts if record.id != id))
