"""A drive mounted to be written to: through the kernel, the real daemon, and their deaths."""

import ctypes
import errno
import mmap
import os
import stat as st
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.commands import eventually, hyperfs_in
from tests.support.disks import small_disk
from tests.support.writable import WritableMount, writable_mount

NO_REPLACE, EXCHANGE = 1, 2
NOBODY = 65534


FLUSHED = "--flush-interval", "0.5"


class Part(WritableMount):
    """A folder of a mounted drive, as if it were all of it."""

    def __init__(self, whole: WritableMount, name: str) -> None:
        self.hyperfs, self.key = whole.hyperfs, whole.key
        self.folder = whole.folder / name
        self.folder.mkdir()
        self._whole, self._name = whole, name

    def mount(self, *options: str) -> None:
        self._whole.mount(*options)

    def unmount(self) -> None:
        self._whole.unmount()

    def cat(self, path: str) -> bytes:
        return self._whole.cat(f"{self._name}/{path}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WritableMount]:
    with writable_mount(tmp_path_factory.mktemp("written"), *FLUSHED) as mounted:
        yield mounted


@pytest.fixture
def part(whole: WritableMount, tmp_path: Path) -> Iterator[WritableMount]:
    """A folder of a test's own, in a drive that is mounted once for many."""
    yield Part(whole, tmp_path.name)
    if [mount["writable"] for mount in whole.hyperfs.mounts()] != [True]:  # as the test left it
        if whole.folder.is_mount():
            whole.unmount()
        whole.mount(*FLUSHED)


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[WritableMount]:
    """A drive of a test's own, to which nobody else commits."""
    with writable_mount(tmp_path, *FLUSHED) as mounted:
        yield mounted


def renameat2(old: Path, new: Path, flags: int) -> int:
    """Return 0 or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags)
    return ctypes.get_errno() if failed else 0


def errno_of(action: Callable[[], object]) -> int:
    """Return the errno that an action fails with; 0 when it does not."""
    try:
        action()
    except OSError as error:
        return error.errno or 0
    return 0


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Have nobody write below a directory."""
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", directory], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(path: Path, mebibytes: int) -> None:
    with path.open("wb", buffering=0) as file:
        for _ in range(mebibytes):
            file.write(bytes(1 << 20))


def test_what_is_written_and_touched_by_turns_never_gets_older(part: WritableMount) -> None:
    path = part.folder / "f"
    times = []
    for _ in range(100):
        path.write_bytes(b"x")
        times.append(path.stat().st_mtime_ns)
        path.touch()
        times.append(path.stat().st_mtime_ns)
    assert times == sorted(times)


def test_what_is_written_is_a_version_within_the_flush_interval(part: WritableMount) -> None:
    (part.folder / "d").mkdir()
    (part.folder / "d/f").write_bytes(b"hello")
    assert (part.folder / "d/f").read_bytes() == b"hello"
    eventually(lambda: part.cat("d/f") == b"hello")


def test_nothing_written_is_no_version(drive: WritableMount) -> None:
    (drive.folder / "f").write_bytes(b"1")
    eventually(lambda: drive.cat("f") == b"1")
    version = drive.version()
    assert (drive.folder / "f").read_bytes() == b"1"
    os.listdir(drive.folder)
    drive.unmount()
    assert drive.version() == version


def test_unmounting_commits_everything(tmp_path: Path) -> None:
    with writable_mount(tmp_path, "--flush-interval", "3600") as drive, (drive.folder / "f").open("wb") as file:
        file.write(b"x" * 100_000)
        file.close()
        drive.unmount()
        assert drive.cat("f") == b"x" * 100_000


def test_writes_through_a_mapping_arrive(part: WritableMount) -> None:
    with (part.folder / "m").open("wb+") as file:
        file.truncate(3 * 4096)
        with mmap.mmap(file.fileno(), 3 * 4096) as mapping:
            mapping[5000:5005] = b"hello"
    expected = bytes(5000) + b"hello" + bytes(3 * 4096 - 5005)
    assert (part.folder / "m").read_bytes() == expected
    part.unmount()
    assert part.cat("m") == expected


def test_a_file_that_was_cut_off_reads_the_same_in_every_mount(drive: WritableMount) -> None:
    path = drive.folder / "f"
    path.write_bytes(b"0123456789" * 200_000)
    eventually(lambda: drive.cat("f") == b"0123456789" * 200_000)
    before = drive.hyperfs.json("info", drive.key)["content"]["bytes"]
    os.truncate(path, 700_001)
    drive.unmount()
    assert drive.cat("f") == (b"0123456789" * 70_001)[:700_001]
    assert drive.hyperfs.json("info", drive.key)["content"]["bytes"] == before + 700_001
    drive.mount("--read-only")
    assert path.read_bytes() == (b"0123456789" * 70_001)[:700_001]


def test_an_unlinked_file_lives_on_for_who_has_it_open(part: WritableMount) -> None:
    path = part.folder / "f"
    path.write_bytes(b"before")
    with path.open("rb+") as file:
        path.unlink()
        file.seek(0, os.SEEK_END)
        file.write(b" and after")
        file.flush()
        file.seek(0)
        assert file.read() == b"before and after"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert not path.exists()


def test_a_reader_of_the_old_file_keeps_it_when_another_is_renamed_over_it(part: WritableMount) -> None:
    path = part.folder / "f"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        (part.folder / "f.new").write_bytes(b"new")
        (part.folder / "f.new").rename(path)
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


def test_who_opened_a_file_to_read_it_sees_what_others_then_do_to_it(part: WritableMount) -> None:
    path = part.folder / "f"
    path.write_bytes(b"first")
    part.unmount()
    part.mount(*FLUSHED)
    with path.open("rb", buffering=0) as reader:
        assert reader.read() == b"first"
        with path.open("rb+", buffering=0) as writer:
            writer.write(b"other and longer")
            reader.seek(0)
            assert reader.read() == b"other and longer"
        eventually(lambda: part.cat("f") == b"other and longer")
        path.rename(part.folder / "g")
        (part.folder / "g").unlink()
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        reader.seek(0)
        assert reader.read() == b"other and longer"
    assert os.listdir(part.folder) == []


def test_who_has_a_file_open_sees_its_next_version(drive: WritableMount, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_bytes(b"one")
    drive.hyperfs("import", source, drive.key)
    eventually(lambda: (drive.folder / "f").exists())
    with (drive.folder / "f").open("rb", buffering=0) as reader:
        assert reader.read() == b"one"
        (source / "f").write_bytes(b"two, of the next version")
        drive.hyperfs("import", source, drive.key)
        eventually(lambda: os.pread(reader.fileno(), 100, 0) == b"two, of the next version")


def test_renames_exchange_and_refuse(part: WritableMount) -> None:
    a, b = part.folder / "a", part.folder / "b"
    a.write_bytes(b"a")
    b.write_bytes(b"b")
    assert renameat2(a, b, NO_REPLACE) == errno.EEXIST
    assert renameat2(a, b, EXCHANGE) == 0
    assert (a.read_bytes(), b.read_bytes()) == (b"b", b"a")


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [(st.S_IFIFO, None), (st.S_IFSOCK, None), (st.S_IFCHR, errno.EPERM)],
    ids=["fifo", "socket", "device"],
)
def test_special_files_are_made_except_devices(part: WritableMount, kind: int, wanted: int | None) -> None:
    path = part.folder / "special"
    if wanted is None:
        os.mknod(path, kind | 0o600)
        assert st.S_IFMT(path.stat().st_mode) == kind
        return
    assert errno_of(lambda: os.mknod(path, kind | 0o600, os.makedev(1, 3))) == wanted


def test_a_hard_link_is_not_permitted(part: WritableMount) -> None:
    (part.folder / "f").touch()
    with pytest.raises(PermissionError):
        os.link(part.folder / "f", part.folder / "g")


def test_times_are_kept_to_the_nanosecond_and_permissions_whole(part: WritableMount) -> None:
    path = part.folder / "f"
    path.touch()
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    path.chmod(0o2751)
    part.unmount()
    part.mount("--read-only")
    assert path.stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert st.S_IMODE(path.stat().st_mode) == 0o2751


def test_an_unprivileged_program_that_writes_clears_the_set_id_bits(tmp_path: Path) -> None:
    with writable_mount(tmp_path, "--allow-other") as drive:
        modes = []
        for command in ("echo x >> f", "truncate -s 3 f", ": > f"):
            path = drive.folder / "f"
            path.write_bytes(b"0123456789")
            path.chmod(0o6777)
            subprocess.run(
                ["sh", "-c", command], cwd=drive.folder, check=True, user=NOBODY, group=NOBODY, extra_groups=()
            )
            modes.append(oct(st.S_IMODE(path.stat().st_mode)))
        assert modes == ["0o777"] * 3


def test_extended_attributes_are_set_and_removed(part: WritableMount) -> None:
    path = part.folder / "f"
    path.touch()
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.two", b"")
    with pytest.raises(FileExistsError):
        os.setxattr(path, "user.one", b"2", os.XATTR_CREATE)
    os.removexattr(path, "user.one")
    assert os.listxattr(path) == ["user.two"]
    assert errno_of(lambda: os.setxattr(path, "trusted.one", b"1")) == errno.EOPNOTSUPP
    assert errno_of(lambda: os.setxattr(path, "user.", b"1")) == errno.EINVAL


def test_a_directory_of_thousands_is_renamed_at_once(drive: WritableMount) -> None:
    old = drive.folder / "old"
    old.mkdir()
    for number in range(1000):
        (old / f"{number}").write_bytes(b"%d" % number)
    eventually(lambda: drive.cat("old/999") == b"999")
    version = drive.version()
    old.rename(drive.folder / "new")
    assert (drive.folder / "new/77").read_bytes() == b"77"
    eventually(lambda: drive.cat("new/999") == b"999")
    assert drive.version() <= version + 1002
    assert drive.cat("old/999") == b""


def test_what_was_fsynced_outlives_the_mount_process(tmp_path: Path) -> None:
    with writable_mount(tmp_path, "--flush-interval", "3600") as drive:
        for round_number in range(2):
            path = drive.folder / f"f{round_number}"
            file = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(file, b"%d" % round_number * 70_000)
            os.fsync(file)
            drive.kill()
            with suppress(OSError):  # what it was open on is gone
                os.close(file)
            eventually(lambda path=path: path.exists())
            assert path.read_bytes() == b"%d" % round_number * 70_000
        drive.unmount()
        assert drive.cat("f1") == b"1" * 70_000


def test_the_death_of_the_daemon_loses_nothing(tmp_path: Path) -> None:
    with writable_mount(tmp_path, "--flush-interval", "0.3") as drive:
        for round_number in range(2):
            (drive.folder / f"before{round_number}").write_bytes(b"before")
            drive.hyperfs.kill_daemon()
            (drive.folder / f"after{round_number}").write_bytes(b"after")
            drive.hyperfs("status")
            eventually(lambda number=round_number: drive.cat(f"after{number}") == b"after")
            assert drive.cat(f"before{round_number}") == b"before"


def test_a_second_writable_mount_is_refused_and_a_read_only_one_is_not(drive: WritableMount, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    assert "--read-only" in drive.hyperfs.fails("mount", drive.key, second, status=2)
    drive.hyperfs("mount", drive.key, second, "--read-only")
    (drive.folder / "f").write_bytes(b"1")
    eventually(lambda: (second / "f").exists() and (second / "f").read_bytes() == b"1")
    assert errno_of(lambda: (second / "g").touch()) == errno.EROFS


def test_an_old_version_is_mounted_beside_and_cannot_be_written_to(drive: WritableMount, tmp_path: Path) -> None:
    (drive.folder / "f").write_bytes(b"1")
    eventually(lambda: drive.cat("f") == b"1")
    version = drive.version()
    (drive.folder / "f").write_bytes(b"2")
    old = tmp_path / "old"
    old.mkdir()
    drive.hyperfs("mount", f"{drive.key}+{version}", old)
    assert (old / "f").read_bytes() == b"1"
    assert errno_of(lambda: (old / "g").touch()) == errno.EROFS


def test_an_import_beside_the_mount_is_seen_in_it(drive: WritableMount, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "imported").write_bytes(b"from elsewhere")
    (drive.folder / "mine").write_bytes(b"mine")
    drive.hyperfs("import", source, drive.key)
    eventually(lambda: (drive.folder / "imported").exists())
    assert (drive.folder / "imported").read_bytes() == b"from elsewhere"
    eventually(lambda: drive.cat("mine") == b"mine")


def test_a_full_disk_is_told_to_the_writer_and_spoils_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 24) as small, hyperfs_in(small) as hyperfs:
        drive = WritableMount(hyperfs, tmp_path / "mnt", "--flush-interval", "0.2")
        (drive.folder / "kept").write_bytes(b"k" * 1_000_000)
        eventually(lambda: drive.cat("kept") == b"k" * 1_000_000)
        assert errno_of(lambda: fill(drive.folder / "big", 64)) == errno.ENOSPC
        (drive.folder / "big").unlink()
        (drive.folder / "small").write_bytes(b"fits again")
        drive.unmount()
        assert drive.cat("kept") == b"k" * 1_000_000
        assert drive.cat("small") == b"fits again"
        hyperfs("check", drive.key)


def test_a_store_that_became_read_only_is_told_to_the_writer_and_spoils_nothing(tmp_path: Path) -> None:
    with writable_mount(tmp_path, "--flush-interval", "0.2") as drive:
        (drive.folder / "kept").write_bytes(b"kept")
        eventually(lambda: drive.cat("kept") == b"kept")
        with read_only(drive.hyperfs.store / ".hyperfs/staging"):
            assert errno_of(lambda: fill(drive.folder / "big", 1)) == errno.EROFS
            assert (drive.folder / "kept").read_bytes() == b"kept"
        fill(drive.folder / "big", 1)
        drive.unmount()
        assert drive.cat("kept") == b"kept"
        assert drive.cat("big") == bytes(1 << 20)
