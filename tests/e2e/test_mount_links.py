"""Symbolic links of somebody else's drive, followed by a real kernel."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import Mounted

PREPARE = """
await own.writer.put_file("folder/deep/file", b"content")
for name, target in (
    ("absolute", "/folder/deep/file"),
    ("short", "folder/deep"),
    ("twice", "/absolute"),
    ("through", "/folder/../folder/deep/file"),
    ("outside", "../" * 20 + "etc/passwd"),
    ("host", "/etc/passwd"),
    ("loop", "/loop"),
    ("sly", "short/../../absolute"),
    ("slyer", "short/../../../etc/passwd"),
):
    await own.writer.symlink(name, target)
own.metadata.writable = False
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with Mounted(tmp_path_factory.mktemp("links") / "drive", prepare=PREPARE) as mounted:
        yield mounted.path


@pytest.mark.parametrize("name", ["absolute", "twice", "through", "short/file", "sly"])
def test_a_target_is_found_inside_the_drive(folder: Path, name: str) -> None:
    assert (folder / name).read_bytes() == b"content"


@pytest.mark.parametrize("name", ["outside", "host", "slyer"])
def test_nothing_outside_is_reached(folder: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        (folder / name).read_bytes()
    assert os.path.islink(folder / name)


def test_a_loop_ends(folder: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        (folder / "loop").read_bytes()


def test_a_target_is_shown_as_it_is_stored_when_that_is_wanted(tmp_path: Path) -> None:
    with Mounted(tmp_path / "drive", prepare=PREPARE, confines_links=False) as mounted:
        assert os.readlink(mounted.path / "host") == "/etc/passwd"
