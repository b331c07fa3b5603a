"""What an import leaves out because it is told to."""

from pathlib import Path

import pytest

from hyperfs.drive.ignoring import IGNORE_FILE, Ignoring
from hyperfs.errors import UsageError


@pytest.mark.parametrize(
    ("patterns", "path", "is_directory", "left_out"),
    [
        (["*.o"], "a/b.o", False, True),
        (["*.o"], "a/b.c", False, False),
        (["*.o", "!keep.o"], "a/keep.o", False, False),
        (["build/"], "a/build", True, True),
        (["build/"], "a/build", False, False),
        (["/build"], "a/build", True, False),
        (["a/**/b"], "a/x/y/b", False, True),
        (["# no pattern", ""], "# no pattern", False, False),
        ([], "a", False, False),
    ],
)
def test_patterns_mean_what_they_mean_to_git(
    patterns: list[str], path: str, is_directory: bool, left_out: bool
) -> None:
    assert Ignoring(patterns).leaves_out(path, is_directory=is_directory) is left_out


def test_a_file_holds_below_its_directory_and_overrides_those_above(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / IGNORE_FILE).write_text("*.o\n/top\n")
    (tmp_path / "a" / IGNORE_FILE).write_text("!*.o\n/top\n")
    ignoring = Ignoring()
    for directory in ("", "a"):
        ignoring.enter(tmp_path, directory)
    paths = ("x.o", "a/x.o", "a/b/x.o", "top", "a/top", "a/b/top")
    assert [path for path in paths if ignoring.leaves_out(path, is_directory=False)] == ["x.o", "top", "a/top"]


def test_what_is_given_overrides_what_files_say(tmp_path: Path) -> None:
    (tmp_path / IGNORE_FILE).write_text("*.o\n")
    ignoring = Ignoring(["!x.o"])
    ignoring.enter(tmp_path, "")
    assert not ignoring.leaves_out("x.o", is_directory=False)
    assert ignoring.leaves_out("y.o", is_directory=False)


def test_what_is_no_pattern_is_told_with_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--exclude: .*'!'"):
        Ignoring(["!"])
    (tmp_path / IGNORE_FILE).write_text("!\n")
    with pytest.raises(UsageError, match=IGNORE_FILE):
        Ignoring().enter(tmp_path, "")
