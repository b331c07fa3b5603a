"""Peers that a drive was had from are dialled again when it is used again."""

from pathlib import Path

import pytest
import trio

from hyperfs.daemon.client import DaemonClient
from hyperfs.daemon.places import Places, places_of
from hyperfs.daemon.state import MAX_ACQUAINTANCES, State, with_acquaintance, without_drive
from hyperfs.drive.drive import Drive
from hyperfs.errors import BlockNotAvailable

from ..support.stores import PATIENCE_SECONDS, daemon_and_client, eventually, places, written_drive

__all__ = ["places"]

KEY = "ab" * 32


async def content_of(client: DaemonClient, theirs: Drive, path: str) -> bytes:
    with trio.fail_after(PATIENCE_SECONDS):
        core = await client.open_core(theirs.key)
        await core.update()
        await core.wait_longer(theirs.version - 1)  # peers tell of the newest once they have it on the disk
        snapshot = (await Drive.open(client, theirs.key)).snapshot()
        return await snapshot.read(await snapshot.stat(path), 0, 1)


async def have_from(places: Places, theirs: Drive, address: str) -> None:
    """Have some of a drive from a peer that is named, and end once it is written down."""
    async with daemon_and_client(places) as (daemon, client):
        await client.use_peers([address])
        assert await content_of(client, theirs, "a") == b"1"
        await eventually(lambda: daemon.state.state.acquaintances == {theirs.key.hex(): (address,)})
        await daemon.state.save()


async def test_a_drive_is_had_again_from_whom_it_was_had_before(places: Places, tmp_path: Path) -> None:
    other = places_of(tmp_path / "other")
    async with daemon_and_client(other) as (_, theirs):
        drive = await written_drive(theirs, {"a": b"1", "b": b"2"})
        [address] = await theirs.serve(drive.key, listen=["127.0.0.1:0"], peers=())
        await have_from(places, drive, address)
        async with daemon_and_client(places) as (_, client):
            assert await content_of(client, drive, "b") == b"2"


async def test_who_is_remembered_and_cannot_be_reached_is_waited_for_no_longer(places: Places, tmp_path: Path) -> None:
    other = places_of(tmp_path / "other")
    async with daemon_and_client(other) as (_, theirs):
        drive = await written_drive(theirs, {"a": b"1", "b": b"2"})
        [address] = await theirs.serve(drive.key, listen=["127.0.0.1:0"], peers=())
        await have_from(places, drive, address)
    async with daemon_and_client(places) as (_, client):
        with pytest.raises(BlockNotAvailable, match="no peer is known"):
            await content_of(client, drive, "b")


@pytest.mark.parametrize("count", [MAX_ACQUAINTANCES, MAX_ACQUAINTANCES + 3])
def test_a_few_are_remembered_the_latest_first(count: int) -> None:
    state = State()
    for number in [*range(count), count - 1]:
        state = with_acquaintance(state, KEY, f"h:{number}")
    latest = [f"h:{number}" for number in reversed(range(count))][:MAX_ACQUAINTANCES]
    assert state.acquaintances == {KEY: tuple(latest)}
    assert without_drive(state, KEY) == State()
