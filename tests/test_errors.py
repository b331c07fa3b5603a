"""The errors: one table of errnos, and messages that name what was wrong."""

import errno

import pytest

from hyperfs import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.HyperfsError("x"), errno.EIO),
        (errors.BlockNotAvailable("x"), errno.EIO),
        (errors.NotWritable("x"), errno.EROFS),
        (errors.StoreLocked("x"), errno.EBUSY),
        (errors.UnknownVersion("x"), errno.ENOENT),
        (errors.PathError(errno.ELOOP, "/a", "too many links"), errno.ELOOP),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (OSError("without a number"), errno.EIO),
        (RuntimeError("ours to fix"), errno.EIO),
    ],
)
def test_errno_of(error: BaseException, code: int) -> None:
    assert errors.errno_of(error) == code


def test_a_path_error_names_the_path_first() -> None:
    assert str(errors.PathError(errno.ENOENT, "/a/b", "no such file")) == "/a/b: no such file"


def test_keys_are_shortened_to_eight_digits() -> None:
    assert errors.short(bytes.fromhex("0123456789abcdef")) == "01234567"
