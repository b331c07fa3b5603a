"""How mounts end: after a crash, while they commit, and when what was written cannot be committed."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ..support.commands import Hyperfs, eventually, hyperfs_in, kill, mounted_below
from ..support.waiting_daemon import daemon_that_waits_and_fails


@pytest.fixture
def hyperfs(tmp_path: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path) as commands:
        yield commands


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "mnt"
    directory.mkdir()
    return directory


def killed_with_its_daemon(hyperfs: Hyperfs, key: str, mountpoint: Path) -> None:
    hyperfs("mount", key, mountpoint)
    (mount,) = hyperfs.mounts()
    hyperfs.kill_daemon()
    kill(mount["pid"])


def test_a_folder_is_unmounted_after_daemon_and_mount_were_killed(hyperfs: Hyperfs, mountpoint: Path) -> None:
    killed_with_its_daemon(hyperfs, hyperfs("create").strip(), mountpoint)
    hyperfs("umount", mountpoint)
    assert (mounted_below(mountpoint.parent), os.listdir(mountpoint), hyperfs.mounts()) == ([], [], [])


def test_what_was_written_before_both_were_killed_is_committed_when_it_is_unmounted(
    hyperfs: Hyperfs, mountpoint: Path
) -> None:
    key = hyperfs("create").strip()
    hyperfs("mount", key, mountpoint, "--flush-interval", "3600")
    descriptor = os.open(mountpoint / "file", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"content")
    os.fsync(descriptor)
    (mount,) = hyperfs.mounts()
    hyperfs.kill_daemon()
    kill(mount["pid"])
    with pytest.raises(OSError, match="not connected"):
        os.close(descriptor)
    staged = [{"key": key, "bytes": 7, "process": None}]
    assert hyperfs.json("status")["staged"] == staged
    assert f"hyperfs mount {key} DIR" in hyperfs("status")
    hyperfs("umount", mountpoint)
    assert hyperfs.json("status")["staged"] == []
    assert (mounted_below(mountpoint.parent), hyperfs("cat", key, "file")) == ([], "content")


def test_what_is_not_in_the_drive_is_told_with_what_becomes_of_it(hyperfs: Hyperfs, mountpoint: Path) -> None:
    key = hyperfs("create").strip()
    hyperfs("mount", key, mountpoint, "--flush-interval", "3600")
    with (mountpoint / "file").open("wb", buffering=0) as file:
        file.write(b"content")
        os.fsync(file.fileno())
        (mount,) = hyperfs.mounts()
        aside = hyperfs.store / ".hyperfs/staging" / key / "set-aside/1"
        aside.mkdir(parents=True)
        for words in (hyperfs("status"), hyperfs("check", key)):
            assert f"not in the drive yet: its mount, process {mount['pid']}, brings it" in words
            assert f"set aside  {aside}: " in words
        told = hyperfs.json("check", key)
    assert (told["staged"], told["set_aside"]) == ([{"key": key, "bytes": 7, "process": mount["pid"]}], [str(aside)])
    hyperfs("umount", mountpoint)


def test_stop_says_what_lives_on_without_a_daemon(hyperfs: Hyperfs, mountpoint: Path) -> None:
    hyperfs("mount", hyperfs("create").strip(), mountpoint)
    hyperfs.kill_daemon()
    assert f"`hyperfs umount {mountpoint}`" in hyperfs.run("stop").stderr.decode()
    assert "without a daemon: " in hyperfs("status")
    hyperfs("umount", mountpoint)
    assert hyperfs("status").count("mounted") == 0


def test_a_dead_folder_that_no_daemon_knows_is_unmounted(hyperfs: Hyperfs, mountpoint: Path) -> None:
    killed_with_its_daemon(hyperfs, hyperfs("create").strip(), mountpoint)
    (hyperfs.store / ".hyperfs/state.json").unlink()
    hyperfs("umount", mountpoint)
    assert mounted_below(mountpoint.parent) == []


def test_what_is_being_mounted_again_can_be_mounted(hyperfs: Hyperfs, mountpoint: Path) -> None:
    key = hyperfs("create").strip()
    killed_with_its_daemon(hyperfs, key, mountpoint)
    hyperfs("mount", key, mountpoint)
    (mount,) = hyperfs.mounts()
    assert (mount["state"], os.listdir(mountpoint)) == ("mounted", [])


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Have a process say nothing meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_mount_that_lived_through_its_daemon_is_unmounted_once_it_has_found_the_next(
    hyperfs: Hyperfs, mountpoint: Path
) -> None:
    key = hyperfs("create").strip()
    hyperfs("mount", key, mountpoint)
    (mount,) = hyperfs.mounts()
    hyperfs.kill_daemon()
    (mountpoint / "file").write_bytes(b"content")
    with ExitStack() as commands:
        with stopped(mount["pid"]):
            umount = commands.enter_context(hyperfs.start("umount", mountpoint))
            eventually(lambda: [mount["state"] for mount in hyperfs.json("status").get("mounts", ())] == ["starting"])
            assert umount.poll() is None
            assert mounted_below(mountpoint.parent) == [str(mountpoint)]
        assert umount.wait(240) == 0
    assert (mounted_below(mountpoint.parent), hyperfs.mounts()) == ([], [])
    assert hyperfs("cat", key, "file") == "content"


def test_a_mount_that_lived_through_its_daemon_can_be_mounted_and_has_one_again(
    hyperfs: Hyperfs, mountpoint: Path
) -> None:
    key = hyperfs("create").strip()
    hyperfs("mount", key, mountpoint)
    (before,) = hyperfs.mounts()
    hyperfs.kill_daemon()
    with ExitStack() as commands:
        with stopped(before["pid"]):
            again = commands.enter_context(hyperfs.start("mount", key, mountpoint))
            eventually(lambda: hyperfs.json("status")["running"])
            assert (hyperfs.mounts()[0]["state"], again.poll()) == ("starting", None)
        assert again.wait(240) == 0
    (mount,) = hyperfs.mounts()
    assert (mount["state"], mount["pid"]) == ("mounted", before["pid"])


def test_what_else_is_mounted_where_a_mount_lives_on_is_refused(hyperfs: Hyperfs, mountpoint: Path) -> None:
    hyperfs("mount", hyperfs("create").strip(), mountpoint)
    other = hyperfs("create").strip()
    hyperfs.kill_daemon()
    assert "is mounted there already" in hyperfs.fails("mount", other, mountpoint, status=2)


def test_a_folder_is_unmounted_without_its_store_being_named(hyperfs: Hyperfs, mountpoint: Path) -> None:
    hyperfs("mount", hyperfs("create").strip(), mountpoint)
    other = hyperfs.store.parent / "other"
    hyperfs("umount", mountpoint, "--store", other)
    assert (mounted_below(mountpoint.parent), hyperfs.mounts(), other.exists()) == ([], [], False)


def test_the_folder_goes_first_and_umount_returns_once_all_is_committed(hyperfs: Hyperfs, mountpoint: Path) -> None:
    with daemon_that_waits_and_fails(hyperfs) as (waits, _, _):
        key = hyperfs("create").strip()
        hyperfs("mount", key, mountpoint)
        waits.touch()
        (mountpoint / "file").write_bytes(b"content")
        with hyperfs.start("umount", mountpoint) as umount:
            eventually(lambda: mounted_below(mountpoint.parent) == [])
            eventually(lambda: hyperfs.mounts()[0]["state"] == "committing")
            assert umount.poll() is None
            waits.unlink()
            assert umount.wait(240) == 0
        assert hyperfs("cat", key, "file") == "content"


def test_a_mount_where_one_still_commits_waits_for_it(hyperfs: Hyperfs, mountpoint: Path) -> None:
    with daemon_that_waits_and_fails(hyperfs) as (waits, _, _):
        key = hyperfs("create").strip()
        hyperfs("mount", key, mountpoint)
        waits.touch()
        (mountpoint / "file").write_bytes(b"content")
        subprocess.run(["umount", mountpoint], check=True)
        eventually(lambda: hyperfs.mounts()[0]["state"] == "committing")
        with hyperfs.start("mount", key, mountpoint) as mount:
            waits.unlink()
            assert mount.wait(240) == 0
        assert (mountpoint / "file").read_bytes() == b"content"


def test_umount_says_what_could_not_be_committed_and_the_next_mount_has_it(hyperfs: Hyperfs, mountpoint: Path) -> None:
    with daemon_that_waits_and_fails(hyperfs) as (_, fails, _):
        key = hyperfs("create").strip()
        hyperfs("mount", key, mountpoint)
        fails.touch()
        (mountpoint / "file").write_bytes(b"content")
        assert "is kept in the store" in hyperfs.fails("umount", mountpoint)
        assert mounted_below(mountpoint.parent) == []
        fails.unlink()
        hyperfs("mount", key, mountpoint)
        assert (mountpoint / "file").read_bytes() == b"content"
        hyperfs("umount", mountpoint)
        assert hyperfs("cat", key, "file") == "content"


def test_stop_says_what_could_not_be_committed(hyperfs: Hyperfs, mountpoint: Path) -> None:
    with daemon_that_waits_and_fails(hyperfs) as (_, fails, process):
        key = hyperfs("create").strip()
        hyperfs("mount", key, mountpoint)
        fails.touch()
        (mountpoint / "file").write_bytes(b"content")
        assert "is kept in the store" in hyperfs.fails("stop")
        assert process.wait(240) == 1
    hyperfs("create")
    eventually(lambda: hyperfs.mounts()[0]["state"] == "mounted")
    assert (mountpoint / "file").read_bytes() == b"content"


def test_a_daemon_told_to_end_waits_until_its_mounts_have_committed(hyperfs: Hyperfs, mountpoint: Path) -> None:
    with daemon_that_waits_and_fails(hyperfs) as (waits, _, process):
        key = hyperfs("create").strip()
        hyperfs("mount", key, mountpoint)
        waits.touch()
        (mountpoint / "file").write_bytes(b"content")
        process.terminate()
        eventually(lambda: mounted_below(mountpoint.parent) == [])
        waits.unlink()
        assert process.wait(240) == 0
    assert hyperfs("cat", key, "file") == "content"


@pytest.mark.parametrize("is_killed", [False, True], ids=["with its daemon", "which lives on without one"])
def test_a_folder_that_somebody_is_in_is_not_unmounted(hyperfs: Hyperfs, mountpoint: Path, is_killed: bool) -> None:
    key = hyperfs("create").strip()
    hyperfs("mount", key, mountpoint)
    with (mountpoint / "file").open("w"):
        if is_killed:
            hyperfs.kill_daemon()
        assert "somebody is in it" in hyperfs.fails("umount", mountpoint)
        assert mounted_below(mountpoint.parent) == [str(mountpoint)]
    hyperfs("umount", mountpoint)
