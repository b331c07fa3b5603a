"""What a program sees in a mounted drive."""

import concurrent.futures
import ctypes
import errno
import mmap
import os
import stat as st
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hyperfs.mount.affinity import LOOK_EVERY
from tests.support.mounts import DEADLINE_SECONDS, Mounted, comes_true

LONG_NAME = "ö" * 127 + "x"
PREPARE = """
from hyperfs.drive.stat import Stat
async with own.writer.batch() as batch:
    await batch.put_file("a/b/c.txt", b"hello world\\n", mode=0o100640, mtime=1234567890123)
    await batch.put_file("empty", b"")
    await batch.put_file("with space/ünïcödé ☃.txt", b"snow")
    await batch.put_file("long/" + LONG_NAME, b"long")
    await batch.put_file("/".join(f"level{n}" for n in range(60)), b"deep")
    await batch.put_file("large.bin", bytes(range(256)) * 4096 * 2)
    await batch.put_file("run.sh", b"#!/bin/sh\\necho ran\\n", mode=0o100755)
    await batch.make_directory("folder", mode=0o40750)
    await batch.symlink("relative", "a/b/c.txt")
    await batch.symlink("absolute", "/etc/hostname")
    await batch.symlink("dangling", "nowhere")
    for number in range(20000):
        batch.put_stat(f"big/file-{number:05}", Stat(0o100644, mtime=number))
await own.writer.set_attribute("a/b/c.txt", "user.colour", b"blue")
await own.writer.set_attribute("a/b/c.txt", "plain", b"x")
await own.writer.set_attribute("a/b/c.txt", "security.capability", b"bad")
""".replace("LONG_NAME", repr(LONG_NAME))
LARGE = bytes(range(256)) * 4096 * 2


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with Mounted(tmp_path_factory.mktemp("mount") / "drive", prepare=PREPARE) as mount:
        yield mount


@pytest.fixture
def drive(mounted: Mounted) -> Path:
    return mounted.path


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS).stdout


def test_files_have_their_bytes(drive: Path) -> None:
    assert (drive / "a/b/c.txt").read_bytes() == b"hello world\n"
    assert (drive / "large.bin").read_bytes() == LARGE
    assert (drive / "empty").read_bytes() == b""


def test_a_folder_lists_its_names(drive: Path) -> None:
    names = "a,absolute,big,dangling,empty,folder,large.bin,level0,long,relative,run.sh,with space"
    assert ",".join(sorted(os.listdir(drive))) == names


def test_ls_shows_the_dots(drive: Path) -> None:
    assert output("ls", "-a", drive / "folder").split() == [".", ".."]


def test_dots_have_the_numbers_of_their_folders(drive: Path) -> None:
    numbers = [int(line.split()[0]) for line in output("ls", "-ai1", drive / "a/b").splitlines()[:2]]
    assert numbers == [(drive / "a/b").stat().st_ino, (drive / "a").stat().st_ino]


def test_a_file_has_its_attributes(drive: Path) -> None:
    stat = (drive / "a/b/c.txt").stat()
    assert stat.st_mode == st.S_IFREG | 0o640
    assert (stat.st_size, stat.st_nlink, stat.st_blocks) == (12, 1, 1)
    assert stat.st_mtime_ns == 1_234_567_890_123_000_000


def test_a_folder_of_its_own_has_its_mode(drive: Path) -> None:
    assert (drive / "folder").stat().st_mode == st.S_IFDIR | 0o750


def test_a_folder_that_only_paths_imply_is_one(drive: Path) -> None:
    assert (drive / "a").stat().st_mode == st.S_IFDIR | 0o755


def test_names_may_be_255_bytes_long(drive: Path) -> None:
    assert len(LONG_NAME.encode()) == 255
    assert (drive / "long" / LONG_NAME).read_bytes() == b"long"


def test_a_longer_name_is_too_long(drive: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        os.stat(drive / ("n" * 256))


def test_names_may_be_in_any_script(drive: Path) -> None:
    assert os.listdir(drive / "with space") == ["ünïcödé ☃.txt"]


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\\b"])
def test_a_name_that_no_drive_holds_is_absent(drive: Path, name: bytes) -> None:
    assert not os.path.exists(os.fsencode(drive) + b"/" + name)


def test_a_path_may_be_60_levels_deep(drive: Path) -> None:
    assert drive.joinpath(*(f"level{n}" for n in range(60))).read_bytes() == b"deep"


def test_links_lead_where_they_say(drive: Path) -> None:
    assert os.readlink(drive / "absolute") == "/etc/hostname"
    assert (drive / "relative").read_bytes() == b"hello world\n"
    assert not (drive / "dangling").exists()


def test_a_link_is_as_long_as_its_target(drive: Path) -> None:
    assert (drive / "relative").lstat().st_size == len("a/b/c.txt")


def test_a_program_runs(drive: Path) -> None:
    assert output(drive / "run.sh") == "ran\n"


def test_extended_attributes_are_shown(drive: Path) -> None:
    path = drive / "a/b/c.txt"
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    assert attributes == {"user.colour": b"blue", "user.plain": b"x"}


def test_another_namespace_than_the_users_is_empty(drive: Path) -> None:
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(drive / "a/b/c.txt", "security.capability")


def test_a_file_can_be_mapped(drive: Path) -> None:
    with (drive / "large.bin").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[-1000:] == LARGE[-1000:]
        assert mapped[4096 * 100 : 4096 * 101] == LARGE[4096 * 100 : 4096 * 101]


def test_many_can_read_at_once(drive: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        contents = list(pool.map(lambda _: (drive / "large.bin").read_bytes() == LARGE, range(32)))
    assert all(contents)


def test_reading_past_the_end_gives_nothing(drive: Path) -> None:
    with (drive / "a/b/c.txt").open("rb") as file:
        assert os.pread(file.fileno(), 100, 1000) == b""


def test_a_big_folder_lists_each_name_once(drive: Path) -> None:
    assert sorted(os.listdir(drive / "big")) == [f"file-{number:05}" for number in range(20_000)]


class Entry(ctypes.Structure):
    """glibc's struct dirent."""

    _fields_ = (
        ("number", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("size", ctypes.c_uint16),
        ("type", ctypes.c_uint8),
        ("name", ctypes.c_char * 256),
    )


class OpenFolder:
    """A folder as C programs read it."""

    def __init__(self, path: Path) -> None:
        self.libc = ctypes.CDLL(None)
        self.libc.opendir.restype = ctypes.c_void_p
        self.libc.telldir.restype = ctypes.c_long
        self.libc.readdir.restype = ctypes.POINTER(Entry)
        self.stream = ctypes.c_void_p(self.libc.opendir(os.fsencode(path)))

    def read(self) -> bytes | None:
        entry = self.libc.readdir(self.stream)
        return entry.contents.name if entry else None

    def tell(self) -> int:
        return int(self.libc.telldir(self.stream))

    def seek(self, place: int) -> None:
        self.libc.seekdir(self.stream, ctypes.c_long(place))

    def close(self) -> None:
        self.libc.closedir(self.stream)


def test_a_big_folder_can_be_read_from_where_one_was(drive: Path) -> None:
    with closing(OpenFolder(drive / "big")) as folder:
        names, places = [], []
        while True:
            places.append(folder.tell())
            name = folder.read()
            if name is None:
                break
            names.append(name)
        for index in (12_345, 0, 20_001, 1, 2, 7_000):
            folder.seek(places[index])
            assert folder.read() == names[index]


def test_statfs_makes_sense(drive: Path) -> None:
    answer = os.statvfs(drive)
    assert answer.f_frsize * answer.f_blocks >= len(LARGE)
    assert (answer.f_bfree, answer.f_bavail, answer.f_ffree, answer.f_namemax) == (0, 0, 0, 255)
    assert answer.f_files > 20_000


def test_a_copy_is_the_same(drive: Path, tmp_path: Path) -> None:
    for name in ("a", "with space", "relative", "dangling", "folder", "large.bin", "level0"):
        output("cp", "-a", drive / name, tmp_path / name)
    assert (tmp_path / "large.bin").read_bytes() == LARGE
    assert os.readlink(tmp_path / "dangling") == "nowhere"
    for copied in [tmp_path / "a", *(tmp_path / "a").rglob("*")]:
        original = (drive / copied.relative_to(tmp_path)).stat()
        assert (copied.stat().st_mode, copied.stat().st_mtime_ns) == (original.st_mode, original.st_mtime_ns)


def test_who_is_followed_from_one_processor_to_another_leaves_the_mount_bound_to_none(
    drive: Path, mounted: Mounted
) -> None:
    everywhere = os.sched_getaffinity(0)
    try:
        for processor in everywhere:
            os.sched_setaffinity(0, {processor})
            for number in range(4 * LOOK_EVERY):
                assert not (drive / f"absent-{processor}-{number}").exists()
    finally:
        os.sched_setaffinity(0, everywhere)
    assert set(mounted.run("import os; return list(os.sched_getaffinity(0))")) == everywhere


CHANGES: dict[str, Callable[[Path], object]] = {
    "create": lambda drive: (drive / "new").open("wb"),
    "write": lambda drive: (drive / "empty").open("r+b"),
    "truncate": lambda drive: os.truncate(drive / "large.bin", 0),
    "append": lambda drive: (drive / "empty").open("ab"),
    "mkdir": lambda drive: (drive / "new").mkdir(),
    "rmdir": lambda drive: (drive / "folder").rmdir(),
    "unlink": lambda drive: (drive / "empty").unlink(),
    "rename": lambda drive: (drive / "empty").rename(drive / "other"),
    "link": lambda drive: os.link(drive / "empty", drive / "other"),
    "symlink": lambda drive: os.symlink("a", drive / "other"),
    "mknod": lambda drive: os.mkfifo(drive / "fifo"),
    "chmod": lambda drive: (drive / "empty").chmod(0o600),
    "chown": lambda drive: os.chown(drive / "empty", 1, 1),
    "utime": lambda drive: os.utime(drive / "empty", (1, 1)),
    "setxattr": lambda drive: os.setxattr(drive / "empty", "user.x", b"1"),
    "removexattr": lambda drive: os.removexattr(drive / "a/b/c.txt", "user.colour"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_can_be_changed(drive: Path, change: str) -> None:
    with pytest.raises(OSError, match="Read-only") as caught:
        CHANGES[change](drive)
    assert caught.value.errno == errno.EROFS


def test_no_inode_is_lost_or_kept_too_long(mounted: Mounted) -> None:
    os.listdir(mounted.path / "big")
    assert mounted.run("return len(operations.view.inodes)") > 20_000
    # Mounting anew has the kernel forget the names of this mount, and of no other.
    subprocess.run(["mount", "-i", "-o", "remount,ro", mounted.path], check=True)
    assert comes_true(lambda: mounted.run("return len(operations.view.inodes)") < 20_000)
    assert (mounted.path / "a/b/c.txt").read_bytes() == b"hello world\n"
