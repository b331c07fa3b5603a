"""Both sides at both ends of the line: who serves a drive there, and who mounts it here.

The rule: a reader's store is empty, and nothing of a figure is left when it was taken.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.workspace import HyperfsStore, Workspace, their_process
from tests.support.namespaces import Host

_PORT = 4000


@dataclass(frozen=True, slots=True)
class Served:
    """A drive in a store that both sides can serve."""

    store: Path
    key: str


def make_drive(workspace: Workspace, source: Path) -> Served:
    """Bring the folder ``source`` into a new drive, and end the daemon that did it."""
    store = workspace.new_store()
    key = store.import_folder(source)
    store.stop()
    return Served(store.directory, key)


@contextmanager
def hyperfs_serves(workspace: Workspace, drive: Served, host: Host, *, bootstrap: str | None = None) -> Iterator[int]:
    """Serve a drive with hyperfs; give the port. ``bootstrap`` as for `HyperfsStore`."""
    store = HyperfsStore(drive.store, wrapper=host.wrapper, bootstrap=bootstrap)
    store.command("serve", drive.key, "--listen", f"{host.address}:{_PORT}")
    try:
        yield _PORT
    finally:
        store.command("unserve", drive.key)
        store.stop()


@contextmanager
def reference_serves(workspace: Workspace, drive: Served, host: Host) -> Iterator[int]:
    """Serve a copy of a drive with the reference; give the port."""
    directory = workspace.new_directory("their-store")
    shutil.copytree(drive.store, directory, ignore=shutil.ignore_patterns(".hyperfs"))
    try:
        with their_process(
            "serveDrive", wrapper=host.wrapper, directory=str(directory), key=drive.key, host=host.address
        ) as told:
            yield told["port"]
    finally:
        shutil.rmtree(directory)


@contextmanager
def hyperfs_mounts(workspace: Workspace, key: str, host: Host, peer: str) -> Iterator[Path]:
    """Mount a drive with hyperfs."""
    store = HyperfsStore(workspace.new_directory("store"), wrapper=host.wrapper)
    mountpoint = workspace.new_directory("mnt")
    mountpoint.mkdir()
    try:
        store.command("mount", key, str(mountpoint), "--peer", peer)
        yield mountpoint
    finally:
        for number in store.processes():
            with suppress(ProcessLookupError):  # what it mounted may take long to end, and nothing of it is kept
                os.kill(number, 9)
        _let_go(mountpoint)
        shutil.rmtree(store.directory, ignore_errors=True)


@contextmanager
def reference_mounts(workspace: Workspace, key: str, host: Host, peer: str) -> Iterator[Path]:
    """Mount a drive with the reference's own FUSE mount."""
    directory, mountpoint = workspace.new_directory("their-store"), workspace.new_directory("mnt")
    mountpoint.mkdir()
    address, _, port = peer.rpartition(":")
    try:
        with their_process(
            "mount",
            wrapper=host.wrapper,
            directory=str(directory),
            key=key,
            mountpoint=str(mountpoint),
            peer={"host": address, "port": int(port)},
        ):
            yield mountpoint
            _let_go(mountpoint)
    finally:
        _let_go(mountpoint)
        shutil.rmtree(directory, ignore_errors=True)


def _let_go(mountpoint: Path) -> None:
    subprocess.run(["umount", "--lazy", mountpoint], check=False, capture_output=True)
    with suppress(OSError):
        mountpoint.rmdir()


Serve = Callable[[Workspace, Served, Host], AbstractContextManager[int]]
Mount = Callable[[Workspace, str, Host, str], AbstractContextManager[Path]]
SERVERS: dict[str, Serve] = {"hyperfs": hyperfs_serves, "reference": reference_serves}
READERS: dict[str, Mount] = {"hyperfs": hyperfs_mounts, "reference": reference_mounts}


@dataclass(frozen=True, slots=True)
class LineFigures:
    """What iperf3 says of a line, over one fresh connection."""

    seconds: float
    megabits: float
    congestion_control: str
    send_buffer: int
    receive_buffer: int
    retransmits: int


def calibrate(near: Host, far: Host, size: int) -> LineFigures:
    """Return what it takes to bring ``size`` bytes from ``far`` to ``near``. Without iperf3, FileNotFoundError."""
    command = [*far.wrapper, "iperf3", "--server", "--one-off", "--bind", far.address, "--forceflush"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        while "listening" not in server.stdout.readline():
            pass
        done = subprocess.run(
            [*near.wrapper, "iperf3", "--client", far.address, "--bytes", str(size), "--reverse", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        server.stdout.read()
    told = json.loads(done.stdout)
    end = told["end"]
    return LineFigures(
        end["sum_received"]["seconds"],
        end["sum_received"]["bits_per_second"] / 1e6,
        end.get("sender_tcp_congestion", "unknown"),
        told["start"]["sndbuf_actual"],
        told["start"]["rcvbuf_actual"],
        end["sum_sent"].get("retransmits", 0),
    )
