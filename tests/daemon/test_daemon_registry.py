"""Which cores the daemon has open, and for how long."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from hyperfs.core.store import Store, run_store
from hyperfs.daemon.committer import DaemonCommitter
from hyperfs.daemon.places import Places
from hyperfs.daemon.registry import LINGER_SECONDS, MAX_LINGERING, CoreRegistry, User
from hyperfs.daemon.server import open_daemon
from hyperfs.drive.writer import DriveWriter
from hyperfs.errors import DaemonError
from hyperfs.replication import Replicator

from ..support.clocks import settled
from ..support.stores import client_of, daemon_and_client, places, written_drive

__all__ = ["places"]


@asynccontextmanager
async def registry_of(path: Path, *, max_cores: int = 1000) -> AsyncIterator[tuple[CoreRegistry, Store, Replicator]]:
    replicator = Replicator()
    async with run_store(path) as store, trio.open_nursery() as nursery:
        registry = CoreRegistry(store, replicator, nursery, max_cores=max_cores)
        yield registry, store, replicator
        nursery.cancel_scope.cancel()
        registry.close()


async def test_a_core_that_nobody_uses_stays_for_the_next_command_and_not_for_ever(
    tmp_path: Path, patient_clock: trio.testing.MockClock
) -> None:
    async with registry_of(tmp_path) as (registry, _, replicator):
        first, second = User(), User()
        core = await registry.open(bytes(32), first)
        registry.release(first)
        await trio.sleep(LINGER_SECONDS - 1)
        assert await registry.open(bytes(32), second) is core
        await trio.sleep(2 * LINGER_SECONDS)
        assert registry.open_cores() == [core]
        registry.release(second)
        await trio.sleep(LINGER_SECONDS + 1)
        assert (registry.open_cores(), replicator.exchanges) == ([], [])


async def test_one_core_is_let_go_of_before_the_others(tmp_path: Path, patient_clock: trio.testing.MockClock) -> None:
    async with registry_of(tmp_path) as (registry, _, _):
        user = User()
        first, second = [await registry.open(bytes([number]) * 32, user) for number in range(2)]
        registry.release_core(first.key, user)
        registry.release_core(first.key, user)
        registry.release_core(b"x" * 32, user)
        await trio.sleep(2 * LINGER_SECONDS)
        assert registry.open_cores() == [second]


async def test_what_nobody_uses_is_closed(tmp_path: Path, patient_clock: trio.testing.MockClock) -> None:
    async with registry_of(tmp_path) as (registry, store, _):
        user = User()
        for _ in range(200):
            await registry.open(os.urandom(32), user)
        registry.release(user)
        assert len(registry.open_cores()) == MAX_LINGERING
        await trio.sleep(2 * LINGER_SECONDS)
        await store.close_idle()
        assert (registry.open_cores(), store.opened()) == ([], [])


async def test_no_more_cores_are_open_than_there_are_files_for(tmp_path: Path) -> None:
    async with registry_of(tmp_path, max_cores=3) as (registry, _, _):
        for number in range(3):
            await registry.open(bytes([number]) * 32, User())
        with pytest.raises(DaemonError, match="ulimit"):
            await registry.open(b"x" * 32, User())
        assert len(registry.open_cores()) == 3


async def test_what_nobody_uses_makes_room(tmp_path: Path) -> None:
    async with registry_of(tmp_path, max_cores=3) as (registry, _, _):
        user = User()
        for number in range(3):
            await registry.open(bytes([number]) * 32, user)
        registry.release(user)
        core = await registry.open(b"x" * 32, User())
        assert registry.open_cores() == [core]


async def test_two_that_open_one_core_at_once_have_it_both(tmp_path: Path) -> None:
    async with registry_of(tmp_path) as (registry, _, _):
        users = [User(), User()]
        async with trio.open_nursery() as nursery:
            for user in users:
                nursery.start_soon(registry.open, bytes(32), user)
        registry.release(users[0])
        assert len(registry.open_cores()) == 1
        registry.release(users[1])


async def test_a_key_of_which_nothing_comes_leaves_nothing_on_the_disk(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        before = sorted(path for path in places.store.rglob("*") if "heads" not in path.parts)
        for _ in range(20):
            await client.open_core(os.urandom(32))
        assert sorted(path for path in places.store.rglob("*") if "heads" not in path.parts) == before


async def test_a_drive_that_was_written_is_let_go_of_once_its_writer_is_gone(
    places: Places, patient_clock: trio.testing.MockClock
) -> None:
    async with open_daemon(places) as daemon:
        async with client_of(places) as client:
            await written_drive(client, {"a": b"1"})
            assert len(daemon.registry.open_cores()) == 2
        await trio.sleep(2 * LINGER_SECONDS)
        assert daemon.registry.open_cores() == []


async def test_of_what_a_served_drives_owner_mounts_in_it_a_bounded_number_is_opened(
    places: Places, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hyperfs.daemon.serving.MAX_INSIDE", 5)
    async with daemon_and_client(places) as (daemon, client):
        drive = await written_drive(client, {"a": b"1"})
        writer = DriveWriter(drive, DaemonCommitter(client, drive.key))
        async with writer.batch() as batch:
            for number in range(50):
                await batch.mount(f"in{number}", os.urandom(32))
        before = len(daemon.registry.open_cores())
        await client.serve(drive.key, listen=[], peers=[])
        await settled()
        assert len(daemon.registry.open_cores()) == before + 5
        assert caplog.text.count("more drives mounted in it than can be served") == 1


async def test_a_core_of_ours_that_is_not_all_here_is_asked_for_and_not_offered(tmp_path: Path) -> None:
    async with registry_of(tmp_path) as (registry, store, replicator):
        core = await store.create_core()
        await core.append([b"one", b"two"])

        async def shared_as() -> bool | None:
            """Whether it is offered to peers while somebody reads it; None when they do not hear of it."""
            user = User()
            await registry.open(core.key, user)
            exchange = replicator.exchange_of(core.discovery_key)
            registry.release(user)
            return None if exchange is None else exchange.uploading

        assert await shared_as() is None
        await core.clear(0, 1)
        assert await shared_as() is False


async def test_a_core_of_ours_is_offered_no_longer_than_it_is_served(tmp_path: Path) -> None:
    async with registry_of(tmp_path) as (registry, store, replicator):
        core = await store.create_core()
        await core.append([b"one"])
        serving = User(offers=True)
        await registry.open(core.key, serving)
        await registry.open(core.key, User())
        assert replicator.exchange_of(core.discovery_key) is not None
        registry.release(serving)
        assert replicator.exchange_of(core.discovery_key) is None


async def test_who_reads_what_was_just_written_does_not_end_that_peers_are_asked(tmp_path: Path) -> None:
    async with registry_of(tmp_path) as (registry, store, replicator):
        core = await store.create_core()
        await core.append([b"one"])
        writing = User(writes=True)
        await registry.open(core.key, writing)
        registry.release(writing)
        await registry.open(core.key, User())
        exchange = replicator.exchange_of(core.discovery_key)
        assert (exchange and exchange.uploading) is False
