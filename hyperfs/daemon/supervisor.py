"""The mounts of a store: one child process each, started, watched, started again, ended.

The rule: at any time at most one process serves a mount, the one that holds its lock. A new daemon finds the children
of the one before it alive, adopts them, and starts a child only where the lock is free.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from hyperfs.daemon.answers import MountTold
from hyperfs.daemon.failures import Described, exception_of
from hyperfs.daemon.locks import LockFile
from hyperfs.daemon.places import Places
from hyperfs.daemon.process import environment, wait_process
from hyperfs.daemon.state import MountRecord
from hyperfs.errors import DaemonError, UsageError

_log = logging.getLogger(__name__)

END_SECONDS: Final = 10.0
"""How long a child may take to unmount before it is killed."""
_FIRST_RETRY_SECONDS: Final = 0.2
_LAST_RETRY_SECONDS: Final = 30.0


class MountState(Enum):
    """Where a mount stands."""

    STARTING = "starting"
    READY = "mounted"
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
    tried: trio.Event = field(default_factory=trio.Event)
    """Set once the folder answered, or the first try ended."""
    stop: trio.Event = field(default_factory=trio.Event)
    gone: trio.Event = field(default_factory=trio.Event)
    ended_by_user: bool = False

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
        )


class Supervisor:
    """Owns the mounts. ``forget`` is called with the id of one that is gone for good, before anybody is told."""

    def __init__(self, places: Places, nursery: trio.Nursery, forget: Callable[[str], None]) -> None:
        self._places = places
        self._nursery = nursery
        self._forget = forget
        self._mounts: dict[str, Mount] = {}
        self._ending = False

    def all(self) -> list[Mount]:
        """Return every mount."""
        return list(self._mounts.values())

    def get(self, id: str) -> Mount:
        """Return mount ``id``. Raises `UsageError` when there is none."""
        mount = self._mounts.get(id)
        if mount is None:
            raise UsageError(f"there is no mount {id}")
        return mount

    def add(self, record: MountRecord) -> Mount:
        """Begin to mount what ``record`` says; see `Mount.tried`. Raises `UsageError` when its mount point is taken."""
        if self._ending:
            raise DaemonError("the daemon is about to end")
        if record.id in self._mounts:
            raise UsageError(f"{record.mountpoint}: {self._mounts[record.id].record.label} is mounted there already")
        mount = Mount(record)
        self._mounts[record.id] = mount
        self._nursery.start_soon(self._watch, mount)
        return mount

    async def remove(self, id: str) -> None:
        """End mount ``id`` and return once it is gone. Raises `UsageError` when there is none."""
        await self.end(self.get(id))

    async def end_all(self) -> None:
        """End every mount, each to be mounted again by the next daemon; return once they are gone."""
        self._ending = True
        async with trio.open_nursery() as nursery:
            for mount in self.all():
                nursery.start_soon(self.end, mount)

    def attached(self, id: str, pid: int) -> MountRecord:
        """A child said that it serves mount ``id``. Raises `UsageError` when nobody wants that any more."""
        mount = self.get(id)
        if mount.stop.is_set():
            raise UsageError(f"{mount.record.mountpoint}: is not to be mounted any more")
        mount.pid = pid
        return mount.record

    def is_ready(self, id: str, *, writable: bool) -> None:
        """A child said that the folder of mount ``id`` answers."""
        mount = self.get(id)
        mount.writable = writable
        mount.state = MountState.READY
        mount.failure = None
        mount.tried.set()

    def ends(self, id: str, failure: Described | None, *, unmounted: bool) -> None:
        """A child said that it is about to end: of ``failure``, because its folder was unmounted, or told by a signal.

        In the last case it is started again, unless all of the machine is going down, and us with it.
        """
        mount = self.get(id)
        mount.ended_by_user = unmounted
        if failure is not None:
            mount.failure = exception_of(failure)

    async def _watch(self, mount: Mount) -> None:
        """Keep one mount's process running until the mount is not wanted any more."""
        pause = _FIRST_RETRY_SECONDS
        try:
            while not mount.stop.is_set():
                try:
                    await self._run_child(mount)
                except OSError as error:  # no memory, no descriptors, no disk: for this mount, not for the daemon
                    mount.failure = error
                if mount.ended_by_user or mount.stop.is_set():
                    break
                if mount.state is MountState.READY:
                    pause = _FIRST_RETRY_SECONDS
                mount.state = MountState.FAILED
                mount.failure = mount.failure or DaemonError("its process died; see the daemon's log")
                mount.tried.set()
                _log.warning("mount %s ended: %s; mounting it again", mount.record.mountpoint, mount.failure)
                with trio.move_on_after(pause):
                    await mount.stop.wait()
                pause = min(pause * 2, _LAST_RETRY_SECONDS)
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
        mount.state = MountState.STARTING
        if lock.try_take():
            lock.release()
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "hyperfs.daemon.mount_child", str(self._places.store), mount.record.id],
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
        """Ask the child to unmount and wait until it has; kill it when it takes too long."""
        mount.stop.set()
        self._signal(mount, signal.SIGTERM)
        with trio.move_on_after(END_SECONDS):
            await mount.gone.wait()
            return
        _log.error("mount %s does not end; killing process %s", mount.record.mountpoint, mount.pid)
        self._signal(mount, signal.SIGKILL)
        await trio.run_process(
            ["fusermount3", "-u", "-z", "-q", "--", mount.record.mountpoint], check=False, stdin=subprocess.DEVNULL
        )
        with trio.move_on_after(END_SECONDS):
            await mount.gone.wait()

    def _signal(self, mount: Mount, number: signal.Signals) -> None:
        if mount.pid is not None:
            try:
                os.kill(mount.pid, number)
            except ProcessLookupError:
                return
