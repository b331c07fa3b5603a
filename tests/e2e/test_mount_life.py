"""How a mount begins, ends, and is found again."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.mounts import DEADLINE_SECONDS, Mounted, comes_true

PREPARE = """
await own.writer.put_file("folder/file", b"content")
await own.writer.make_directory("folder/inner")
await own.writer.symlink("link", "folder/file")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts(tmp_path: Path, number: signal.Signals) -> None:
    with Mounted(tmp_path / "drive", prepare=PREPARE) as mounted:
        assert mounted.terminate(number) == 0
        assert not mounted.is_mounted()


def test_cancelling_unmounts(tmp_path: Path) -> None:
    with Mounted(tmp_path / "drive", prepare=PREPARE) as mounted:
        assert mounted.process.stdin is not None
        mounted.process.stdin.close()
        assert mounted.wait() == 0
        assert not mounted.is_mounted()


@pytest.mark.parametrize("command", [["fusermount3", "-u"], ["umount"]])
def test_unmounting_ends_the_process(tmp_path: Path, command: list[str]) -> None:
    with Mounted(tmp_path / "drive", prepare=PREPARE) as mounted:
        assert (mounted.path / "folder/file").read_bytes() == b"content"
        assert comes_true(lambda: subprocess.run([*command, mounted.path], check=False).returncode == 0)
        assert mounted.wait() == 0


def test_it_unmounts_though_somebody_is_inside(tmp_path: Path) -> None:
    with Mounted(tmp_path / "drive", prepare=PREPARE) as mounted:
        command = ["sh", "-c", "echo in; read _"]
        with subprocess.Popen(
            command, cwd=mounted.path / "folder", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as shell:
            assert shell.stdout is not None
            assert shell.stdout.readline() == b"in\n"
            assert mounted.terminate() == 0
            assert not mounted.is_mounted()
            shell.communicate(b"\n", timeout=DEADLINE_SECONDS)


def test_a_mount_left_dead_is_mounted_over(tmp_path: Path) -> None:
    with Mounted(tmp_path / "drive", prepare=PREPARE) as dead:
        assert dead.terminate(signal.SIGKILL) == -signal.SIGKILL
        with pytest.raises(OSError, match="not connected"):
            os.listdir(dead.path)
        with Mounted.again(dead.path, prepare=PREPARE) as mounted:
            assert (mounted.path / "folder/file").read_bytes() == b"content"


def test_nothing_is_mounted_over_a_living_mount(tmp_path: Path) -> None:
    refused = pytest.raises(AssertionError, match="a drive is mounted there already")
    with Mounted(tmp_path / "drive", prepare=PREPARE) as mounted, refused:
        Mounted.again(mounted.path, prepare=PREPARE)


def test_numbers_are_the_same_after_mounting_again(tmp_path: Path) -> None:
    def numbers(path: Path) -> dict[str, int]:
        return {str(found.relative_to(path)): found.lstat().st_ino for found in path.rglob("*")}

    with Mounted(tmp_path / "drive", prepare=PREPARE) as mounted:
        first = numbers(mounted.path)
    with Mounted(tmp_path / "drive", prepare=PREPARE) as mounted:
        assert numbers(mounted.path) == first


def test_uid_gid_and_umask_are_shown(tmp_path: Path) -> None:
    with Mounted(tmp_path / "drive", prepare=PREPARE, uid=12, gid=34, umask=0o022, allow_other=True) as mounted:
        stat = (mounted.path / "folder/file").stat()
        assert (stat.st_uid, stat.st_gid, stat.st_mode) == (12, 34, 0o100755)


def test_an_end_is_read_first_in_a_file_of_3_gib(tmp_path: Path) -> None:
    prepare = """
from hyperfs.drive.stat import Stat
await own.content.append([bytes(1 << 20)] * 3071 + [bytes((1 << 20) - 3) + b"end"])
async with own.writer.batch() as batch:
    batch.put_stat("huge", Stat(0o100644, size=3 << 30, blocks=3072))
own.content.take_away(*range(3000))
"""
    with Mounted(tmp_path / "drive", prepare=prepare) as mounted, (mounted.path / "huge").open("rb") as file:
        assert os.fstat(file.fileno()).st_size == 3 << 30
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"end"


def test_an_unexpected_failure_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    with Mounted(tmp_path / "drive", prepare=PREPARE) as mounted:
        mounted.run("operations.view.lookup_now = None")
        with pytest.raises(OSError, match="Input/output error"):
            (mounted.path / "folder/file").stat()
        assert comes_true(lambda: any("failed unexpectedly" in line for line in mounted.log))
        mounted.run("del operations.view.lookup_now")
        assert (mounted.path / "folder/file").read_bytes() == b"content"
