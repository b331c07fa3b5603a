"""Drives that are removed from a store: what goes, and what is refused."""

from pathlib import Path

import pytest

from hyperfs.daemon.client import DaemonClient
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.places import Places
from hyperfs.daemon.requests import ListDrives, NameDrive, RemoveDrive
from hyperfs.errors import NotWritable, UsageError

from ..support.stores import client_of, daemon_and_client, eventually, places, written_drive

__all__ = ["places"]


def files_below(path: Path) -> set[Path]:
    return {file for file in path.rglob("*") if file.is_file() and file.name not in ("reserve", "state.json")}


async def drive_that_nobody_uses(daemon: Daemon, places: Places) -> tuple[bytes, bytes]:
    """Make a drive of ours; return its key, and its content's."""
    async with client_of(places) as client:
        drive = await written_drive(client, {"a": b"hello"})
        key, content_key = drive.key, drive.volume.content_key
    await eventually(lambda: not daemon.registry.users_of(key) | daemon.registry.users_of(content_key))
    return key, content_key


async def keys_listed(client: DaemonClient) -> list[str]:
    return [drive.key for drive in await client.request(ListDrives())]


async def test_what_is_removed_leaves_nothing_behind(places: Places) -> None:
    async with daemon_and_client(places) as (daemon, client):
        before = files_below(places.store)
        key, _ = await drive_that_nobody_uses(daemon, places)
        await client.request(NameDrive(key, "photos"))
        await client.serve(key, listen=["127.0.0.1:0"], peers=())
        assert await client.request(RemoveDrive(key, True)) > 0
        assert await keys_listed(client) == []
        assert files_below(places.store) == before
        state = daemon.state.state
        assert (state.served, state.pinned, state.names, state.listen) == ((), (), {}, ())
        with pytest.raises(UsageError, match="nothing of drive"):
            await client.request(RemoveDrive(key, True))


async def test_ours_goes_only_when_it_is_said_twice(places: Places) -> None:
    async with daemon_and_client(places) as (daemon, client):
        key, _ = await drive_that_nobody_uses(daemon, places)
        with pytest.raises(NotWritable):
            await client.request(RemoveDrive(key, False))
        assert await keys_listed(client) == [key.hex()]


async def test_what_somebody_reads_stays(places: Places) -> None:
    async with daemon_and_client(places) as (daemon, client):
        key, content_key = await drive_that_nobody_uses(daemon, places)
        async with client_of(places) as other:
            await other.open_core(content_key)
            with pytest.raises(UsageError, match="in use"):
                await client.request(RemoveDrive(key, True))
        assert await keys_listed(client) == [key.hex()]


async def test_a_drive_that_only_has_a_name_loses_it(places: Places) -> None:
    async with daemon_and_client(places) as (daemon, client):
        await client.request(NameDrive(b"k" * 32, "photos"))
        assert await client.request(RemoveDrive(b"k" * 32, False)) == 0
        assert daemon.state.state.names == {}
