"""What the kernel is told of an entry."""

import stat as st
from dataclasses import replace
from typing import Any

import pytest

from hyperfs.drive.stat import Stat
from hyperfs.mount.options import MountOptions
from hyperfs.mount.presenter import Presenter
from hyperfs.mount.staging.nodes import attributes_of
from hyperfs.mount.view import Answer

FILE = Stat(st.S_IFREG | 0o640, 1000, 1001, size=1025, mtime=1_234_567_890_123, ctime=1_234_567_890_456)


def shown(stat: Stat, **options: int) -> Any:
    presenter = Presenter(MountOptions(**options))  # type: ignore[arg-type]  # ids only
    return presenter.of(Answer(42, attributes_of(stat), 1.0))


def test_what_the_drive_says_is_shown() -> None:
    answer = shown(FILE)
    assert (answer.st_ino, answer.st_mode, answer.st_uid, answer.st_gid) == (42, FILE.mode, 1000, 1001)
    assert (answer.st_size, answer.st_blocks, answer.st_nlink) == (1025, 3, 1)


def test_times_are_kept_to_the_millisecond() -> None:
    answer = shown(FILE)
    assert (answer.st_mtime_ns, answer.st_ctime_ns) == (1_234_567_890_123_000_000, 1_234_567_890_456_000_000)
    assert answer.st_atime_ns == answer.st_mtime_ns


def test_uid_and_gid_replace_the_drives() -> None:
    answer = shown(FILE, uid=5, gid=6)
    assert (answer.st_uid, answer.st_gid) == (5, 6)


def test_umask_replaces_the_permissions_and_keeps_the_type() -> None:
    assert shown(FILE, umask=0o027).st_mode == st.S_IFREG | 0o750


def test_a_type_that_does_not_exist_is_shown_as_a_file() -> None:
    assert shown(replace(FILE, mode=0o644)).st_mode == st.S_IFREG | 0o644


@pytest.mark.parametrize("mtime", [2**63, 2**64 - 1])
def test_a_time_beyond_any_clock_is_cut(mtime: int) -> None:
    assert shown(replace(FILE, mtime=mtime)).st_mtime_ns > 0


def test_an_owner_that_no_system_has_is_nobody() -> None:
    assert shown(replace(FILE, uid=0xFFFF_FFFF)).st_uid == 65534


def test_a_links_size_is_that_of_its_target() -> None:
    assert shown(Stat(st.S_IFLNK | 0o777, linkname="äb", size=99)).st_size == 3
