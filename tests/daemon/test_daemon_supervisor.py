"""Mounts as the daemon watches them, with a process that a test plays."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from hyperfs.daemon.answers import CommitProgress
from hyperfs.daemon.failures import describe
from hyperfs.daemon.locks import LockFile
from hyperfs.daemon.places import Places
from hyperfs.daemon.state import MountChoices, MountRecord
from hyperfs.daemon.supervisor import SILENT_SECONDS, Mount
from hyperfs.errors import DaemonError, StillStaged, UsageError

from ..support.played_mounts import Play, Played
from ..support.stores import places

__all__ = ["places"]


def record_at(mountpoint: Path, **changes: object) -> MountRecord:
    fields = {"key": "ab" * 32, "version": None, "label": "abab", "options": MountChoices(), **changes}
    return MountRecord(id="f0", mountpoint=str(mountpoint), **fields)  # type: ignore[arg-type]


@asynccontextmanager
async def supervised(places: Places, play: Play) -> AsyncIterator[Played]:
    async with trio.open_nursery() as nursery:
        yield Played(places, nursery, play, lambda id: None)
        nursery.cancel_scope.cancel()


async def ready_then_ends(supervisor: Played, mount: Mount) -> None:
    supervisor.is_ready(mount.record.id, writable=True)
    await supervisor.terminated.wait()
    supervisor.ends(mount.record.id, None, unmounted=False, staged=None)


def stage_something(places: Places, record: MountRecord) -> None:
    directory = places.staging(bytes.fromhex(record.key))
    directory.mkdir(parents=True)
    (directory / "1.journal").write_bytes(b"something")


async def test_a_mount_that_commits_for_long_is_waited_for(
    places: Places, tmp_path: Path, patient_clock: trio.abc.Clock
) -> None:
    async def commit_for_long(supervisor: Played, mount: Mount) -> None:
        supervisor.is_ready("f0", writable=True)
        await supervisor.terminated.wait()
        for number in range(100):
            supervisor.lives("f0", CommitProgress(number, 100))
            assert mount.describe().state == "committing"
            await trio.sleep(SILENT_SECONDS - 1)
        supervisor.ends("f0", None, unmounted=False, staged=None)

    async with supervised(places, commit_for_long) as supervisor:
        mount = supervisor.add(record_at(tmp_path))
        await mount.tried.wait()
        await supervisor.remove("f0")
        assert (supervisor.signals, supervisor.all()) == ([signal.SIGTERM], [])


async def test_a_mount_that_says_nothing_is_killed_and_what_is_staged_is_told(
    places: Places, tmp_path: Path, patient_clock: trio.abc.Clock
) -> None:
    async def say_nothing(supervisor: Played, mount: Mount) -> None:
        supervisor.is_ready("f0", writable=True)
        await trio.sleep_forever()

    async with supervised(places, say_nothing) as supervisor:
        record = record_at(tmp_path)
        stage_something(places, record)
        await supervisor.add(record).tried.wait()
        with pytest.raises(StillStaged, match="is kept in the store"):
            await supervisor.remove("f0")
        assert supervisor.signals == [signal.SIGTERM, signal.SIGKILL]


async def test_what_stays_staged_is_told_with_the_reason_also_to_who_asks_late(places: Places, tmp_path: Path) -> None:
    async def fail_to_commit(supervisor: Played, mount: Mount) -> None:
        supervisor.is_ready("f0", writable=True)
        supervisor.ends("f0", None, unmounted=True, staged="the disk is full")

    async with supervised(places, fail_to_commit) as supervisor:
        record = record_at(tmp_path)
        stage_something(places, record)
        await supervisor.add(record).gone.wait()
        with pytest.raises(StillStaged, match="the disk is full"):
            await supervisor.remove("f0")


async def test_when_all_end_what_stays_staged_is_told(places: Places, tmp_path: Path) -> None:
    async def fail_to_commit(supervisor: Played, mount: Mount) -> None:
        supervisor.is_ready("f0", writable=True)
        await supervisor.terminated.wait()
        supervisor.ends("f0", None, unmounted=False, staged="the disk is full")

    async with supervised(places, fail_to_commit) as supervisor:
        record = record_at(tmp_path)
        stage_something(places, record)
        await supervisor.add(record).tried.wait()
        (line,) = await supervisor.end_all()
        assert "the disk is full" in line
        with pytest.raises(DaemonError):
            supervisor.add(record)


async def test_a_mount_that_is_being_mounted_again_and_has_something_staged_commits_it_before_it_goes(
    places: Places, tmp_path: Path
) -> None:
    recovered = trio.Event()

    async def recover(supervisor: Played, mount: Mount) -> None:
        mount.pid = os.getpid()
        with LockFile(places.staging(mount.key) / "lock") as lock:  # as the process of a mount that writes does
            assert lock.try_take()
            await recovered.wait()
            assert supervisor.signals == []
        await ready_then_ends(supervisor, mount)

    async with supervised(places, recover) as supervisor, trio.open_nursery() as nursery:
        record = record_at(tmp_path)
        stage_something(places, record)
        supervisor.add(record)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(supervisor.remove, "f0")
        await trio.testing.wait_all_tasks_blocked(0.01)
        recovered.set()


async def test_what_another_mount_is_about_to_commit_is_not_told_as_left_behind(places: Places, tmp_path: Path) -> None:
    async def be_refused(supervisor: Played, mount: Mount) -> None:
        supervisor.ends("f0", describe(UsageError("mounted to be written to already")), unmounted=False, staged=None)

    async with supervised(places, be_refused) as supervisor:
        record = record_at(tmp_path)
        stage_something(places, record)
        with LockFile(places.staging(bytes.fromhex(record.key)) / "lock") as lock:
            assert lock.try_take()
            await supervisor.add(record).tried.wait()
            await supervisor.remove("f0")


async def test_a_mount_that_was_unmounted_before_it_had_found_the_daemon_is_not_mounted_again(
    places: Places, tmp_path: Path
) -> None:
    played = 0

    async def be_unmounted(supervisor: Played, mount: Mount) -> None:
        nonlocal played
        played += 1
        assert not places.unmounted_note("f0").exists()
        if played == 1:  # as its process does when nobody hears it
            places.unmounted_note("f0").touch()
        else:
            await ready_then_ends(supervisor, mount)

    places.mount_lock("f0")
    async with supervised(places, be_unmounted) as supervisor:
        await supervisor.add(record_at(tmp_path)).gone.wait()
        assert played == 1
        await supervisor.add(record_at(tmp_path)).tried.wait()
        assert (played, len(supervisor.all())) == (2, 1)


async def test_what_is_being_mounted_again_is_joined(places: Places, tmp_path: Path) -> None:
    async with supervised(places, ready_then_ends) as supervisor:
        first = supervisor.add(record_at(tmp_path))
        assert await supervisor.join_or_add(record_at(tmp_path, label="the same")) == (first, False)


async def test_who_mounts_what_has_died_waits_until_it_is_mounted_again(
    places: Places, tmp_path: Path, patient_clock: trio.abc.Clock
) -> None:
    begins_again, goes_on = trio.Event(), trio.Event()

    async def die_once(supervisor: Played, mount: Mount) -> None:
        if not mount.tried.is_set() and mount.failure is None:
            supervisor.is_ready("f0", writable=True)
            return
        begins_again.set()
        await goes_on.wait()
        await ready_then_ends(supervisor, mount)

    async with supervised(places, die_once) as supervisor:
        supervisor.add(record_at(tmp_path))
        await begins_again.wait()
        mount, is_new = await supervisor.join_or_add(record_at(tmp_path))
        assert (is_new, mount.tried.is_set()) == (False, False)
        goes_on.set()
        await mount.tried.wait()
        assert mount.describe().state == "mounted"


@pytest.mark.parametrize("change", [{"key": "cd" * 32}, {"version": 3}, {"options": MountChoices(read_only=True)}])
async def test_what_is_something_else_is_not_joined(places: Places, tmp_path: Path, change: dict[str, object]) -> None:
    async with supervised(places, ready_then_ends) as supervisor:
        supervisor.add(record_at(tmp_path))
        with pytest.raises(UsageError, match="umount"):
            await supervisor.join_or_add(record_at(tmp_path, **change))


async def test_where_a_mount_is_about_to_end_the_next_one_waits_for_it(places: Places, tmp_path: Path) -> None:
    async with supervised(places, ready_then_ends) as supervisor:
        first = supervisor.add(record_at(tmp_path))
        await first.tried.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.end, first)
            await supervisor.terminated.wait()
            second, is_new = await supervisor.join_or_add(record_at(tmp_path))
        assert (second is not first, is_new, first.gone.is_set()) == (True, True, True)
