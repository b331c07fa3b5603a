"""A drive that is written to through a mount, and read through one elsewhere: another store, another daemon, TCP."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.commands import eventually, hyperfs_in
from ..support.writable import writable_mount


@dataclass
class Folders:
    """Where the drive is written, and where it is read."""

    here: Path
    there: Path


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Folders]:
    with (
        writable_mount(tmp_path, "--flush-interval", "0.2") as written,
        hyperfs_in(tmp_path, "other") as other,
    ):
        (address,) = written.hyperfs.json("serve", written.key, "--listen", "127.0.0.1:0")["listening"]
        there = tmp_path / "there"
        there.mkdir()
        other("mount", written.key, there, "--peer", address)
        yield Folders(written.folder, there)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_what_is_written_renamed_and_deleted_is_seen_elsewhere(folders: Folders) -> None:
    (folders.here / "a/b").mkdir(parents=True)
    (folders.here / "a/b/file").write_bytes(b"one")
    eventually(lambda: read(folders.there / "a/b/file") == b"one")
    (folders.here / "a/b/file").write_bytes(b"two")
    (folders.here / "a").rename(folders.here / "c")
    eventually(lambda: read(folders.there / "c/b/file") == b"two")
    eventually(lambda: not (folders.there / "a").exists())  # the kernel is told of each name by itself
    (folders.here / "c/b/file").unlink()
    eventually(lambda: not (folders.there / "c/b/file").exists())
    assert list((folders.there / "c").iterdir()) == [folders.there / "c/b"]


def test_a_file_that_is_replaced_is_whole_elsewhere_at_any_time(folders: Folders) -> None:
    contents = [b"%c" % (65 + number) * (50_000 + number) for number in range(30)]
    seen = {b""}
    for content in contents:
        (folders.here / "new").write_bytes(content)
        seen.add(read(folders.there / "file"))
        (folders.here / "new").rename(folders.here / "file")
        seen.add(read(folders.there / "file"))
    eventually(lambda: read(folders.there / "file") == contents[-1])
    assert seen <= {b"", *contents}
