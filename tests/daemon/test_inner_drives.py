"""Drives mounted in a mounted one, of which the kernel knows something, or nothing any more."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from hyperfs.daemon import inner_drives
from hyperfs.daemon.client import DaemonClient
from hyperfs.daemon.committer import DaemonCommitter
from hyperfs.daemon.inner_drives import rest_unseen_now
from hyperfs.daemon.places import Places
from hyperfs.drive.drive import Drive
from hyperfs.drive.writer import DriveWriter
from hyperfs.errors import DaemonError

from ..support.stores import PATIENCE_SECONDS, client_of, daemon_and_client, places, written_drive

__all__ = ["places"]


@dataclass(frozen=True, slots=True)
class Mounted:
    """A drive as its mount's ``client`` has it, and those mounted at ``in0`` to ``in2``, which ``author`` writes."""

    author: DaemonClient
    client: DaemonClient
    drive: Drive
    inner: list[Drive]

    async def rest(self, *seen: str) -> None:
        """Have rest what can, where the kernel knows of what is mounted at ``seen`` alone."""
        await rest_unseen_now(self.client, self.drive, lambda path: path in seen)

    async def write(self, drive: Drive, path: str) -> None:
        """Put a file into one of the drives."""
        writer = DriveWriter(drive, DaemonCommitter(self.author, drive.key))
        await writer.put_file(path, b"new")

    def keys(self, *drives: Drive) -> set[bytes]:
        """Return the keys of the cores of ``drives``."""
        return {key for drive in drives for key in (drive.key, drive.volume.content_key)}


@pytest.fixture(autouse=True)
def _unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_drives, "MAX_UNSEEN", 0)


@asynccontextmanager
async def mounted(places: Places) -> AsyncIterator[Mounted]:
    async with daemon_and_client(places) as (_, author), client_of(places) as client:
        outer = await written_drive(author, {"f": b"outer"})
        inner = [await written_drive(author, {"f": b"inner %d" % number}) for number in range(3)]
        writer = DriveWriter(outer, DaemonCommitter(author, outer.key))
        async with writer.batch() as batch:
            for number, drive in enumerate(inner):
                await batch.mount(f"in{number}", drive.key)
        drive = await Drive.open(client, outer.key)
        await drive.content()
        yield Mounted(author, client, drive, inner)


async def content(drive: Drive, path: str) -> bytes:
    snapshot = drive.snapshot()
    return await snapshot.read(await snapshot.stat(path), 0, 100)


async def until(drive: Drive, condition: Callable[[], bool]) -> None:
    """Return once ``condition`` holds at one of the versions that are heard of."""
    with trio.fail_after(PATIENCE_SECONDS):
        async with aclosing(drive.watch()) as versions:
            async for _ in versions:
                if condition():
                    return


async def test_what_the_kernel_has_forgotten_rests_and_is_read_on(places: Places) -> None:
    async with mounted(places) as mount:
        snapshot = mount.drive.snapshot()
        files = [await snapshot.open(await snapshot.stat(f"in{number}/f")) for number in range(3)]
        await mount.rest("in1")
        assert set(mount.client.awake) == mount.keys(mount.drive, mount.inner[1])
        assert set(mount.client.resting) == mount.keys(mount.inner[0], mount.inner[2])
        assert [await file.read(0, 100) for file in files] == [b"inner 0", b"inner 1", b"inner 2"]
        assert await content(mount.drive, "in2/f") == b"inner 2"


async def test_what_rests_is_not_heard_of_until_the_kernel_knows_it_again(places: Places) -> None:
    async with mounted(places) as mount:
        for number in range(3):
            await mount.drive.snapshot().stat(f"in{number}/f")
        await mount.rest("in1")
        for drive in mount.inner[:2]:
            await mount.write(drive, "new")
        lengths = {volume.key: volume.metadata for volume in mount.drive.volume.pool}
        first, second = (lengths[drive.key] for drive in mount.inner[:2])
        await until(mount.drive, lambda: second.length == mount.inner[1].version)
        assert first.length < mount.inner[0].version
        await mount.rest("in0", "in1")
        assert first.length == mount.inner[0].version
        assert await content(mount.drive, "in0/new") == b"new"
        assert mount.client.resting == [mount.inner[2].key]


async def test_what_is_only_listed_is_not_opened_for_that(places: Places) -> None:
    async with mounted(places) as mount:
        await mount.rest("in0", "in1", "in2")
        assert set(mount.client.awake) == mount.keys(mount.drive)


async def test_some_of_what_nobody_sees_stays_awake(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_drives, "MAX_UNSEEN", 2)
    async with mounted(places) as mount:
        for number in range(3):
            await content(mount.drive, f"in{number}/f")
        await mount.rest()
        assert set(mount.client.awake) == mount.keys(mount.drive, mount.inner[2])


async def test_what_rests_is_read_without_a_daemon(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    async with mounted(places) as mount:
        await content(mount.drive, "in0/f")
        await mount.rest()

        async def refuse(call: object) -> None:
            raise DaemonError("the daemon is gone")

        monkeypatch.setattr(mount.client, "request", refuse)
        assert await content(mount.drive, "in0/f") == b"inner 0"
