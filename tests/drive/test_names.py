"""Paths as a drive keeps them, and the names that nobody is shown."""

import errno

import pytest

from hyperfs.drive import names
from hyperfs.errors import PathError


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("", ""),
        ("/", ""),
        ("/a", "a"),
        ("a/", "a"),
        ("//a///b/", "a/b"),
        ("a\\b", "a/b"),
        ("\\a\\\\b", "a/b"),
        ("./a", "a"),
        (" a ", " a "),
        ("a:b", "a:b"),
    ],
)
def test_a_path_is_kept_as_the_references_drive_keeps_it(written: str, kept: str) -> None:
    assert names.normalise(written) == kept


@pytest.mark.parametrize("name", ["a", " ", "日本", "x" * 255, "é" * 127, "...", "\n", "~"])
def test_what_a_file_system_can_hold_is_presentable(name: str) -> None:
    assert names.is_presentable(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b", "x" * 256, "é" * 128, "\udc80"])
def test_what_it_cannot_hold_or_would_lead_out_is_not(name: str) -> None:
    assert not names.is_presentable(name)


@pytest.mark.parametrize(
    ("path", "code"),
    [("/", errno.EINVAL), ("a/../b", errno.EINVAL), ("a/" + "x" * 256, errno.ENAMETOOLONG), ("a\0", errno.EINVAL)],
)
def test_a_path_that_no_drive_should_hold_is_not_written(path: str, code: int) -> None:
    with pytest.raises(PathError) as raised:
        names.checked(path)
    assert raised.value.errno == code


def test_ancestors_are_named_from_the_root_down() -> None:
    assert names.ancestors("a/b/c") == ["a", "a/b"]
