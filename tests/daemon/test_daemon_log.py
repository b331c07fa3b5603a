"""The daemon's log, which is put aside while it is written to."""

import os
from pathlib import Path

import pytest
import trio

from hyperfs.daemon import log_file
from hyperfs.daemon.log_file import LOOK_SECONDS, follow_log, is_log, open_log, put_aside_if_long, reopen

from ..support.clocks import settled


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "daemon.log"


def contents(path: Path) -> tuple[bytes, bytes]:
    """Return what stands in the log, and in the one that was put aside."""
    return path.read_bytes(), path.with_suffix(".log.old").read_bytes()


def test_it_is_its_users_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        os.close(open_log(path))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_short_one_stays(path: Path) -> None:
    path.write_bytes(bytes(log_file.LOG_BYTES))
    put_aside_if_long(path)
    assert path.stat().st_size == log_file.LOG_BYTES


def test_a_long_one_takes_the_place_of_the_one_before(path: Path) -> None:
    path.with_suffix(".log.old").write_text("before")
    path.write_bytes(bytes(log_file.LOG_BYTES + 1))
    put_aside_if_long(path)
    assert (path.exists(), path.with_suffix(".log.old").stat().st_size) == (False, log_file.LOG_BYTES + 1)
    put_aside_if_long(path)


async def test_all_who_write_to_it_go_on_in_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, patient_clock: trio.abc.Clock
) -> None:
    daemon, mount = open_log(path), open_log(path)
    try:
        async with trio.open_nursery() as nursery:
            for descriptor, keeps_short in ((daemon, True), (mount, False)):
                monkeypatch.setattr(log_file, "_OUTPUTS", (descriptor,))
                nursery.start_soon(lambda is_daemon=keeps_short: follow_log(path, keeps_short=is_daemon))
                await settled()
            os.write(daemon, bytes(log_file.LOG_BYTES + 1))
            await trio.sleep(3 * LOOK_SECONDS)
            os.write(mount, b"mount\n")
            os.write(daemon, b"daemon\n")
            nursery.cancel_scope.cancel()
        assert contents(path) == (b"mount\ndaemon\n", bytes(log_file.LOG_BYTES + 1))
    finally:
        os.close(daemon)
        os.close(mount)


async def test_what_is_no_log_is_left_alone(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = open_log(tmp_path / "elsewhere")
    monkeypatch.setattr(log_file, "_OUTPUTS", (elsewhere,))
    try:
        await follow_log(path, keeps_short=True)
        assert is_log(tmp_path / "elsewhere", elsewhere)
    finally:
        os.close(elsewhere)


def test_a_disk_that_takes_no_new_one_leaves_the_old_one_in_use(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = open_log(path)
    try:
        path.rename(path.with_suffix(".log.old"))
        (path.parent / "daemon.log").mkdir()
        with pytest.raises(OSError, match="directory"):
            reopen(path, [descriptor])
        assert is_log(path.with_suffix(".log.old"), descriptor)
    finally:
        os.close(descriptor)
