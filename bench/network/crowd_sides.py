"""What a crowd watches a film through: a web server, mounts of ours, or the reference's readers.

The rule: everybody has nothing of the film to begin with, and nothing is left afterwards.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.network import player
from bench.network.sides import Served, hyperfs_serves, make_drive, reference_serves
from bench.workspace import Failed, HyperfsStore, Workspace, their_process, write_large
from tests.support.namespaces import Host

_NAME = "film.bin"
_HTTP_PORT = 8080
_DHT_PORT = 49737
_AT_ONCE = 2
"""Daemons and mounts that are started at a time."""
_NGINX = """
daemon off; worker_processes 1; error_log {directory}/error.log; pid {directory}/pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  server {{ listen {address}:{port}; root {root}; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Film:
    """A film in a folder and in a drive. ``rate`` is in bytes a second."""

    folder: Path
    drive: Served
    rate: float
    seconds: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return (self.folder / _NAME).stat().st_size


Watch = Callable[[str, float], str]
"""Plays with the habits that the text says, within so many seconds; returns what the player prints."""


def _nothing() -> dict[str, float]:
    return {}


@dataclass(frozen=True, slots=True)
class Crowd:
    """How each viewer watches, and the MB of the largest process of each kind."""

    watches: Sequence[Watch]
    memory: Callable[[], dict[str, float]] = _nothing


def make_film(workspace: Workspace, rate: float, seconds: int) -> Film:
    """Make a film, and a drive of it."""
    folder = workspace.new_directory("film")
    folder.mkdir()
    write_large(folder / _NAME, int(rate * seconds))
    return Film(folder, make_drive(workspace, folder), rate, seconds)


def _played(host: Host, source: str, habits: str, limit_seconds: float) -> str:
    command = [*host.wrapper, sys.executable, "-I", player.__file__, source, habits]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=limit_seconds).stdout


# A web server -------------------------------------------------------------------------------------------------------


@contextmanager
def http(workspace: Workspace, film: Film, origin: Host, viewers: Sequence[Host], first: Host) -> Iterator[Crowd]:
    """Have everybody fetch the film from nginx."""
    if shutil.which("nginx") is None:
        raise Failed("nginx is not installed, which the web server of this bench is (Debian: nginx-light)")
    directory = workspace.new_directory("nginx")
    directory.mkdir()
    directory.parent.chmod(0o755)  # its worker is another user
    settings = directory / "nginx.conf"
    settings.write_text(
        _NGINX.format(directory=directory, address=origin.address, port=_HTTP_PORT, root=film.folder), encoding="utf-8"
    )
    with subprocess.Popen([*origin.wrapper, "nginx", "-c", settings], stderr=subprocess.DEVNULL) as server:
        try:
            url = f"http://{origin.address}:{_HTTP_PORT}/{_NAME}"
            _wait_answered(origin, url)
            yield Crowd([partial(_played, host, url) for host in viewers])
        finally:
            server.terminate()


def _wait_answered(host: Host, url: str) -> None:
    looks = "import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], method='HEAD'))"
    for _ in range(50):
        done = subprocess.run([*host.wrapper, sys.executable, "-c", looks, url], check=False, capture_output=True)
        if done.returncode == 0:
            return
    raise Failed(f"nginx does not answer at {url}: {done.stderr.decode()[-1000:]}")


# Mounts of ours -----------------------------------------------------------------------------------------------------


@contextmanager
def hyperfs(workspace: Workspace, film: Film, origin: Host, viewers: Sequence[Host], first: Host) -> Iterator[Crowd]:
    """Have everybody mount the drive, of whose peers they hear from a DHT that begins on ``first``."""
    with ExitStack() as stack:
        bootstrap = stack.enter_context(_dht_node(first))
        stack.enter_context(hyperfs_serves(workspace, film.drive, origin, bootstrap=bootstrap))
        stores = [
            HyperfsStore(workspace.new_directory("store"), wrapper=host.wrapper, bootstrap=bootstrap)
            for host in viewers
        ]
        mountpoints = [workspace.new_directory("mnt") for _ in viewers]
        stack.callback(_end, stores, mountpoints)

        def mount(store: HyperfsStore, mountpoint: Path) -> None:
            mountpoint.mkdir()
            store.command("mount", film.drive.key, str(mountpoint))

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(mount, stores, mountpoints))
        yield Crowd(
            [
                partial(_played, host, str(mountpoint / _NAME))
                for host, mountpoint in zip(viewers, mountpoints, strict=True)
            ],
            lambda: _largest([HyperfsStore(film.drive.store)], "origin") | _largest(stores, "viewer"),
        )


@contextmanager
def _dht_node(host: Host) -> Iterator[str]:
    command = [
        *host.wrapper,
        sys.executable,
        "-m",
        "hyperfs.cli.main",
        "dht",
        "--listen",
        f"{host.address}:{_DHT_PORT}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield f"{host.address}:{_DHT_PORT}"
        finally:
            process.kill()


def _end(stores: Sequence[HyperfsStore], mountpoints: Sequence[Path]) -> None:
    for store in stores:
        for number in store.processes():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(number, 9)
    for store, mountpoint in zip(stores, mountpoints, strict=True):
        subprocess.run(["umount", "--lazy", mountpoint], check=False, capture_output=True)
        with suppress(OSError):
            mountpoint.rmdir()
        shutil.rmtree(store.directory, ignore_errors=True)


def _largest(stores: Sequence[HyperfsStore], whose: str) -> dict[str, float]:
    """Return the MB of the largest daemon and mount of ``stores``, of those parts of memory that are its own."""
    found: dict[str, float] = {}
    for store in stores:
        for number in store.processes():
            with suppress(OSError):  # it has just ended
                command = Path(f"/proc/{number}/cmdline").read_text().replace("\0", " ")
                kind = f"{whose}'s {'mount' if 'mount_child' in command else 'daemon'}"
                rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
                size = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
                found[kind] = max(found.get(kind, 0.0), size * 1024 / 1e6)
    return found


# The reference ------------------------------------------------------------------------------------------------------


@contextmanager
def reference(workspace: Workspace, film: Film, origin: Host, viewers: Sequence[Host], first: Host) -> Iterator[Crowd]:
    """Have everybody read with the reference, each connected to the origin and to all who came before."""
    with ExitStack() as stack:
        port = stack.enter_context(reference_serves(workspace, film.drive, origin))
        peers = [{"host": origin.address, "port": port}]
        watches = []
        for host in viewers:
            directory = workspace.new_directory("their-store")
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            pipe = workspace.new_directory("pipe")
            os.mkfifo(pipe)
            told = stack.enter_context(
                their_process(
                    "watch",
                    wrapper=host.wrapper,
                    directory=str(directory),
                    key=film.drive.key,
                    name=_NAME,
                    pipe=str(pipe),
                    host=host.address,
                    peers=peers,
                )
            )
            peers.append({"host": host.address, "port": told["port"]})
            watches.append(partial(_played, host, str(pipe)))
        yield Crowd(watches)


Side = Callable[[Workspace, Film, Host, Sequence[Host], Host], AbstractContextManager[Crowd]]
SIDES: dict[str, Side] = {"http": http, "hyperfs": hyperfs, "reference": reference}
