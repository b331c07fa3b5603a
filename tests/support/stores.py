"""A daemon in the test's own process, and clients of it, over the real control socket."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from hyperfs.daemon.client import DaemonClient, Start, connect
from hyperfs.daemon.committer import DaemonCommitter
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.places import Places, places_of
from hyperfs.daemon.server import open_daemon
from hyperfs.drive.drive import Drive
from hyperfs.drive.writer import DriveWriter

PATIENCE_SECONDS = 60.0
"""A limit for what has to happen, which is there only to end what hangs."""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A new store, with a runtime directory of its own."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return places_of(tmp_path / "store")


@asynccontextmanager
async def daemon_and_client(
    places: Places, *, timeout_seconds: float | None = None, peers: Sequence[str] = ()
) -> AsyncIterator[tuple[Daemon, DaemonClient]]:
    """Run a daemon here, with one client."""
    async with open_daemon(places) as daemon, client_of(places, timeout_seconds=timeout_seconds, peers=peers) as client:
        yield daemon, client


@asynccontextmanager
async def client_of(
    places: Places, *, reconnect: bool = False, timeout_seconds: float | None = None, peers: Sequence[str] = ()
) -> AsyncIterator[DaemonClient]:
    """Connect to the daemon that runs."""
    async with connect(
        places.store, start=Start.NEVER, reconnect=reconnect, timeout_seconds=timeout_seconds, peers=peers
    ) as client:
        yield client


async def written_drive(client: DaemonClient, files: dict[str, bytes]) -> Drive:
    """Make a drive with ``files`` through ``client`` and return it as the client sees it."""
    drive = await Drive.open(client, await client.create_drive())
    writer = DriveWriter(drive, DaemonCommitter(client, drive.key))
    async with writer.batch() as batch:
        for path, content in files.items():
            await batch.put_file(path, content)
    return drive


async def eventually(condition: object, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once ``condition()`` is true; fail when it is not within ``seconds``."""
    assert callable(condition)
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  what is waited for is in no event's reach
            await trio.sleep(0.01)
