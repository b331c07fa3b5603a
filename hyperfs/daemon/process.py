"""Finding a store's daemon, and starting it when there is none.

The rule: the look and the start happen under one lock, so that of many commands that come at once one starts the
daemon and all reach it; and a daemon that could not start says why, in the words of the error it died of.
"""

import errno
import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

import hyperfs
from hyperfs import __version__
from hyperfs.daemon.codec import from_plain, to_plain
from hyperfs.daemon.connection import HELLO_SECONDS, Connection
from hyperfs.daemon.failures import Described, exception_of
from hyperfs.daemon.log_file import open_log, put_aside_if_long
from hyperfs.daemon.network_settings import OFFLINE, NetworkSettings
from hyperfs.daemon.places import Places, mount_id_at, socket_address
from hyperfs.daemon.wire import PROTOCOL
from hyperfs.errors import DaemonError, OtherVersion
from hyperfs.storage.disk import replace_file

START_SECONDS: Final = 60.0
"""How long a daemon may take to open its store (after a crash it has something to repair)."""

IDLE_SECONDS: Final = 10.0
"""A daemon that a command started ends when it has had nothing to do for this long, unless it is told another."""

_NO_ROOM_SECONDS: Final = 0.05
"""How often a command tries again that the daemon has no room for among those it has not come to yet."""

MOUNT_MODULE: Final = "hyperfs.daemon.mount_child"
"""What the process of a mount runs, with the store and the mount's id for arguments."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a running daemon wrote about itself."""

    pid: int
    socket: str
    version: str
    ending: bool


def read_announcement(places: Places) -> Announcement | None:
    """Return what the daemon of this store last wrote about itself; it may be dead meanwhile. None: nothing.

    Raises OSError when the disk does not say: then a daemon may well run.
    """
    try:
        fields = json.loads(places.announcement.read_text(encoding="utf-8"))
        return Announcement(int(fields["pid"]), str(fields["socket"]), str(fields["hyperfs"]), bool(fields["ending"]))
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError, KeyError, TypeError):
        return None


def write_announcement(places: Places, announcement: Announcement) -> None:
    """Replace what stands there about the daemon."""
    fields = {
        "pid": announcement.pid,
        "socket": announcement.socket,
        "hyperfs": announcement.version,
        "ending": announcement.ending,
    }
    replace_file(places.announcement, (json.dumps(fields) + "\n").encode())


async def connect_running(places: Places, *, answer_seconds: float = HELLO_SECONDS) -> Connection | None:
    """Return a greeted connection to the daemon that runs, or None when none does.

    Raises:
        DaemonError: one runs but is not ours, does not answer, or is of another version.
    """
    announcement = read_announcement(places)
    if announcement is None:
        return None
    try:
        with trio.fail_after(answer_seconds):
            stream = await _reach(announcement.socket)
    except trio.TooSlowError:
        raise DaemonError(
            f"so many commands wait for the daemon of {places.store} (process {announcement.pid}) that it could not be "
            f"asked in {answer_seconds:g} s; try again later, or end it with `kill {announcement.pid}`"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return None
        raise DaemonError(
            f"the daemon's control socket {announcement.socket} cannot be reached ({error}); end the daemon, process "
            f"{announcement.pid}, and try again"
        ) from error
    connection = Connection(stream, takes_descriptors=True)
    try:
        connection.check_user()
        hello = await connection.greet(within_seconds=answer_seconds)
    except DaemonError as error:
        connection.close()
        ended = read_announcement(places)
        if ended is None or ended.ending or not is_alive(announcement.pid):
            return None
        raise DaemonError(
            f"the daemon of {places.store} (process {announcement.pid}) does not answer ({error}); "
            f"end it with `kill {announcement.pid}` and try again"
        ) from error
    except BaseException:  # a cancelled command leaves no socket open
        connection.close()
        raise
    if hello.protocol != PROTOCOL:
        connection.close()
        raise OtherVersion(
            f"the daemon of {places.store} (process {hello.pid}) is hyperfs {hello.version}, and this is hyperfs "
            f"{__version__}: they do not understand each other; `hyperfs stop` ends it, and the next command "
            "starts one of this version"
        )
    return connection


async def _reach(path: str) -> trio.socket.SocketType:
    """Return a socket that is connected to the one at ``path``; waits while too many others wait there to be accepted.

    Cancelled, it leaves none open. Raises OSError.
    """
    while True:
        stream = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        try:
            with socket_address(path) as address:
                await stream.connect(address)
            stream.getpeername()
            return stream
        except BaseException as error:
            stream.close()
            # A unix socket is not queued where there is no room, which trio takes for a connection under way.
            if not isinstance(error, OSError) or error.errno != errno.ENOTCONN:
                raise
        await trio.sleep(_NO_ROOM_SECONDS)


async def connect_or_start(
    places: Places,
    *,
    answer_seconds: float = HELLO_SECONDS,
    network: NetworkSettings = OFFLINE,
    idle_seconds: float | None = None,
) -> Connection:
    """Return a greeted connection to the store's daemon, which is started when none runs.

    ``network`` and ``idle_seconds`` are what it is started with.

    Cancelled, one that was being started goes on, and ends by itself when nobody wants it.

    Raises:
        DaemonError: it does not answer, or did not start.
        HyperfsError: what kept it from starting, e.g. `StoreLocked`, `DamagedStore`.
        OSError: likewise, e.g. a full disk.
    """
    connection = await connect_running(places, answer_seconds=answer_seconds)
    if connection is not None:
        return connection
    async with none_starts(places):
        with trio.move_on_after(START_SECONDS):
            while True:
                connection = await connect_running(places, answer_seconds=answer_seconds)
                if connection is not None:
                    return connection
                await _until_ended(places)
                await _start(places, network, idle_seconds)
        raise DaemonError(f"no daemon of {places.store} could be reached in {START_SECONDS:g} s; see {places.log}")


@asynccontextmanager
async def none_starts(places: Places) -> AsyncIterator[None]:
    """Have commands that want to start a daemon wait until the block ends. Raises `DaemonError`."""
    lock = await _start_lock(places)
    try:
        yield
    finally:
        os.close(lock)


def environment() -> dict[str, str]:
    """Return the environment for a process of ours, in which it finds this very package wherever it is started."""
    paths = [str(Path(hyperfs.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def is_alive(pid: int) -> bool:
    """Tell whether process ``pid`` exists and has not ended; one that nobody has waited for yet has."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not select.select([descriptor], [], [], 0)[0]
    finally:
        os.close(descriptor)


def store_of_mount(mountpoint: str) -> Path | None:
    """Return the store of the mount that a living process serves at ``mountpoint``; None when that cannot be seen.

    The process says it: its command line names the store. ``mountpoint`` is absolute and without links.
    """
    id = mount_id_at(mountpoint)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[1:3] != [b"-m", MOUNT_MODULE.encode()] or words[4:5] != [id.encode()]:
                continue
            if os.readlink(process / "ns/mnt") == os.readlink("/proc/self/ns/mnt"):  # a container has its own folders
                return Path(os.fsdecode(words[3]))
        except OSError:
            continue  # it has ended, or is none of ours to look at
    return None


async def wait_process(pid: int) -> None:
    """Return once process ``pid`` has ended (at once when there is none)."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        trio.lowlevel.notify_closing(descriptor)
        os.close(descriptor)


async def _start_lock(places: Places) -> int:
    descriptor = os.open(places.start_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with trio.fail_after(START_SECONDS):
            await trio.to_thread.run_sync(fcntl.flock, descriptor, fcntl.LOCK_EX, abandon_on_cancel=True)
    except trio.TooSlowError:
        os.close(descriptor)
        raise DaemonError(
            f"another command has been starting the daemon of {places.store} for too long; see {places.log}"
        ) from None
    except BaseException:  # nor does a cancelled command keep it
        os.close(descriptor)
        raise
    return descriptor


async def _until_ended(places: Places) -> None:
    """Wait for a daemon that is about to end and still has the store."""
    announcement = read_announcement(places)
    if announcement is not None and announcement.ending:
        await wait_process(announcement.pid)


async def _start(places: Places, network: NetworkSettings, idle_seconds: float | None) -> None:
    """Start a daemon, detached from this terminal and session, and return once it answers."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    command = [sys.executable, "-m", "hyperfs.daemon", str(places.store), "--detach"]
    command += [
        "--ready-fd",
        str(writing),
        "--idle-seconds",
        str(IDLE_SECONDS if idle_seconds is None else idle_seconds),
    ]
    command += ["--network", json.dumps(to_plain(network))]
    put_aside_if_long(places.log)
    try:
        with open(open_log(places.log), "ab") as log:  # noqa: ASYNC230  a local file
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                pass_fds=[writing],
            )
    except BaseException:  # a pipe is open only while somebody has both ends
        os.close(reading)
        raise
    finally:
        os.close(writing)
    word = b""
    async with trio.lowlevel.FdStream(reading) as stream:
        while not word.endswith(b"\n"):
            data = await stream.receive_some()
            if not data:
                break
            word += data
    with trio.CancelScope(shield=True):
        status = await process.wait()
    if not word.endswith(b"\n"):
        raise DaemonError(f"the daemon of {places.store} ended while starting (status {status}); see {places.log}")
    failure = json.loads(word)
    if failure is not None:
        raise exception_of(from_plain(Described, failure))
