"""How results and errors are put."""

import errno
import os
import sys
import time
from pathlib import Path

import click
import pytest
import trio
import trio.testing
from click.testing import CliRunner

from hyperfs.cli.common import describe, report, sole
from hyperfs.cli.main import cli
from hyperfs.cli.output import (
    count_text,
    day_text,
    drive_text,
    duration_text,
    print_table,
    printing_together,
    shown,
    size_text,
    time_text,
    where_text,
)
from hyperfs.cli.secrets import standing_lines
from hyperfs.daemon.answers import ForkTold, WriterState
from hyperfs.errors import BlockNotAvailable, InvalidKey, MountFailed, PathError, UsageError


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024 * 1024, "1.0 MiB"),
        (150 * 1024 * 1024, "150 MiB"),
        (999_600 * 1024, "976 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (1024**6, "1024 PiB"),
    ],
)
def test_sizes_are_put_as_people_read_them(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (61, "1 min"), (3700, "1 h 1 min"), (90000, "1 d 1 h")]
)
def test_durations_are_put_as_people_read_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize("milliseconds", [2**53, 2**63])
def test_a_time_beyond_any_calendar_does_not_fail(milliseconds: int) -> None:
    assert time_text(milliseconds)


def test_a_day_is_shorter_than_a_time_and_of_today_it_is_the_hour() -> None:
    now = time.time_ns() // 1_000_000
    assert day_text(86_400_000 * 400) == time_text(86_400_000 * 400)[:10]
    assert day_text(now) in (time_text(now)[11:], time_text(now)[:10])  # midnight may have been between
    assert day_text(2**80) == time_text(2**80)


def test_a_key_in_a_table_is_put_as_what_stands_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert drive_text("ab" * 32 + "+v1") == "abababababab+v1"
    assert drive_text("ab" * 32 + "+v1", {"ab" * 32: "photos"}) == "photos+v1"


def test_a_key_in_a_table_is_not_broken_where_it_gets_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    print_table(("drive", ""), [("ab" * 6, "yours, served, pinned, mounted")], whole=[0])
    assert [line.split("  ")[0].strip() for line in capsys.readouterr().out.splitlines()[1:]] == ["ab" * 6, ""]


def test_one_is_not_many() -> None:
    assert [count_text(count, "entry", "entries") for count in (0, 1, 1234)] == [
        "0 entries",
        "1 entry",
        "1,234 entries",
    ]


def test_a_terminal_never_gets_a_names_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert shown("a\x1b[31mb\n") == "a\ufffd[31mb\ufffd"


def test_nor_does_it_within_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error may be a terminal where standard output is none."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    report(PathError(errno.ENOENT, "a\x1b[31mb", "no such file or directory"), verbose=False)
    assert capsys.readouterr().err == "hyperfs: a\ufffd[31mb: no such file or directory\n"


def test_a_pipe_gets_a_name_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert shown("a\x1b[31mb") == "a\x1b[31mb"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BlockNotAvailable("gone"), 1),
        (InvalidKey("bad"), 1),
        (UsageError("wrong"), 2),
        (click.UsageError("wrong"), 2),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [UsageError("wrong")])]), 2),
        (ZeroDivisionError("a fault"), 1),
    ],
    ids=repr,
)
def test_each_error_has_its_exit_status(error: BaseException, status: int) -> None:
    assert report(error, verbose=False) == status


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report(BlockNotAvailable("nobody has it"), verbose=False)
    assert capsys.readouterr().err == "hyperfs: nobody has it\n"


def test_a_fault_of_ours_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    report(ZeroDivisionError("a fault"), verbose=False)
    assert "-v says more" in capsys.readouterr().err


def test_an_error_of_the_system_names_its_file() -> None:
    assert describe(OSError(errno.EACCES, "Permission denied", "/a/b")) == "/a/b: Permission denied"


def test_a_full_disk_is_said_to_be_the_stores() -> None:
    assert "disk of the store" in describe(OSError(errno.ENOSPC, "No space left on device"))


def test_a_mount_point_that_is_not_permitted_is_told_before_any_daemon_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnt").mkdir()
    monkeypatch.setattr("hyperfs.mount.mountpoint.os.geteuid", lambda: 65534)
    monkeypatch.setattr("hyperfs.mount.mountpoint.os.access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr("hyperfs.mount.mountpoint.shutil.which", lambda program: f"/bin/{program}")
    done = CliRunner().invoke(cli, ["mount", "--store", str(tmp_path / "store"), "ab" * 32, str(tmp_path / "mnt")])
    assert isinstance(done.exception, MountFailed)
    assert "not permitted" in describe(done.exception)


def test_a_group_is_told_as_the_first_error_in_it() -> None:
    inner = UsageError("wrong")
    assert sole(BaseExceptionGroup("tasks", [ExceptionGroup("more", [inner])])) is inner


def test_where_peers_are_accepted_names_all_addresses_and_not_one_family() -> None:
    assert where_text(["0.0.0.0:3282", "192.0.2.7:99"]) == "all addresses, port 3282, 192.0.2.7:99"
    assert where_text(["[::]:3282"]) == "all addresses, port 3282"
    assert where_text(["10.0.0.0:3282"]) == "10.0.0.0:3282"


@pytest.mark.parametrize(
    ("core", "said"),
    [
        ("aa" * 32, "FORKED     drive photos: them has 7 versions that contradict the 5 here; nothing is written"),
        (
            "bb" * 32,
            "FORKED     content bbbbbbbb: them has files with other content than those here; nothing is written",
        ),
    ],
)
def test_a_fork_is_told_in_versions_and_files(core: str, said: str) -> None:
    state = WriterState(core, 5, None, ForkTold(7, "them", accepted=False))
    (line,) = standing_lines([state], {"aa" * 32: "drive photos"})
    assert line.startswith(said)


async def test_lines_are_out_when_the_one_who_prints_them_waits(capsys: pytest.CaptureFixture[str]) -> None:
    async with printing_together() as print_line:
        await trio.testing.wait_all_tasks_blocked()
        print_line("one")
        print_line("two")
        assert capsys.readouterr().out == ""
        await trio.testing.wait_all_tasks_blocked()
        assert capsys.readouterr().out == "one\ntwo\n"
        print_line("three")
    assert capsys.readouterr().out == "three\n"


async def test_what_was_printed_is_out_before_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail_after_a_line() -> None:
        async with printing_together() as print_line:
            print_line("one")
            raise UsageError("that was all")

    with pytest.raises(UsageError):
        await fail_after_a_line()
    assert capsys.readouterr().out == "one\n"
