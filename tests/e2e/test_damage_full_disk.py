"""A disk that is full while something is fetched: it is told, what is here goes on, and space that is made is used."""

import mmap
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from hyperfs.core.store import run_store
from hyperfs.daemon.pins import NO_ROOM

from ..support.commands import Hyperfs, eventually, hyperfs_in
from ..support.disks import fill, small_disk
from ..support.patterns import pattern

BIG = 9_000_000


@dataclass(frozen=True, slots=True)
class Small:
    """A store on a disk of 4 MiB, that has mounted a drive with a file of more than that at ``folder``."""

    reader: Hyperfs
    key: str
    address: str
    folder: Path
    disk: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The key of a drive that is served, and where."""
    directory = tmp_path_factory.mktemp("served")
    source = directory / "source"
    source.mkdir()
    (source / "small").write_bytes(pattern("small", 100_000))
    (source / "big").write_bytes(pattern("big", BIG))
    with hyperfs_in(directory, "writer") as writer:
        key = writer.imported(source)
        (address,) = writer.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
        yield key, address


@pytest.fixture
def small(served: tuple[str, str], tmp_path: Path) -> Iterator[Small]:
    key, address = served
    folder = tmp_path / "mnt"
    folder.mkdir()
    with small_disk(tmp_path / "disk", 4) as disk, hyperfs_in(disk) as reader:
        reader("mount", key, folder, "--peer", address, "--timeout", "10")
        assert (folder / "small").read_bytes() == pattern("small", 100_000)
        with (reader.store / ".hyperfs/daemon.log").open("ab") as log:  # a page for what is told once the disk is full
            log.write(b"\n" * (mmap.PAGESIZE - log.tell() % mmap.PAGESIZE + 1))
        yield Small(reader, key, address, folder, disk)
        reader("stop")


def read_big(small: Small) -> bytes:
    return (small.folder / "big").read_bytes()


def test_a_read_that_fills_the_disk_is_an_error_and_the_rest_goes_on(small: Small) -> None:
    pid = small.reader.daemon_pid
    with pytest.raises(OSError, match=r"Input/output error|No space left on device"):
        read_big(small)
    eventually(lambda: "No space left on device" in small.reader.log)
    assert (small.folder / "small").read_bytes() == pattern("small", 100_000)
    assert small.reader.run("cat", small.key, "small").stdout == pattern("small", 100_000)
    assert small.reader.daemon_pid == pid
    assert "Traceback" not in small.reader.log


def test_a_command_that_fills_the_disk_says_so(small: Small) -> None:
    assert "No space left on device" in small.reader.fails("cat", small.key, "big", "--timeout", "10")


def test_what_is_here_can_be_mounted_on_a_full_disk(small: Small, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(OSError, match=r"error|space"):
        read_big(small)
    fill(small.disk)
    small.reader("mount", small.key, other)
    for folder in (small.folder, other):
        assert (folder / "small").read_bytes() == pattern("small", 100_000)
    assert "Traceback" not in small.reader.log


def test_once_there_is_space_reading_goes_on(small: Small) -> None:
    with pytest.raises(OSError, match=r"error|space"):
        read_big(small)
    subprocess.run(["mount", "-o", "remount,size=40m", small.disk], check=True)
    eventually(lambda: readable(small))
    assert read_big(small) == pattern("big", BIG)
    small.reader("umount", small.folder)
    small.reader("stop")
    assert trio.run(audit, small.reader.store) == [[], []]


def test_a_disk_that_a_pinned_drive_filled_is_told_and_freed_again(small: Small) -> None:
    reader = small.reader
    reader("pin", small.key)
    eventually(lambda: pinned(reader)["problem"] == NO_ROOM)
    fill(small.disk)
    assert NO_ROOM in reader("status")
    reader.kill_daemon()
    assert "unpin" in reader.fails("clear", small.key, status=2)
    reader("unpin", small.key)
    reader("umount", small.folder)
    assert (reader.json("status")["pinned"], reader.mounts()) == ([], [])
    assert reader.json("clear", small.key)["bytes"] > BIG // 4
    assert (reader.store / ".hyperfs/reserve").stat().st_blocks


def pinned(reader: Hyperfs) -> dict[str, Any]:
    (drive,) = (drive for drive in reader.json("status")["drives"] if drive["pinned"])
    return dict(drive)


def readable(small: Small) -> bool:
    try:
        read_big(small)
    except OSError:
        return False
    return True


async def audit(path: Path) -> list[list[int]]:
    async with run_store(path) as store:
        return [await (await store.core(key)).audit() for key in list(store.keys())]
