"""What a request leaves that is withdrawn at any await: nothing that only half of the daemon knows."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.methods import mount_drive
from hyperfs.daemon.places import Places
from hyperfs.daemon.registry import User
from hyperfs.daemon.requests import MountDrive
from hyperfs.daemon.server import open_daemon
from hyperfs.daemon.state import MountChoices, read_state
from hyperfs.daemon.supervisor import Mount

from ..support.cancelling import cancelled_at_each_checkpoint
from ..support.clocks import settled
from ..support.played_mounts import Played
from ..support.stores import places

__all__ = ["places"]


def served(daemon: Daemon) -> set[str]:
    """Return what the state says is served, after seeing that the file, the offers and the sockets say the same."""
    state = daemon.state.state
    assert read_state(daemon.places.state) == state
    keys = {one.key for one in state.served}
    assert {key.hex() for key in daemon.serving.offered()} == keys
    assert set(daemon.serving.listening()) == set(state.listen)
    return keys


async def test_a_drive_is_served_or_it_is_not_whenever_serving_it_is_withdrawn(places: Places) -> None:
    async with open_daemon(places) as daemon:
        outcomes = set()
        for attempt in cancelled_at_each_checkpoint():
            key = os.urandom(32)
            with attempt:
                await daemon.serving.serve(key, listen=("127.0.0.1:0",), peers=("127.0.0.1:1",))
            await settled()
            outcomes.add(key.hex() in served(daemon))
            if key.hex() in served(daemon):
                await daemon.serving.unserve(key)
        assert outcomes == {True, False}
        assert served(daemon) == set()


async def test_a_drive_is_served_or_it_is_not_whenever_taking_it_back_is_withdrawn(places: Places) -> None:
    async with open_daemon(places) as daemon:
        key = os.urandom(32)
        for attempt in cancelled_at_each_checkpoint():
            await daemon.serving.serve(key, listen=("127.0.0.1:0",), peers=())
            with attempt:
                await daemon.serving.unserve(key)
            await settled()
            assert served(daemon) in ({key.hex()}, set())
        assert served(daemon) == set()


async def test_a_core_that_somebody_stopped_waiting_for_is_not_in_use(places: Places) -> None:
    async with open_daemon(places) as daemon:
        key = await daemon.create_drive()
        for attempt in cancelled_at_each_checkpoint():
            user = User()
            daemon.registry.close()
            await daemon.store.close_idle()
            with attempt:
                await daemon.registry.open(key, user)
            daemon.registry.release(user)
            daemon.registry.close()
            await daemon.store.close_idle()
            assert daemon.store.opened() == []


async def serve_until_told(supervisor: Played, mount: Mount) -> None:
    await trio.lowlevel.checkpoint()
    supervisor.is_ready(mount.record.id, writable=False)
    await supervisor.terminated.wait()
    supervisor.terminated = trio.Event()
    supervisor.ends(mount.record.id, None, unmounted=False, staged=None)


@asynccontextmanager
async def daemon_with_played_mounts(places: Places) -> AsyncIterator[Daemon]:
    async with open_daemon(places) as daemon:
        daemon.supervisor = Played(places, daemon.nursery, serve_until_told, daemon._mount_gone)
        yield daemon


async def test_a_mount_that_nobody_waits_for_any_more_is_taken_back(places: Places, tmp_path: Path) -> None:
    call = MountDrive(bytes(32), None, "0", str(tmp_path / "mnt"), MountChoices(), ("127.0.0.1:1",))
    async with daemon_with_played_mounts(places) as daemon:
        for attempt in cancelled_at_each_checkpoint():
            done = False
            with attempt:
                id = await mount_drive(daemon, None, call)  # type: ignore[arg-type]  # which it has no use for
                done = True
            await settled()
            assert [mount.record.id for mount in daemon.supervisor.all()] == ([id] if done else [])
            assert [record.id for record in read_state(places.state).mounts] == ([id] if done else [])
            if done:
                await daemon.supervisor.remove(id)
