"""What every kind of storage does with a file."""

import errno
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hyperfs.errors import Closed, StoreLocked
from hyperfs.storage import DeferredDirectory, Directory, DiskDirectory, MemoryDirectory, RandomAccessFile


@pytest.fixture(params=["disk", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    return DiskDirectory(tmp_path / "folder") if request.param == "disk" else MemoryDirectory()


def test_what_was_written_is_read(directory: Directory) -> None:
    file = directory.open("a", create=True)
    file.write(3, b"hello")
    assert file.read(3, 5) == b"hello"
    file.close()


def test_a_gap_reads_as_zeros(directory: Directory) -> None:
    file = directory.open("a", create=True)
    file.write(3, b"x")
    assert file.read(0, 4) == b"\x00\x00\x00x"
    file.close()


@pytest.mark.parametrize("method", ["read", "read_nowait"])
def test_a_read_past_the_end_is_short(directory: Directory, method: str) -> None:
    file = directory.open("a", create=True)
    file.write(0, b"hello")
    assert getattr(file, method)(3, 10) == b"lo"
    file.close()


def test_parts_are_written_one_after_another(directory: Directory) -> None:
    file = directory.open("a", create=True)
    parts = [bytes([number % 256]) * (number % 7) for number in range(2000)]
    file.write_all(2, parts)
    assert file.read(2, 10_000) == b"".join(parts)
    file.close()


@pytest.mark.parametrize("sizes", [[1_000_003], [300_000, 10, 300_000], [100_000] * 9], ids=str)
def test_a_disk_that_takes_a_part_at_a_time_gets_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    plain, plain_vector = os.pwrite, os.pwritev
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: plain(fd, data[:50_000], offset))
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, offset: plain_vector(fd, [parts[0][:50_000]], offset))
    file = DiskDirectory(tmp_path).open("a", create=True)
    parts = [random.Random(number).randbytes(size) for number, size in enumerate(sizes)]
    file.write_all(3, parts)
    assert file.read(3, sum(sizes)) == b"".join(parts)
    file.close()


def test_a_hole_reads_as_zeros_and_keeps_the_size(directory: Directory) -> None:
    file = directory.open("a", create=True)
    file.write(0, b"x" * 20_000)
    file.punch_hole(5, 30_000)
    assert file.read(0, 20_000) == b"x" * 5 + bytes(19_995)
    file.close()


def test_truncating_cuts_and_extends(directory: Directory) -> None:
    file = directory.open("a", create=True)
    file.write(0, b"hello")
    file.truncate(2)
    file.truncate(4)
    assert file.read(0, 10) == b"he\x00\x00"
    file.close()


def test_a_file_that_is_not_there_is_not_made_by_opening(directory: Directory) -> None:
    with pytest.raises(FileNotFoundError):
        directory.open("a")
    assert not directory.exists("a")


def test_a_second_lock_is_refused_until_the_first_is_closed(directory: Directory) -> None:
    first, second = directory.open("a", create=True), directory.open("a", create=True)
    first.lock()
    with pytest.raises(StoreLocked):
        second.lock()
    first.close()
    second.lock()
    second.close()


def test_the_holder_of_a_lock_is_named(tmp_path: Path) -> None:
    code = (
        "import fcntl, os, sys\n"
        "f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(f, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        file = DiskDirectory(tmp_path).open("a")
        with pytest.raises(StoreLocked, match=f"process {process.pid};"):
            file.lock()
        file.close()
        assert process.stdin is not None
        process.stdin.close()


def test_a_read_that_would_wait_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DiskDirectory(tmp_path).open("a", create=True)
    file.write(0, b"hello")

    def preadv(*arguments: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "not in the page cache")

    monkeypatch.setattr(os, "preadv", preadv)
    assert file.read_nowait(0, 5) is None
    file.close()


def test_a_file_system_that_cannot_tell_is_read_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DiskDirectory(tmp_path).open("a", create=True)
    file.write(0, b"hello")
    real = os.preadv

    def preadv(descriptor: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(errno.EOPNOTSUPP, "no RWF_NOWAIT here")
        return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    assert file.read_nowait(0, 5) == b"hello"
    file.close()


def test_a_hole_frees_space(tmp_path: Path) -> None:
    file = DiskDirectory(tmp_path).open("a", create=True)
    file.write(0, b"x" * (1 << 20))
    file.sync()
    before = file.allocated()
    file.punch_hole(0, 1 << 20)
    assert file.allocated() < before
    file.close()


@pytest.mark.parametrize(
    "use",
    [
        lambda file: file.read_nowait(0, 1),
        lambda file: file.read(0, 1),
        lambda file: file.write(0, b"x"),
        lambda file: file.write_all(0, [b"x"]),
        lambda file: file.size(),
        lambda file: file.truncate(0),
        lambda file: file.punch_hole(0, 1),
        lambda file: file.allocated(),
        lambda file: file.sync(),
    ],
    ids=["read_nowait", "read", "write", "write_all", "size", "truncate", "punch_hole", "allocated", "sync"],
)
def test_a_closed_file_says_so(directory: Directory, use: Callable[[RandomAccessFile], object]) -> None:
    file = directory.open("a", create=True)
    file.write(0, b"x")
    file.close()
    file.close()
    with pytest.raises(Closed, match="closed"):
        use(file)


def test_a_file_closed_under_a_thread_that_reads_stays_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DiskDirectory(tmp_path).open("a", create=True)
    file.write(0, b"mine")
    reading, go_on = threading.Event(), threading.Event()
    plain = os.pread

    def slow(descriptor: int, size: int, offset: int) -> bytes:
        reading.set()
        go_on.wait()
        return plain(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", slow)
    with ThreadPoolExecutor() as pool:
        found = pool.submit(file.read, 0, 4)
        reading.wait()
        file.close()
        (tmp_path / "b").write_bytes(b"another's")
        with (tmp_path / "b").open("rb"):
            go_on.set()
            assert found.result() == b"mine"
    assert not any(os.readlink(link).endswith("/a") for link in descriptors())


def descriptors() -> list[Path]:
    """The links to what this process has open, but for the one that lists them."""
    return [link for link in Path("/proc/self/fd").iterdir() if link.exists()]


def test_the_next_data_lies_behind_a_hole(tmp_path: Path) -> None:
    file = DiskDirectory(tmp_path).open("a", create=True)
    file.write(0, b"x")
    file.write(1 << 20, b"y")
    assert file.next_data(0) == 0
    assert 4096 <= file.next_data(8192) <= 1 << 20
    assert file.next_data((1 << 20) + 4096) == file.size()
    file.close()


def test_a_folder_that_cannot_be_synced_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk cannot")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="cannot"):
        DiskDirectory(tmp_path).sync()


def test_a_folder_of_a_file_system_that_syncs_none_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "not for folders")

    monkeypatch.setattr(os, "fsync", refuse)
    DiskDirectory(tmp_path).sync()


def test_nothing_is_on_the_disk_before_it_is_kept(tmp_path: Path) -> None:
    directory = DeferredDirectory(tmp_path / "folder")
    file = directory.open("a", create=True)
    file.write(3, b"hello")
    assert not (tmp_path / "folder").exists()
    directory.keep()
    assert (tmp_path / "folder" / "a").read_bytes() == b"\x00\x00\x00hello"
    file.write(0, b"x")
    assert file.read(0, 8) == b"x\x00\x00hello"
    file.close()


def test_a_lock_is_kept_with_its_file(tmp_path: Path) -> None:
    directory = DeferredDirectory(tmp_path / "folder")
    file = directory.open("a", create=True)
    file.lock()
    directory.keep()
    other = DiskDirectory(tmp_path / "folder").open("a")
    with pytest.raises(StoreLocked):
        other.lock()
    other.close()
    file.close()


def test_a_file_that_is_dropped_without_being_closed_says_so_and_keeps_nothing_open(tmp_path: Path) -> None:
    file: RandomAccessFile | None = DiskDirectory(tmp_path).open("a", create=True)
    heard: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda what: heard.append(what.exc_value))
        file = None
    assert [type(error) for error in heard] == [ResourceWarning]
    assert "a was not closed" in str(heard[0])
    assert file is None
    assert not any(os.readlink(link).endswith("/a") for link in descriptors())


@pytest.mark.parametrize("method", ["read", "read_nowait"])
def test_a_file_that_rests_holds_nothing_until_it_is_read(tmp_path: Path, method: str) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    before = len(descriptors())
    file = DiskDirectory(tmp_path, read_only=True).open("a")
    file.rest()
    file.rest()
    assert len(descriptors()) == before
    assert getattr(file, method)(1, 3) == b"ell"
    assert len(descriptors()) == before + 1
    file.rest()
    file.close()
    with pytest.raises(Closed):
        getattr(file, method)(1, 3)
    assert len(descriptors()) == before


def test_a_file_does_not_rest_while_a_thread_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    file = DiskDirectory(tmp_path, read_only=True).open("a")
    pread = os.pread

    def rest_and_read(descriptor: int, size: int, offset: int) -> bytes:
        file.rest()
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", rest_and_read)
    assert file.read(0, 5) == b"hello"
    file.close()


def test_what_is_gone_when_a_file_wakes_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    file = DiskDirectory(tmp_path, read_only=True).open("a")
    file.rest()
    (tmp_path / "a").unlink()
    with pytest.raises(FileNotFoundError):
        file.read_nowait(0, 5)
    file.close()
