"""The daemon from start to end: its store, its tasks, and the control socket at which it is asked.

The rule: what was opened first is closed last. While it ends, the mounts go first, still served by everything below
them, and the store goes last, in order on the disk.
"""

import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio

from hyperfs import __version__
from hyperfs.core.store import Store
from hyperfs.daemon.connection import Connection
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.methods import handlers_of
from hyperfs.daemon.network_settings import OFFLINE, NetworkSettings
from hyperfs.daemon.places import Places, socket_address
from hyperfs.daemon.process import Announcement, write_announcement
from hyperfs.daemon.session import Handlers, Session
from hyperfs.daemon.state import read_state
from hyperfs.errors import DaemonError
from hyperfs.replication import Replicator
from hyperfs.trie import HypertrieExtension

_log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
"""Commands that may wait to be accepted; the system may allow fewer."""
_FOR_NOW: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ECONNABORTED)
_ACCEPT_PAUSE_SECONDS: Final = 0.1


async def _accept(daemon: Daemon, listener: trio.socket.SocketType) -> None:
    """Answer every client that connects, until cancelled."""
    handlers = handlers_of(daemon)
    while True:
        try:
            stream, _ = await listener.accept()
        except OSError as error:
            if error.errno not in _FOR_NOW:
                raise
            _log.error("cannot accept a control connection: %s", error)
            await trio.sleep(_ACCEPT_PAUSE_SECONDS)
            continue
        daemon.nursery.start_soon(_converse, daemon, Connection(stream), handlers)


async def _converse(daemon: Daemon, connection: Connection, handlers: Handlers) -> None:
    session = Session(connection, handlers)
    daemon.client_came()
    try:
        await session.run()
    except Exception:  # noqa: BLE001  one client's fault must not end the daemon for the others
        _log.exception("a control connection failed")
    finally:
        daemon.client_went(session.user)


@asynccontextmanager
async def open_daemon(places: Places, network: NetworkSettings = OFFLINE) -> AsyncIterator[Daemon]:
    """Open the store and answer at its control socket until the body ends; then unmount, and close everything.

    ``network`` says how peers are found, and found by; if nothing does, they are not.

    Raises:
        UsageError: ``network`` names something that is no address.
        StoreLocked: another process has the store.
        DamagedStore, DaemonError, OSError.
    """
    network.check()
    replicator = Replicator(extensions=[HypertrieExtension()])
    places.maps.mkdir(mode=0o700, exist_ok=True)
    store = await Store.open(places.store, maps=places.maps, source=replicator)
    daemon: Daemon | None = None
    try:
        state = await trio.to_thread.run_sync(read_state, places.state)
        failure: Exception | None = None
        path = places.socket()
        with _bound_socket(path) as listener:
            announcement = Announcement(os.getpid(), str(path), __version__, ending=False)
            async with trio.open_nursery() as nursery:
                daemon = Daemon(places, store, replicator, state, network, nursery)
                try:
                    nursery.start_soon(store.flush_forever)
                    nursery.start_soon(daemon.state.run)
                    nursery.start_soon(daemon.cache.run)
                    await _announce(places, announcement, store)
                    await daemon.restore()
                    # only now: a mount that lives on must not hear that nobody knows it
                    nursery.start_soon(_accept, daemon, listener)
                    yield daemon
                except Exception as error:  # noqa: BLE001  raised again below, outside the nursery that would wrap it
                    failure = error
                try:
                    write_announcement(places, Announcement(os.getpid(), announcement.socket, __version__, ending=True))
                except OSError as error:  # a full disk is no reason to leave mounts behind
                    _log.warning("cannot announce that the daemon ends: %s", error)
                await daemon.supervisor.end_all()
                await daemon.leave_network()
                await daemon.state.save()
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
    finally:
        if daemon is not None:
            daemon.registry.close()
        with trio.CancelScope(shield=True):
            await store.close()
        places.announcement.unlink(missing_ok=True)


async def _announce(places: Places, announcement: Announcement, store: Store) -> None:
    """Tell clients of the daemon, on a full disk in space that was kept back: what makes room is done by a daemon."""

    async def write() -> None:
        write_announcement(places, announcement)

    await store.reserve.spend_on(write)


@contextmanager
def _bound_socket(path: Path) -> Iterator[trio.socket.SocketType]:
    """Listen at the control socket while the body runs. The store's lock is ours: what stands there is a dead one's.

    Raises:
        DaemonError: there can be no socket there.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            with socket_address(path) as address:
                listener.bind(address)
        except OSError as error:
            raise DaemonError(
                f"{path}: no control socket can be there ({error.strerror}); set XDG_RUNTIME_DIR to a directory of "
                "yours, on a local file system"
            ) from error
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        with trio.socket.from_stdlib_socket(listener) as socket_of_trio:
            yield socket_of_trio
    finally:
        listener.close()
        path.unlink(missing_ok=True)
