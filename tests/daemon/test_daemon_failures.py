"""Errors through the control socket."""

import errno

import pytest

from hyperfs.daemon.failures import Described, describe, exception_of
from hyperfs.errors import (
    BlockNotAvailable,
    ConflictingLength,
    DaemonError,
    HyperfsError,
    MountFailed,
    PathError,
    StoreLocked,
)


@pytest.mark.parametrize("kind", [BlockNotAvailable, ConflictingLength, StoreLocked])
def test_our_own_errors_arrive_as_they_were(kind: type[HyperfsError]) -> None:
    arrived = exception_of(describe(kind("what was wrong")))
    assert (type(arrived), str(arrived)) == (kind, "what was wrong")


def test_a_path_error_keeps_its_path_and_errno() -> None:
    arrived = exception_of(describe(PathError(errno.ELOOP, "a/b", "mounted inside itself")))
    assert isinstance(arrived, PathError)
    assert (arrived.path, arrived.errno, str(arrived)) == ("a/b", errno.ELOOP, "a/b: mounted inside itself")


def test_an_errno_of_its_own_is_kept() -> None:
    error = MountFailed("not empty")
    error.errno = errno.ENOTEMPTY
    arrived = exception_of(describe(error))
    assert isinstance(arrived, MountFailed)
    assert arrived.errno == errno.ENOTEMPTY


def test_an_error_of_the_operating_system_keeps_number_and_file() -> None:
    arrived = exception_of(describe(OSError(errno.ENOSPC, "No space left on device", "/store/data")))
    assert isinstance(arrived, OSError)
    assert (arrived.errno, arrived.filename) == (errno.ENOSPC, "/store/data")


def test_any_other_error_becomes_one_that_points_to_the_log() -> None:
    arrived = exception_of(describe(KeyError("x")))
    assert isinstance(arrived, DaemonError)
    assert "log" in str(arrived)


@pytest.mark.parametrize("kind", ["SystemExit", "errno", "HyperfsErrorX", ""])
def test_an_unknown_kind_never_becomes_anything_but_a_daemon_error(kind: str) -> None:
    assert type(exception_of(Described(kind, "m"))) is DaemonError
