"""The mounts of a store: one child process each, started, watched, started again, ended.

The rules: at any time at most one process serves a mount, the one that holds its lock. A new daemon finds the children
of the one before it alive, adopts them, and starts a child only where the lock is free. A child that ends may take as
long as it needs to commit what was written; only one that says nothing any more is killed.
"""

import dataclasses
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from hyperfs.daemon.answers import CommitProgress, MountTold
from hyperfs.daemon.failures import Described, exception_of
from hyperfs.daemon.locks import LockFile
from hyperfs.daemon.places import Places
from hyperfs.daemon.process import MOUNT_MODULE, environment, wait_process
from hyperfs.daemon.state import MountRecord
from hyperfs.errors import DaemonError, MountFailed, StillStaged, UsageError
from hyperfs.mount import mountpoint as mounting

_log = logging.getLogger(__name__)

SILENT_SECONDS: Final = 30.0
"""A child that is to end, and has said nothing for so long, is killed."""
UNMOUNT_SECONDS: Final = 10.0
"""How long the kernel may take to take away the folder of a child that was killed."""
_FIRST_RETRY_SECONDS: Final = 0.2
_LAST_RETRY_SECONDS: Final = 30.0


class MountState(Enum):
    """Where a mount stands."""

    STARTING = "starting"
    READY = "mounted"
    COMMITTING = "committing"
    """Its folder is away; what was written to it is being committed."""
    FAILED = "failed"
    """The last try ended; another follows."""
    GONE = "unmounted"


@dataclass(slots=True, eq=False)
class Mount:
    """One mount. ``failure`` is what its last try ended of."""

    record: MountRecord
    state: MountState = MountState.STARTING
    pid: int | None = None
    writable: bool | None = None
    """Whether the folder may be written to; None until it answered."""
    failure: Exception | None = None
    committing: CommitProgress | None = None
    said: int = 0
    """How often its process has said anything."""
    has_said_its_end: bool = False
    staged: str | None = None
    """Why something stays staged, as its process said at its end."""
    tried: trio.Event = field(default_factory=trio.Event)
    """Set once the folder answered, or the try ended: the one that is under way, or the last."""
    stop: trio.Event = field(default_factory=trio.Event)
    gone: trio.Event = field(default_factory=trio.Event)
    ended_by_user: bool = False

    @property
    def key(self) -> bytes:
        """The drive's key."""
        return bytes.fromhex(self.record.key)

    @property
    def is_ending(self) -> bool:
        """Whether its folder is away, or about to go."""
        return self.stop.is_set() or self.state in (MountState.COMMITTING, MountState.GONE)

    def begins(self) -> None:
        """Note that another try begins."""
        self.state = MountState.STARTING
        if self.tried.is_set():
            self.tried = trio.Event()
        self.committing = None
        self.has_said_its_end = False

    def describe(self) -> MountTold:
        """Return it as it is told to clients."""
        return MountTold(
            id=self.record.id,
            key=self.record.key,
            version=self.record.version,
            mountpoint=self.record.mountpoint,
            label=self.record.label,
            state=self.state.value,
            writable=self.writable,
            pid=self.pid,
            error=str(self.failure) if self.failure is not None and self.state is MountState.FAILED else None,
            committing=self.committing,
        )


class Supervisor:
    """Owns the mounts. ``forget`` is called with the id of one that is gone for good, before anybody is told."""

    def __init__(self, places: Places, nursery: trio.Nursery, forget: Callable[[str], None]) -> None:
        self._places = places
        self._nursery = nursery
        self._forget = forget
        self._mounts: dict[str, Mount] = {}
        self._staged: dict[str, str] = {}
        """Of mounts that are gone: what is told of those of which something stays staged."""
        self._ending = False
        self._ended: set[str] = set()

    def all(self) -> list[Mount]:
        """Return every mount."""
        return list(self._mounts.values())

    def get(self, id: str) -> Mount:
        """Return mount ``id``. Raises `UsageError` when there is none."""
        mount = self._mounts.get(id)
        if mount is None:
            raise UsageError(f"there is no mount {id}; `hyperfs status` shows those that there are")
        return mount

    async def join_or_add(self, record: MountRecord) -> tuple[Mount, bool]:
        """Return the mount of ``record``, and whether it is new: one may be there, as it is being mounted again.

        One at the same folder that is about to end is waited for, so that its commit is part of what is mounted.

        Raises:
            UsageError: something else is mounted there.
            DaemonError: the daemon is about to end.
        """
        while True:
            mount = self._mounts.get(record.id)
            if mount is None:
                return self.add(record), True
            if mount.is_ending:
                await mount.gone.wait()
            elif mount.state is MountState.FAILED:
                await self.end(mount)
            elif dataclasses.replace(mount.record, peers=record.peers, label=record.label) == record:
                return mount, False
            else:
                raise UsageError(
                    f"{record.mountpoint}: {mount.record.label} is mounted there already, or is to be, perhaps with "
                    "other options; `hyperfs umount` it first"
                )

    def add(self, record: MountRecord) -> Mount:
        """Begin to mount what ``record`` says, where no mount is; see `Mount.tried`. Raises `DaemonError`."""
        if self._ending:
            raise DaemonError("the daemon is about to end; try again in a moment")
        assert record.id not in self._mounts
        with suppress(OSError):  # where nothing can be written, nothing new is mounted for good either
            self._places.unmounted_note(record.id).unlink(missing_ok=True)  # it was of a mount before this one
        mount = self._mounts[record.id] = Mount(record)
        self._staged.pop(record.id, None)
        self._nursery.start_soon(self._watch, mount)
        return mount

    async def remove(self, id: str) -> None:
        """End mount ``id``, and return once what was written to it is committed and it is gone.

        One that was just being mounted again, and has something staged, gets to commit it first. Cancelled, it ends by
        itself.

        Raises:
            UsageError: there is none.
            StillStaged: it is gone, and something that was written stays staged.
        """
        mount = self._mounts.get(id)
        if mount is not None:
            if mount.state is MountState.STARTING and await trio.to_thread.run_sync(self._has_staged, mount):
                await self._unless_silent(mount, mount.tried)
            await self.end(mount)
        elif id not in self._staged:
            self.get(id)
        self._refuse_staged(id)

    async def wait_gone(self, id: str) -> None:
        """Return once mount ``id`` is gone, whoever ended it. Raises `StillStaged` as `remove`."""
        mount = self._mounts.get(id)
        if mount is not None:
            await mount.gone.wait()
        self._refuse_staged(id)

    async def end_all(self) -> tuple[str, ...]:
        """End every mount, each to be mounted again by the next daemon; return once they are gone.

        Returns what stays staged, a line each, also when it is called again. Cancelled, they go on to end.
        """
        self._ending = True
        self._ended |= self._mounts.keys()
        async with trio.open_nursery() as nursery:
            for mount in self.all():
                nursery.start_soon(self.end, mount)
        return tuple(line for id, line in self._staged.items() if id in self._ended)

    def attached(self, id: str, pid: int) -> MountRecord:
        """A child said that it serves mount ``id``. Raises `UsageError` when nobody wants that any more."""
        mount = self.get(id)
        mount.said += 1
        if mount.stop.is_set():
            raise UsageError(f"{mount.record.mountpoint}: is not to be mounted any more")
        mount.pid = pid
        return mount.record

    def is_ready(self, id: str, *, writable: bool) -> None:
        """A child said that the folder of mount ``id`` answers."""
        mount = self.get(id)
        mount.said += 1
        mount.writable = writable
        mount.state = MountState.READY
        mount.failure = None
        mount.tried.set()

    def lives(self, id: str, committing: CommitProgress | None) -> None:
        """A child said that it is alive; with ``committing`` its folder is away, and it commits."""
        mount = self.get(id)
        mount.said += 1
        mount.committing = committing
        if committing is not None:
            mount.state = MountState.COMMITTING

    def ends(self, id: str, failure: Described | None, *, unmounted: bool, staged: str | None) -> None:
        """A child said that it is about to end: of ``failure``, because its folder was unmounted, or told by a signal.

        In the last case it is started again, unless all of the machine is going down, and us with it.
        """
        mount = self.get(id)
        mount.said += 1
        mount.has_said_its_end = True
        mount.staged = staged
        mount.ended_by_user = unmounted
        if failure is not None:
            mount.failure = exception_of(failure)

    async def _watch(self, mount: Mount) -> None:
        """Keep one mount's process running until the mount is not wanted any more."""
        pause = _FIRST_RETRY_SECONDS
        try:
            while not mount.stop.is_set():
                mount.begins()
                try:
                    await self._run_child(mount)
                except OSError as error:  # no memory, no descriptors, no disk: for this mount, not for the daemon
                    mount.failure = error
                mount.ended_by_user |= self._places.unmounted_note(mount.record.id).exists()
                if mount.ended_by_user or mount.stop.is_set():
                    break
                if mount.state is MountState.READY:
                    pause = _FIRST_RETRY_SECONDS
                mount.state = MountState.FAILED
                mount.failure = mount.failure or DaemonError(f"its process died; see {self._places.log}")
                mount.tried.set()
                _log.warning("mount %s ended: %s; mounting it again", mount.record.mountpoint, mount.failure)
                with trio.move_on_after(pause):
                    await mount.stop.wait()
                pause = min(pause * 2, _LAST_RETRY_SECONDS)
            await self._note_staged(mount)
        finally:
            mount.state = MountState.GONE
            self._mounts.pop(mount.record.id, None)
            if not self._ending:
                self._forget(mount.record.id)
            mount.tried.set()
            mount.gone.set()

    async def _run_child(self, mount: Mount) -> None:
        """Adopt the process that serves ``mount``, or start one; return once it has ended."""
        lock = LockFile(self._places.mount_lock(mount.record.id))
        if lock.try_take():
            lock.release()
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", MOUNT_MODULE, str(self._places.store), mount.record.id],
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=environment(),
                start_new_session=True,
            )
            mount.pid = process.pid
            mount.failure = None
            try:
                await process.wait()
            finally:
                mount.pid = None
        else:
            mount.pid = lock.holder()
            _log.info("mount %s lives on in process %s", mount.record.mountpoint, mount.pid)
            if mount.pid is not None:
                await wait_process(mount.pid)
            mount.pid = None

    async def end(self, mount: Mount) -> None:
        """Have the child unmount and commit, and return once it is gone; kill it when it says nothing any more.

        Cancelled, the child goes on with that.
        """
        mount.stop.set()
        self._signal(mount, signal.SIGTERM)
        if await self._unless_silent(mount, mount.gone):
            return
        _log.error(
            "mount %s has said nothing for %g s; killing process %s", mount.record.mountpoint, SILENT_SECONDS, mount.pid
        )
        self._signal(mount, signal.SIGKILL)
        try:
            with trio.move_on_after(UNMOUNT_SECONDS):  # in a thread: the path may lead through what does not answer
                await trio.to_thread.run_sync(mounting.unmount_lazily, mount.record.mountpoint, abandon_on_cancel=True)
        except (MountFailed, OSError) as error:
            _log.error("%s", error)
        with trio.move_on_after(UNMOUNT_SECONDS):
            await mount.gone.wait()

    def _refuse_staged(self, id: str) -> None:
        if id in self._staged:
            raise StillStaged(self._staged[id])

    async def _unless_silent(self, mount: Mount, event: trio.Event) -> bool:
        """Return True once ``event`` is set, False when the child has said nothing for `SILENT_SECONDS`."""
        said = -1
        while mount.said != said:
            said = mount.said
            with trio.move_on_after(SILENT_SECONDS):
                await event.wait()
                return True
        return False

    async def _note_staged(self, mount: Mount) -> None:
        """Take note of what is told of a mount that is gone, of which something stays staged."""
        if mount.staged is None and not await trio.to_thread.run_sync(self._has_staged, mount):
            return
        if mount.staged is not None:
            reason = mount.staged
        elif mount.failure is not None:
            reason = str(mount.failure)
        elif mount.has_said_its_end:
            return
        else:
            reason = "its process ended before it was done"
        told = (
            f"{mount.record.mountpoint}: what was written is not all in drive {mount.record.key[:8]} yet: {reason}; it "
            "is kept in the store, and is committed once the drive is mounted again"
        )
        self._staged[mount.record.id] = told
        _log.error("%s", told)

    def _has_staged(self, mount: Mount) -> bool:
        """Tell whether something is staged for the drive of ``mount``, and no other mount is at it."""
        if mount.record.options.read_only or mount.record.version is not None or mount.writable is False:
            return False
        if not self._places.has_staged(mount.key):
            return False
        # looked at and not taken, which could be just when its process wants it
        holder = LockFile(self._places.staging(mount.key) / "lock").holding_process()
        return holder in (None, mount.pid)

    def _signal(self, mount: Mount, number: signal.Signals) -> None:
        if mount.pid is not None:
            try:
                os.kill(mount.pid, number)
            except ProcessLookupError:
                return
