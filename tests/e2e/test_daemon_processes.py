"""The daemon and its mounts as processes: started, raced, killed, started again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.commands import Hyperfs, command_line, end, eventually, hyperfs_in, kill, mounted_below


@pytest.fixture
def hyperfs(tmp_path: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path) as commands:
        yield commands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    directory = tmp_path / "folder"
    directory.mkdir()
    (directory / "file").write_text("content")
    return directory


@pytest.fixture
def key(hyperfs: Hyperfs, folder: Path) -> str:
    return hyperfs.imported(folder)


@pytest.fixture
def mounted(hyperfs: Hyperfs, key: str, tmp_path: Path) -> Path:
    """A folder at which the drive is mounted."""
    directory = tmp_path / "mnt"
    directory.mkdir()
    hyperfs("mount", key, directory)
    return directory


def mount_pid(hyperfs: Hyperfs) -> int:
    (mount,) = hyperfs.mounts()
    assert mount["state"] == "mounted"
    return int(mount["pid"])


def test_commands_that_come_at_once_start_one_daemon(hyperfs: Hyperfs) -> None:
    commands = [hyperfs.start("status", "--json") for _ in range(2)] + [hyperfs.start("create") for _ in range(4)]
    for command in commands:
        _, errors = command.communicate(timeout=240)
        assert command.returncode == 0, errors
    daemons = [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if f"hyperfs.daemon\0{hyperfs.store}\0".encode() in command_line(int(pid))
    ]
    assert daemons == [str(hyperfs.daemon_pid)]


def test_a_daemon_with_nothing_to_do_ends(tmp_path: Path) -> None:
    with hyperfs_in(tmp_path, HYPERFS_DAEMON_IDLE="0.1") as hyperfs:
        hyperfs("create")
        eventually(lambda: hyperfs.daemon_pid is None)
        assert hyperfs.json("status")["running"] is False


def test_a_daemon_that_serves_does_not_end(tmp_path: Path, folder: Path) -> None:
    with hyperfs_in(tmp_path, HYPERFS_DAEMON_IDLE="0.1") as hyperfs:
        key = hyperfs.imported(folder)
        hyperfs("serve", key, "--listen", "127.0.0.1:0")
        pid = hyperfs.daemon_pid
        assert [one["key"] for one in hyperfs.json("status")["serving"]] == [key]
        hyperfs("unserve", key)
        assert pid is not None
        eventually(lambda: hyperfs.daemon_pid is None)


def test_stop_ends_the_daemon_and_unmounts(hyperfs: Hyperfs, mounted: Path) -> None:
    pid = hyperfs.daemon_pid
    assert pid is not None
    hyperfs("stop")
    assert (command_line(pid), mounted_below(mounted.parent)) == (b"", [])


def test_stop_refuses_while_somebody_is_in_a_mount_unless_forced(hyperfs: Hyperfs, mounted: Path) -> None:
    pid = mount_pid(hyperfs)
    inside = os.open(mounted / "file", os.O_RDONLY)
    assert f"(process {os.getpid()}): nothing is stopped" in hyperfs.fails("stop")
    assert mount_pid(hyperfs) == pid
    hyperfs("stop", "--force")
    assert mounted_below(mounted.parent) == []
    with pytest.raises(OSError, match="not connected"):
        os.close(inside)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_cleanly(hyperfs: Hyperfs, mounted: Path, number: signal.Signals) -> None:
    pid = hyperfs.daemon_pid
    assert pid is not None
    os.kill(pid, number)
    eventually(lambda: command_line(pid) == b"")
    assert mounted_below(mounted.parent) == []


def test_stop_ends_a_daemon_of_another_version_too(hyperfs: Hyperfs, mounted: Path) -> None:
    pid = hyperfs.daemon_pid
    code = (
        "import sys; from hyperfs.daemon import process; process.PROTOCOL = 99;"
        "from hyperfs.cli.main import main; main(['stop'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=hyperfs.environment, check=False, capture_output=True)
    assert (done.returncode, pid is not None and command_line(pid), mounted_below(mounted.parent)) == (0, b"", [])


def test_what_was_mounted_comes_back_with_the_daemon(hyperfs: Hyperfs, mounted: Path) -> None:
    hyperfs("stop")
    hyperfs("create")
    eventually(lambda: (mounted / "file").exists())
    assert (mounted / "file").read_text() == "content"


def test_what_was_unmounted_does_not_come_back(hyperfs: Hyperfs, mounted: Path) -> None:
    hyperfs("umount", mounted)
    hyperfs("stop")
    hyperfs("create")
    assert hyperfs.mounts() == []


@pytest.mark.parametrize("command", [["umount"], ["fusermount3", "-u"]], ids=" ".join)
def test_a_folder_that_anybody_unmounts_is_forgotten(hyperfs: Hyperfs, mounted: Path, command: list[str]) -> None:
    subprocess.run([*command, mounted], check=True)
    eventually(lambda: hyperfs.mounts() == [])
    assert hyperfs.log.count("Traceback") == 0


def test_a_mount_whose_process_is_killed_is_mounted_again(hyperfs: Hyperfs, mounted: Path) -> None:
    first = mount_pid(hyperfs)
    kill(first)
    eventually(lambda: (mount := hyperfs.mounts()[0])["state"] == "mounted" and mount["pid"] != first)
    assert (mounted / "file").read_text() == "content"


def test_a_mount_goes_on_without_the_daemon_and_finds_the_next(
    hyperfs: Hyperfs, mounted: Path, key: str, folder: Path
) -> None:
    pid = mount_pid(hyperfs)
    hyperfs.kill_daemon()
    assert (mounted / "file").read_text() == "content"
    (folder / "new").write_text("new")
    hyperfs("import", folder, key)
    eventually(lambda: (mounted / "new").exists())
    assert (mounted / "new").read_text() == "new"
    eventually(lambda: hyperfs.mounts()[0]["state"] == "mounted")
    assert mount_pid(hyperfs) == pid


def test_daemon_and_mount_both_killed_are_both_replaced(hyperfs: Hyperfs, mounted: Path) -> None:
    pid = mount_pid(hyperfs)
    hyperfs.kill_daemon()
    kill(pid)
    with pytest.raises(OSError, match="not connected"):
        (mounted / "file").read_text()
    hyperfs("create")
    eventually(lambda: hyperfs.mounts()[0]["state"] == "mounted")
    assert (mounted / "file").read_text() == "content"


def test_a_dead_mount_point_is_recognised_and_mounted_over(hyperfs: Hyperfs, mounted: Path, key: str) -> None:
    pid = mount_pid(hyperfs)
    hyperfs.kill_daemon()
    kill(pid)
    (hyperfs.store / ".hyperfs/state.json").unlink()
    hyperfs("mount", key, mounted)
    assert (mounted / "file").read_text() == "content"


def test_a_folder_unmounted_while_no_daemon_ran_stays_unmounted(hyperfs: Hyperfs, mounted: Path) -> None:
    pid = mount_pid(hyperfs)
    hyperfs.kill_daemon()
    subprocess.run(["umount", mounted], check=True)
    eventually(lambda: command_line(pid) == b"")
    assert hyperfs("status").count("mounted at") == 1  # what the file says until the next daemon reads it
    hyperfs("create")
    assert hyperfs.mounts() == []


def test_an_orphan_that_no_daemon_knows_any_more_unmounts(hyperfs: Hyperfs, mounted: Path) -> None:
    hyperfs.kill_daemon()
    (hyperfs.store / ".hyperfs/state.json").unlink()
    hyperfs("create")
    eventually(lambda: mounted_below(mounted.parent) == [])


def test_a_mount_told_to_end_at_a_shutdown_comes_back(hyperfs: Hyperfs, mounted: Path) -> None:
    first = mount_pid(hyperfs)
    end(first)
    eventually(lambda: (mounts := hyperfs.mounts()) and mounts[0]["state"] == "mounted" and mounts[0]["pid"] != first)
    assert (mounted / "file").read_text() == "content"


def test_several_mounts_of_one_drive_at_several_versions(
    hyperfs: Hyperfs, mounted: Path, key: str, folder: Path
) -> None:
    old = mounted.parent / "old"
    old.mkdir()
    version = hyperfs.json("info", key)["version"]
    told = hyperfs.json("mount", f"{key}+{version}", old)
    (folder / "new").write_text("new")
    hyperfs("import", folder, key)
    eventually(lambda: (mounted / "new").exists())
    assert (told["key"], told["version"], os.listdir(old)) == (key, version, ["file"])


def test_a_path_behind_the_key_is_told_below_the_mount(hyperfs: Hyperfs, mounted: Path, key: str) -> None:
    old = mounted.parent / "old"
    old.mkdir()
    done = hyperfs.run("mount", f"{key}+2/file", old)
    assert done.returncode == 0
    assert f"what you named is {old}/file" in done.stderr.decode()


def test_a_tag_is_mounted_as_the_version_it_names(hyperfs: Hyperfs, mounted: Path, key: str) -> None:
    tagged = mounted.parent / "tagged"
    tagged.mkdir()
    hyperfs("tag", key, "v1")
    assert hyperfs.json("mount", f"{key}+v1", tagged)["version"] == 2
    assert os.listdir(tagged) == ["file"]


def test_a_mount_in_the_foreground_stays_until_it_is_interrupted(hyperfs: Hyperfs, key: str, tmp_path: Path) -> None:
    directory = tmp_path / "mnt"
    directory.mkdir()
    with hyperfs.start("mount", "--foreground", key, directory) as process:
        eventually(lambda: (directory / "file").exists())
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 0
    assert mounted_below(tmp_path) == []


def test_a_mount_in_the_foreground_ends_when_it_is_unmounted(hyperfs: Hyperfs, key: str, tmp_path: Path) -> None:
    directory = tmp_path / "mnt"
    directory.mkdir()
    with hyperfs.start("mount", "--foreground", key, directory) as process:
        eventually(lambda: (directory / "file").exists())
        eventually(lambda: hyperfs.mounts()[0]["state"] == "mounted")
        subprocess.run(["umount", directory], check=True)
        assert process.wait(240) == 0


def test_a_writable_mount_is_as_old_as_what_it_holds(hyperfs: Hyperfs, mounted: Path, key: str) -> None:
    assert mounted.stat().st_mtime_ns // 1_000_000 == hyperfs.json("stat", key)["mtime"]


@pytest.mark.parametrize(
    ("behind", "option", "writable"), [("", (), True), ("", ("--read-only",), False), ("+2", (), False)]
)
def test_status_tells_whether_a_mount_can_be_written_to(
    hyperfs: Hyperfs, key: str, tmp_path: Path, behind: str, option: tuple[str, ...], writable: bool
) -> None:
    directory = tmp_path / "mnt"
    directory.mkdir()
    hyperfs("mount", key + behind, directory, *option)
    eventually(lambda: hyperfs.mounts()[0]["writable"] is not None)
    assert hyperfs.mounts()[0]["writable"] is writable
    assert f"\t{'writable' if writable else 'read-only'}\t" in hyperfs("status")


def test_options_of_a_mount_are_kept(hyperfs: Hyperfs, key: str, tmp_path: Path) -> None:
    directory = tmp_path / "mnt"
    directory.mkdir()
    hyperfs("mount", key, directory, "--uid", "33", "--gid", "44", "--umask", "027")
    hyperfs("stop")
    hyperfs("create")
    eventually(lambda: (directory / "file").exists())
    status = (directory / "file").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (33, 44, 0o750)


def test_a_daemon_in_the_foreground_logs_and_ends_at_an_interrupt(hyperfs: Hyperfs, tmp_path: Path) -> None:
    with hyperfs.start("daemon") as process:
        eventually(lambda: hyperfs.daemon_pid == process.pid)
        hyperfs("create")
        process.send_signal(signal.SIGINT)
        assert process.wait(240) == 0


def test_a_service_manager_is_told_when_the_daemon_is_ready(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(240)
        with (
            hyperfs_in(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")) as hyperfs,
            hyperfs.start("daemon") as process,
        ):
            assert manager.recv(100) == b"READY=1"
            assert hyperfs.json("status")["pid"] == process.pid
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"


def test_a_reader_follows_what_is_imported_where_the_drive_is_served(
    hyperfs: Hyperfs, key: str, folder: Path, tmp_path: Path
) -> None:
    (address,) = hyperfs.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
    mountpoint = tmp_path / "elsewhere" / "mnt"
    mountpoint.mkdir(parents=True)
    with hyperfs_in(tmp_path / "elsewhere") as reader:
        reader("mount", key, mountpoint, "--peer", address)
        assert (mountpoint / "file").read_text() == "content"
        (folder / "new").write_text("new")
        hyperfs("import", folder, key)
        eventually(lambda: (mountpoint / "new").exists())
        assert (mountpoint / "new").read_text() == "new"


def test_a_mounted_drive_is_read_from_the_store_without_any_peer(hyperfs: Hyperfs, key: str, tmp_path: Path) -> None:
    (address,) = hyperfs.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
    mountpoint = tmp_path / "elsewhere" / "mnt"
    mountpoint.mkdir(parents=True)
    with hyperfs_in(tmp_path / "elsewhere") as reader:
        reader("cat", key, "file", "--peer", address)
        reader("stop")
        hyperfs("stop")
        reader("mount", key, mountpoint)
        assert (mountpoint / "file").read_text() == "content"


def test_a_store_left_by_a_killed_daemon_is_in_order(hyperfs: Hyperfs, folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}").write_bytes(os.urandom(200_000))
    with hyperfs.start("import", "--json", folder) as process:
        eventually(lambda: hyperfs.daemon_pid is not None)
        output, _ = process.communicate(timeout=240)
    key = json.loads(output)["key"]
    hyperfs.kill_daemon()
    told = hyperfs.json("check", key)
    assert (told["metadata"]["damaged"], told["content"]["damaged"]) == ([], [])
    assert hyperfs.run("cat", key, "0").stdout == (folder / "0").read_bytes()
