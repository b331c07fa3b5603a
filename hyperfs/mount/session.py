"""One mounted drive, from the mount to the unmount: the only module that starts and ends a FUSE session.

The rule: whatever ends `run_mount`, the folder is unmounted when it returns.
"""

import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial

import pyfuse3
import trio

from hyperfs.drive import names
from hyperfs.drive.drive import Drive
from hyperfs.drive.nursery import open_work
from hyperfs.drive.stat import MountTarget
from hyperfs.errors import MountFailed, short
from hyperfs.garbage import collecting_little
from hyperfs.mount import mountpoint as mounting
from hyperfs.mount.affinity import Affinity
from hyperfs.mount.edge import keep_going
from hyperfs.mount.following import Follower, Head
from hyperfs.mount.inodes import InodeTable
from hyperfs.mount.intake import taking_turns
from hyperfs.mount.invalidate import Invalidator
from hyperfs.mount.joined_view import JoinedView
from hyperfs.mount.operations import Operations
from hyperfs.mount.options import MountOptions
from hyperfs.mount.places import Places
from hyperfs.mount.snapshot_view import SnapshotView
from hyperfs.mount.view import View
from hyperfs.mount.writing import Writing

__all__ = ["Ended", "Ending", "Served", "Writing", "run_mount"]

logger = logging.getLogger(__name__)

MAX_TASKS = 8192
"""Operations at a time; the kernel keeps what is more than that waiting."""
READY_SECONDS = 20.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Served:
    """What can be asked of a mounted folder for as long as it answers.

    ``blocks_in_use`` tells which blocks of a core open files lie in. ``link`` mounts a drive at a path of one that is
    written here, or unmounts it (None), as the folder shows when it returns; it returns the version that has it so,
    or None when that drive is not written here, and raises as `WorkspaceView.link`. ``knows`` tells whether the kernel
    knows anything at a path or below it; where the drive is written here, ``cores`` yields the keys of those of inner
    drives of which it does, instead.
    """

    blocks_in_use: Callable[[bytes], Iterable[range]]
    link: Callable[[bytes, str, MountTarget | None], Awaitable[int | None]]
    knows: Callable[[str], bool]
    cores: Callable[[], Iterable[bytes]] = tuple


class Ending(Enum):
    """Who ended a mount."""

    UNMOUNTED = "unmounted"
    """Somebody unmounted the folder."""
    SIGNALLED = "signalled"
    """This process was told to end."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a mount ended. ``staged``: why something that was written stays staged for the next mount; None: nothing."""

    by: Ending
    staged: Exception | None = None

    @property
    def by_user(self) -> bool:
        """Whether somebody unmounted the folder, rather than told this process to end."""
        return self.by is Ending.UNMOUNTED


async def run_mount(
    drive: Drive,
    mountpoint: str | os.PathLike[str],
    options: MountOptions | None = None,
    *,
    writing: Writing | None = None,
    on_ready: Callable[[Served], None] | None = None,
    on_unmounted: Callable[[int], None] | None = None,
) -> Ended:
    """Show ``drive`` at ``mountpoint``; return once it is unmounted and what was written is committed, or stays staged.

    There can be one in a process at a time. With ``writing`` it may be changed: what an earlier process staged is
    staged again before it is mounted, and what is staged is committed after it was unmounted; if that fails it stays
    staged, and the log says why. ``on_ready`` is called once the folder answers, with what can be asked of it,
    ``on_unmounted`` once the folder is away, with how many bytes are to be committed then.
    Cancelling it, or, when it runs in the main thread, SIGTERM, SIGINT or SIGHUP, unmounts (lazily where somebody is
    still inside); after a signal it returns.

    Raises:
        MountFailed: no FUSE here, or the mount point is missing, not an empty directory, or not permitted. A mount
            point left dead by a killed mount process is recognised and mounted over.
    """
    options = options or MountOptions()
    path = await trio.to_thread.run_sync(
        lambda: mounting.prepare(os.fspath(mountpoint), allow_other=options.allow_other), abandon_on_cancel=True
    )
    places = None
    with collecting_little():
        if writing is not None:
            places = await Places.open(drive, writing, confines_links=options.confines_links)
        try:
            ending = await _serve(drive, path, options, places, on_ready, on_unmounted)
        finally:
            if places is not None:
                with trio.CancelScope(shield=True):
                    await places.close()
    return Ended(ending, None if places is None else places.failure)


async def _serve(
    drive: Drive,
    path: str,
    options: MountOptions,
    places: Places | None,
    on_ready: Callable[[Served], None] | None,
    on_unmounted: Callable[[int], None] | None,
) -> Ending:
    async with open_work() as nursery:
        head = SnapshotView(drive, confines_links=options.confines_links)
        view: View = head if places is None else JoinedView(places)
        operations = Operations(view, options, nursery, asked=Affinity().asked)
        session = _Session(operations, path)
        session.mount(_fuse_options(drive, options, is_writable=places is not None))
        nursery.start_soon(session.serve)
        try:
            if threading.current_thread() is threading.main_thread():
                await nursery.start(_stop_on_signal, session)
            await session.wait_until_ready()
            if places is not None:
                places.begin(nursery, session.follower)
            else:
                nursery.start_soon(keep_going, session.follower(drive, head).run)
            if not session.stopping.is_set():
                logger.info("%s: drive %s is mounted", path, short(drive.key))
                if on_ready is not None:
                    link = partial(_link, session, places)
                    if places is None:
                        served = Served(operations.blocks_in_use, link, partial(_knows, head.inodes))
                    else:
                        served = Served(operations.blocks_in_use, link, _knows_nothing, places.cores)
                    on_ready(served)
            await session.stopping.wait()
        finally:
            with trio.CancelScope(shield=True):
                await session.end()
                if places is not None:
                    if on_unmounted is not None:
                        on_unmounted(places.uncommitted_bytes)
                    await places.close()  # here, where a signal still finds somebody who knows
            nursery.cancel_scope.cancel()
    logger.info("%s: unmounted", path)
    return session.ending


def _knows_nothing(path: str) -> bool:
    return False


def _knows(inodes: InodeTable, path: str) -> bool:
    return inodes.find_path(path.encode(errors="surrogateescape")) is not None


async def _link(
    session: "_Session", places: Places | None, key: bytes, path: str, target: MountTarget | None
) -> int | None:
    for place in places or ():
        if place.staged is None or place.target.key != key:
            continue
        async with place.in_use():
            version = await place.staged.view.link(path, target)
        above, name = names.split(path)
        parent = place.inodes.find_path(above.encode(errors="surrogateescape"))
        if parent is not None:
            session.invalidator.add_name(parent, name.encode(errors="surrogateescape"))
            await session.invalidator.done()
        return version
    return None


class _Session:
    """Owns pyfuse3's session, of which there is one in a process. ``stopping`` is set when it should end, or has."""

    def __init__(self, operations: Operations, path: str) -> None:
        self.stopping = trio.Event()
        self.ending = Ending.UNMOUNTED
        self.invalidator = Invalidator(operations.waits)
        self._operations = operations
        self._path = path
        self._folder = mounting.Folder(path)
        self._served = trio.Event()
        self._serving = trio.CancelScope(shield=True)

    def mount(self, options: set[str]) -> None:
        """Mount. Raises `MountFailed`; the kernel's or fusermount3's own words are on the standard error."""
        try:
            pyfuse3.init(self._operations, self._folder.path, options)
        except RuntimeError as error:
            self._folder.close()
            raise MountFailed(
                f"{self._path}: mounting was refused ({error}); the line before this in the log says why"
            ) from error

    async def serve(self) -> None:
        """Answer the kernel until the unmount. Cancellation from outside is left to `end`, which needs the answers."""
        try:
            with self._serving, taking_turns():
                await pyfuse3.main(max_tasks=MAX_TASKS)
        finally:
            self._served.set()
            self.stopping.set()

    async def wait_until_ready(self) -> None:
        """Return once the kernel's first question was answered and its limits are set, or it is to end.

        Raises `MountFailed`.
        """
        with trio.move_on_after(READY_SECONDS) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with_this, nursery.cancel_scope)
                await trio.to_thread.run_sync(_touch, self._path, abandon_on_cancel=True)
                nursery.cancel_scope.cancel()
        if scope.cancelled_caught:
            raise MountFailed(
                f"{self._path}: the kernel did not begin to use the mount in {READY_SECONDS:g} seconds; try again"
            )
        mounted = await trio.to_thread.run_sync(mounting.mounted_at, self._path)
        if mounted is not None:
            await trio.to_thread.run_sync(mounting.tune, mounted.device)

    async def _end_with_this(self, scope: trio.CancelScope) -> None:
        await self.stopping.wait()
        scope.cancel()

    def follower(self, drive: Drive, head: Head) -> Follower:
        """Return what follows ``drive`` for this mount, of which ``head`` is the view."""
        return Follower(drive, head, self._operations.files, self._operations.waits, self.invalidator)

    async def end(self) -> None:
        """Unmount, whatever is still going on: fail what waits, stop telling the kernel, then take the mount away."""
        self._operations.waits.close()
        if not await trio.to_thread.run_sync(self.invalidator.close):
            logger.warning("%s: the kernel still waits for an answer; ending the connection by force", self._path)
            mounted = await trio.to_thread.run_sync(mounting.mounted_at, self._path)
            if mounted is not None:
                await trio.to_thread.run_sync(mounting.abort, mounted.device)
        if not self._served.is_set():
            pyfuse3.terminate()
            self._serving.cancel()
            await self._served.wait()
        pyfuse3.close(unmount=True)
        self._folder.close()


async def _stop_on_signal(session: _Session, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        async for number in signals:
            logger.info("%s: unmounting", signal.Signals(number).name)
            session.ending = Ending.SIGNALLED
            session.stopping.set()


def _touch(path: str) -> None:
    try:
        os.stat(path)
    except OSError as error:
        logger.info("%s: its root cannot be read yet: %s", path, error.strerror)


def _fuse_options(drive: Drive, options: MountOptions, *, is_writable: bool) -> set[str]:
    access = "rw" if is_writable else "ro"
    chosen = {"default_permissions", access, f"fsname={mounting.source_of(drive.key)}", "subtype=hyperfs"}
    if options.allow_other:
        chosen.add("allow_other")
    return chosen
