"""The daemon: one store, its peers, its mounts, and the control socket, from start to end.

The rule: what was opened first is closed last. While it ends, the mounts go first, still served by everything below
them, and the store goes last, in order on the disk.
"""

import errno
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from hyperfs import __version__
from hyperfs.core.core import Core
from hyperfs.core.store import Store
from hyperfs.daemon.addresses import parse_address
from hyperfs.daemon.cache import Cache
from hyperfs.daemon.connection import Connection
from hyperfs.daemon.methods import METHODS
from hyperfs.daemon.peers import PeerBook
from hyperfs.daemon.places import Places
from hyperfs.daemon.process import Announcement, write_announcement
from hyperfs.daemon.readers import Readers
from hyperfs.daemon.registry import CoreRegistry, User
from hyperfs.daemon.serving import Serving
from hyperfs.daemon.session import Session
from hyperfs.daemon.state import StateFile
from hyperfs.daemon.supervisor import Supervisor
from hyperfs.drive.committer import LocalCommitter, named_content
from hyperfs.drive.create import create_drive
from hyperfs.errors import BlockNotAvailable, HyperfsError, NotADrive, short
from hyperfs.replication import Replicator
from hyperfs.swarm import Swarm

_log = logging.getLogger(__name__)

FIRST_WORD_SECONDS: Final = 5.0
"""How long the first append to a drive waits to reach its peers, and then for what they have of it."""

_BACKLOG: Final = 128
_FOR_NOW: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED)
_ACCEPT_PAUSE_SECONDS: Final = 0.1


class Daemon:
    """Everything that a running daemon consists of. Made by `open_daemon`."""

    def __init__(
        self, places: Places, store: Store, state: StateFile, replicator: Replicator, nursery: trio.Nursery
    ) -> None:
        self.places = places
        self.store = store
        self.replicator = replicator
        self.nursery = nursery
        self.state = state
        self.swarm = Swarm(replicator, nursery)
        self.peers = PeerBook(self.swarm, replicator, nursery)
        self.registry = CoreRegistry(store, replicator, nursery)
        self.cache = Cache(store, self.registry)
        self.serving = Serving(self.registry, nursery)
        self.supervisor = Supervisor(places, nursery, self._mount_gone)
        self.readers = Readers(self.supervisor)
        self._writing = User(writes=True)
        self._committers: dict[bytes, LocalCommitter] = {}
        self._opening: dict[bytes, trio.Lock] = {}
        self._sessions = 0
        self._stop = trio.Event()
        self._changed = trio.Event()

    async def restore(self) -> None:
        """Begin again what the state says: peers, addresses, drives, mounts. What fails of it is logged, and kept."""
        state = self.state.state
        self.cache.set_limit(state.cache_limit)
        for address in state.listen:
            try:
                await self.swarm.listen(*parse_address(address))
            except (OSError, HyperfsError) as error:
                _log.error("cannot listen at %s: %s", address, error)
        self.peers.hold("state", state.peers)
        for served in state.served:
            key = bytes.fromhex(served.key)
            self.peers.hold(("served", key), served.peers)
            try:
                await self.serving.add(key)
            except (OSError, HyperfsError) as error:
                _log.error("cannot serve %s: %s", short(key), error)
        for record in state.mounts:
            if self._was_unmounted(record.id):
                continue
            self.peers.hold(("mount", record.id), record.peers)
            self.supervisor.add(record)

    async def accept(self, listener: trio.socket.SocketType) -> None:
        """Answer every client that connects, until cancelled."""
        while True:
            try:
                stream, _ = await listener.accept()
            except OSError as error:
                if error.errno not in _FOR_NOW:
                    raise
                _log.error("cannot accept a control connection: %s", error)
                await trio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            self.nursery.start_soon(self._converse, Connection(stream))

    async def committer(self, key: bytes) -> LocalCommitter:
        """Return the one through which drive ``key`` is written.

        Before the first use the peers are asked whether they have more of the drive than is here, within
        `FIRST_WORD_SECONDS`: a restored backup that is written to would fork it.

        Raises:
            NotADrive, NotWritable, DamagedStore.
        """
        async with self._opening.setdefault(key, trio.Lock()):
            known = self._committers.get(key)
            if known is None:
                metadata = await self.registry.open(key, self._writing)
                if metadata.writable and not metadata.length:
                    await self._ask_peers(metadata)
                    if not metadata.length:
                        raise BlockNotAvailable(
                            f"only the secret key of drive {short(key)} is here: connect to a peer that has the drive"
                        )
                content_key = self.registry.content_key(metadata)
                if content_key is None and metadata.length:
                    await metadata.get(0)
                    content_key = self.registry.content_key(metadata)
                if content_key is None:
                    raise NotADrive(f"{short(key)} is not a drive of this store")
                content = await self.registry.open(content_key, self._writing)
                known = LocalCommitter(metadata, content, reserve=self.store.reserve)
                await self.store.reserve.make()
                await content.fork_guard.note_signed(await named_content(metadata))
                await self._ask_peers(metadata, content)
                self._committers[key] = known
            return known

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
        """Make a new, empty drive and return its key."""
        return await create_drive(self.store)

    def has_peers(self) -> bool:
        """Tell whether anybody is connected, or may be soon."""
        return bool(self.swarm.peers or self.swarm.listening or self.replicator.status().peers)

    def refuse_without_peers(self, core: Core) -> None:
        """Raise `BlockNotAvailable` when there is nobody whom a fetch could wait for."""
        if not self.has_peers():
            raise BlockNotAvailable(
                f"core {short(core.key)}: this is not here, and no peer is known; name one with --peer HOST:PORT"
            )

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
            if self._sessions or self.supervisor.all() or self.state.state.served:
                await changed.wait()
                continue
            with trio.move_on_after(idle_seconds) as scope:
                await changed.wait()
            if scope.cancelled_caught:
                _log.info("nothing to do for %g s: ending", idle_seconds)
                self.stop()
                return

    async def _converse(self, connection: Connection) -> None:
        self._sessions += 1
        self.has_changed()
        try:
            await Session(self, connection, METHODS).run()
        except Exception:  # noqa: BLE001  one client's fault must not end the daemon for the others
            _log.exception("a control connection failed")
        finally:
            self._sessions -= 1
            self.has_changed()

    def _was_unmounted(self, id: str) -> bool:
        """Tell whether a mount's folder was unmounted while no daemon was there, and forget the mount if so."""
        note = self.places.unmounted_note(id)
        if not note.exists():
            return False
        self._mount_gone(id)
        note.unlink()
        return True

    def _mount_gone(self, id: str) -> None:
        left = tuple(record for record in self.state.state.mounts if record.id != id)
        if left != self.state.state.mounts:
            try:
                self.state.change(mounts=left)
            except OSError as error:
                _log.error("cannot note that a mount is gone: %s", error)
        self.peers.release(("mount", id))
        self.has_changed()


@asynccontextmanager
async def open_daemon(places: Places) -> AsyncIterator[Daemon]:
    """Open the store and answer at its control socket until the body ends; then unmount, and close everything.

    Raises:
        StoreLocked: another process has the store.
        DamagedStore, DaemonError, OSError.
    """
    replicator = Replicator()
    places.maps.mkdir(mode=0o700, exist_ok=True)
    store = await Store.open(places.store, maps=places.maps, source=replicator)
    try:
        state = StateFile(places.state)
        failure: Exception | None = None
        with _bound_socket(places) as listener:
            announcement = Announcement(os.getpid(), listener.getsockname(), __version__, ending=False)
            async with trio.open_nursery() as nursery:
                daemon = Daemon(places, store, state, replicator, nursery)
                nursery.start_soon(store.flush_forever)
                nursery.start_soon(daemon.accept, listener)
                nursery.start_soon(daemon.cache.run)
                try:
                    write_announcement(places, announcement)
                    await daemon.restore()
                    yield daemon
                except Exception as error:  # noqa: BLE001  raised again below, outside the nursery that would wrap it
                    failure = error
                try:
                    write_announcement(places, Announcement(os.getpid(), announcement.socket, __version__, ending=True))
                except OSError as error:  # a full disk is no reason to leave mounts behind
                    _log.warning("cannot announce that the daemon ends: %s", error)
                await daemon.supervisor.end_all()
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
    finally:
        with trio.CancelScope(shield=True):
            await store.close()
        places.announcement.unlink(missing_ok=True)


def _bound_socket(places: Places) -> trio.socket.SocketType:
    """Return the listening control socket. The store's lock is ours, so whatever stands at its path is a dead one's."""
    path = places.socket()
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except BaseException:  # the socket has no owner yet
        listener.close()
        raise
    return trio.socket.from_stdlib_socket(listener)
