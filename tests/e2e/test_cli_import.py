"""An import that does not get to its end, and the one that goes on with it."""

import os
import pty
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.commands import Command, Hyperfs, hyperfs_in
from ..support.waiting_daemon import daemon_that_waits_and_fails


@pytest.fixture
def hyperfs(tmp_path: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path) as commands:
        yield commands


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "my source"
    folder.mkdir()
    (folder / "file").write_text("content")
    return folder


def begun_of(command: Command) -> str:
    """Return the key of the drive that an import says it begins."""
    assert command.stderr is not None
    return command.stderr.readline().decode().removeprefix("a new drive: ").strip()


def interrupted(hyperfs: Hyperfs, source: Path, *, by: signal.Signals = signal.SIGINT, status: int = 130) -> str:
    """Interrupt an import before anything is in the drive, where nothing else can end it; return the drive's key."""
    with daemon_that_waits_and_fails(hyperfs) as (waits, _, _):
        waits.touch()
        with hyperfs.start("import", source) as command:
            key = begun_of(command)
            command.send_signal(by)
            output, errors = command.communicate(timeout=240)
        assert (command.returncode, output) == (status, b"")
        assert f"hyperfs import '{source}' {key}" in errors.decode()
    return key


@pytest.mark.parametrize(("by", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_what_was_interrupted_says_how_to_go_on_and_that_goes_on(
    hyperfs: Hyperfs, source: Path, by: signal.Signals, status: int
) -> None:
    key = interrupted(hyperfs, source, by=by, status=status)
    assert hyperfs("import", source, key) == f"{key}\n"
    assert hyperfs("cat", key, "file") == "content"
    assert "begun" not in hyperfs.run("import", source).stderr.decode()


def test_another_import_of_the_same_folder_tells_of_the_drive_that_was_begun(hyperfs: Hyperfs, source: Path) -> None:
    key = interrupted(hyperfs, source)
    done = hyperfs.run("import", source / ".")
    assert f"drive {key} was begun of this folder" in done.stderr.decode()
    assert done.stdout.decode().strip() not in (key, "")


@pytest.mark.parametrize(("answer", "is_the_same"), [("y", True), ("n", False)])
def test_on_a_terminal_it_is_asked_whether_that_drive_is_meant(
    hyperfs: Hyperfs, source: Path, answer: str, is_the_same: bool
) -> None:
    key = interrupted(hyperfs, source)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        printed = hyperfs("import", source, stdin=theirs).strip()
    finally:
        os.close(ours)
        os.close(theirs)
    assert (printed == key) is is_the_same


def test_a_daemon_that_is_killed_meanwhile_is_no_reason_to_begin_again(hyperfs: Hyperfs, source: Path) -> None:
    with daemon_that_waits_and_fails(hyperfs) as (waits, _, process):
        waits.touch()
        with hyperfs.start("import", source) as command:
            key = begun_of(command)
            process.kill()
            errors = command.communicate(timeout=240)[1].decode()
        assert command.returncode == 1
    assert f"hyperfs import '{source}' {key}" in errors
    hyperfs("import", source, key)
    assert hyperfs("cat", key, "file") == "content"
