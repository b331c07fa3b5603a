"""``python -m hyperfs.daemon.mount_child STORE ID``: the process of one mount.

The rule: it holds the mount's lock for as long as it lives, reads the store's files itself, and outlives the daemon: it
goes on with what is here, waits for the next daemon, and ends only when its folder is unmounted, when it is told to
(SIGTERM), or when a daemon does not know the mount any more.
"""

import logging
import os
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.daemon.answers import CommitProgress, MountWanted
from hyperfs.daemon.client import DaemonClient, Start, connect
from hyperfs.daemon.failures import describe
from hyperfs.daemon.inner_drives import keep_open, rest_unseen
from hyperfs.daemon.locks import LockFile
from hyperfs.daemon.log_file import follow_log
from hyperfs.daemon.places import places_of, refuse_overlap
from hyperfs.daemon.requests import AttachMount, Link, MountEnds, MountLinked, MountLives, MountReady
from hyperfs.drive.drive import Drive
from hyperfs.drive.nursery import open_work
from hyperfs.drive.stat import MountTarget
from hyperfs.errors import DaemonError, HyperfsError, MountFailed, PathError, UsageError, short
from hyperfs.garbage import collect_all_when_idle
from hyperfs.log_rate import log_to_stderr
from hyperfs.mount import NODE_CACHE_BYTES
from hyperfs.trie import NodeCache

if TYPE_CHECKING:
    from hyperfs.daemon.inner_writing import DrivesWritten
    from hyperfs.mount.session import Ended

_log = logging.getLogger(__name__)

ALIVE_SECONDS: Final = 1.0
"""How often the daemon is told that a mount still begins, or commits at its end."""
QUIET_SECONDS: Final = 10.0
"""How often in between: also while the kernel is slow to take the folder away it must know that we live."""
LAST_WORD_SECONDS: Final = 10.0
"""How long the daemon may take to hear how a mount ended."""


def main(arguments: list[str]) -> int:
    """Serve the mount until it ends; return the exit status."""
    store, id = arguments
    log_to_stderr(logging.INFO, f"%(asctime)s %(levelname)s mount {id[:4]} %(name)s: %(message)s")
    with LockFile(places_of(store).mount_lock(id)) as lock:
        if not lock.try_take():
            _log.error("another process serves this mount already: %s", lock.holder())
            return 1
        try:
            return trio.run(partial(_run, store, id))
        except (HyperfsError, OSError) as error:
            _log.error("%s", error)
            return 1


async def _run(store: str, id: str) -> int:
    child = _Child(id)
    async with connect(store, start=Start.NEVER, reconnect=True, restored=child.greet) as client:
        wanted = await child.attach(client)
        failure: Exception | None = None
        ended: Ended | None = None
        async with open_work() as nursery:
            nursery.start_soon(child.say_alive, client)
            nursery.start_soon(partial(follow_log, client.places.log, keeps_short=False))
            try:
                ended = await child.serve(client, wanted)
            except (HyperfsError, OSError) as error:
                _log.error("%s: %s", wanted.mountpoint, error)
                failure = error
            nursery.cancel_scope.cancel()
        unmounted = ended is not None and ended.by_user
        staged = None if ended is None or ended.staged is None else str(ended.staged)
        told = False
        if client.connected:
            with trio.move_on_after(LAST_WORD_SECONDS):
                told = await child.say_end(client, failure, unmounted=unmounted, staged=staged)
        if unmounted and not told:
            client.places.unmounted_note(id).touch(mode=0o600)
        return 0 if failure is None and staged is None else 1


@dataclass(frozen=True, slots=True)
class _Committing:
    """What there was to commit when the folder was taken away."""

    appended_before: int
    total_bytes: int


class _Child:
    """What this process has to say to a daemon: the first one, and each that follows it."""

    def __init__(self, id: str) -> None:
        self._id = id
        self._ready = False
        self._writable = False
        self._written: DrivesWritten | None = None
        self._committing: _Committing | None = None
        self._news = trio.Event()

    async def attach(self, client: DaemonClient) -> MountWanted:
        """Say that we serve this mount and return what it is to be."""
        return await client.request(AttachMount(self._id, os.getpid()))

    async def greet(self, client: DaemonClient) -> None:
        """Take up with a new daemon; unmount when it does not know us."""
        try:
            await self.attach(client)
            if self._ready:
                await client.request(MountReady(self._id, writable=self._writable))
        except UsageError as error:
            _log.info("%s; unmounting", error)
            os.kill(os.getpid(), signal.SIGTERM)

    async def serve(self, client: DaemonClient, wanted: MountWanted) -> "Ended":
        """Mount, and return once it is unmounted and what was written is committed, or stays staged."""
        from hyperfs.daemon.inner_writing import DrivesWritten
        from hyperfs.mount.session import Served, run_mount  # the only place where libfuse is loaded

        mountpoint = Path(wanted.mountpoint)
        real = await trio.to_thread.run_sync(mountpoint.resolve)
        if real != mountpoint:
            raise MountFailed(
                f"{mountpoint}: a part of this path has become a link, to {real}; `hyperfs umount` it and mount again"
            )
        refuse_overlap(mountpoint, client.places.store)
        nodes = NodeCache(NODE_CACHE_BYTES)
        drive = await Drive.open(client, wanted.key, version=wanted.version, cache=nodes)
        await drive.content()  # now, while there is a daemon to ask: without one, only what is open can be read
        chosen = wanted.options
        writing = None
        if drive.writable and not chosen.read_only:
            self._writable = True
            self._written = DrivesWritten(client, chosen.flush_seconds)
            try:
                writing = await self._written.open(drive.key)
            except PathError as error:
                raise UsageError(
                    f"{mountpoint}: drive {short(drive.key)} is mounted to be written to already, by process "
                    f"{LockFile(client.places.staging(drive.key) / 'lock').holder()}; --read-only mounts it here "
                    "beside that"
                ) from error
        refuse_link = client.linked
        async with open_work() as nursery:

            async def say_ready() -> None:
                try:
                    await client.request(MountReady(self._id, writable=self._writable))
                except (DaemonError, UsageError) as error:
                    _log.info("%s", error)

            async def link(served: Served, asked: Link) -> None:
                try:
                    target = None if asked.target is None else MountTarget(asked.target, asked.version)
                    version, failure = await served.link(asked.key, asked.path, target), None
                except (HyperfsError, OSError) as error:
                    version, failure = None, describe(error)
                try:
                    await client.request(MountLinked(asked.question, version, failure))
                except (DaemonError, UsageError) as error:
                    _log.info("%s", error)

            def ready(served: Served) -> None:
                self._ready = True
                client.uses = served.blocks_in_use
                client.linked = lambda asked: nursery.start_soon(link, served, asked)
                nursery.start_soon(say_ready)
                nursery.start_soon(rest_unseen, client, drive, served.knows, served.cores)

            nursery.start_soon(keep_open, client, drive)
            nursery.start_soon(collect_all_when_idle)
            ended = await run_mount(
                drive, mountpoint, chosen, writing=writing, on_ready=ready, on_unmounted=self._unmounted
            )
            client.linked = refuse_link
            nursery.cancel_scope.cancel()
        return ended

    def _unmounted(self, uncommitted_bytes: int) -> None:
        """The folder is away, and so many bytes are still to be committed."""
        appended_bytes = 0 if self._written is None else self._written.appended_bytes
        self._committing = _Committing(appended_bytes, uncommitted_bytes)
        self._news.set()

    async def say_alive(self, client: DaemonClient) -> None:
        """Tell the daemon now and then that we live, more often while we begin, and while we commit at the end."""
        while True:
            try:
                await client.request(MountLives(self._id, self._progress()))
            except (DaemonError, UsageError) as error:
                _log.debug("%s", error)
            with trio.move_on_after(QUIET_SECONDS if self._ready and self._committing is None else ALIVE_SECONDS):
                await self._news.wait()
            self._news = trio.Event()

    def _progress(self) -> CommitProgress | None:
        if self._committing is None or self._written is None:
            return None
        total = self._committing.total_bytes
        return CommitProgress(min(total, self._written.appended_bytes - self._committing.appended_before), total)

    async def say_end(
        self, client: DaemonClient, failure: Exception | None, *, unmounted: bool, staged: str | None
    ) -> bool:
        """Say why we end; tell whether a daemon heard it."""
        told = None if failure is None else describe(failure)
        try:
            await client.request(MountEnds(self._id, told, unmounted=unmounted, staged=staged))
        except (DaemonError, UsageError) as error:
            _log.debug("%s", error)
            return False
        return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
