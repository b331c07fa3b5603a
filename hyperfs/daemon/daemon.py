"""A running daemon: one store with its peers and its mounts, and what the requests of clients do to them.

The rule: what it does follows its state (see `state`), which changes in one step and is never held over an await.
"""

import logging
from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from hyperfs.core.core import Core
from hyperfs.core.store import Store
from hyperfs.daemon.cache import Cache
from hyperfs.daemon.peers import PeerBook
from hyperfs.daemon.places import Places
from hyperfs.daemon.readers import Readers
from hyperfs.daemon.registry import CoreRegistry, User
from hyperfs.daemon.serving import Serving
from hyperfs.daemon.state import State, StateKeeper
from hyperfs.daemon.supervisor import Supervisor
from hyperfs.daemon.writers import Writers
from hyperfs.drive.create import create_drive
from hyperfs.errors import BlockNotAvailable, NotADrive, short
from hyperfs.replication import Replicator
from hyperfs.swarm import Swarm

_log = logging.getLogger(__name__)

FIRST_WORD_SECONDS: Final = 5.0
"""How long the first append to a drive waits to reach its peers, and then for what they have of it."""


LISTEN_SECONDS: Final = 5.0
"""How long a start waits until peers are accepted, where names have to be looked up; then that goes on beside."""


class Daemon:
    """Everything that a running daemon consists of, but the control socket. Made by `open_daemon`."""

    def __init__(
        self, places: Places, store: Store, replicator: Replicator, state: State, nursery: trio.Nursery
    ) -> None:
        self.places = places
        self.store = store
        self.replicator = replicator
        self.nursery = nursery
        self.state = StateKeeper(places.state, state, self._follow)
        self.swarm = Swarm(replicator, nursery)
        self.peers = PeerBook(self.swarm, replicator, nursery)
        self.registry = CoreRegistry(store, replicator, nursery)
        self.cache = Cache(store, self.registry)
        self.writers = Writers(store, self.registry, self._ask_peers)
        self.serving = Serving(self.state, self.registry, self.swarm, nursery)
        self.supervisor = Supervisor(places, nursery, self._mount_gone)
        self.readers = Readers(self.supervisor)
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
        return metadata, await self.registry.open(content_key, user)

    async def _ask_peers(self, *cores: Core) -> None:
        """Ask peers for what they have of cores of ours, and wait a little for them to bring it."""

        async def ask(core: Core) -> None:
            await core.update()
            await core.fork_guard.caught_up()

        if self.has_peers():
            with trio.move_on_after(FIRST_WORD_SECONDS):
                await self.swarm.wait_tried()
            with trio.move_on_after(FIRST_WORD_SECONDS):
                async with trio.open_nursery() as nursery:
                    for core in cores:
                        nursery.start_soon(ask, core)

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
        return bool(self.swarm.peers or self.swarm.listening or self.replicator.status().peers)

    def refuse_without_peers(self, core: Core) -> None:
        """Raise `BlockNotAvailable` when there is nobody whom a fetch could wait for."""
        if not self.has_peers():
            raise BlockNotAvailable(
                f"core {short(core.key)}: this is not here, and no peer is known; name one with --peer HOST:PORT"
            )

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
            if self._clients or self.supervisor.all() or self.state.state.served:
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
        before = {served.key: served for served in old.served}
        now = {served.key: served for served in new.served}
        self._dial("state", old.peers, new.peers)
        for key in [key for key in before if now.get(key) is not before[key]]:
            self._dial(("served", key), before[key].peers, now[key].peers if key in now else ())
        for key in now.keys() - before.keys():
            self._dial(("served", key), (), now[key].peers)
        self.serving.follow(
            begun=[bytes.fromhex(key) for key in now.keys() - before.keys()],
            ended=[bytes.fromhex(key) for key in before.keys() - now.keys()],
            listen=set(new.listen) - set(old.listen),
            unlisten=set(old.listen) - set(new.listen),
        )
        if new.cache_limit != old.cache_limit:
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
