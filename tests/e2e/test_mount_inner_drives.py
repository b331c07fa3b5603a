"""Drives inside a mounted one: linked into it, and read when the daemon goes away."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import hyperfs

from ..support.commands import Hyperfs, eventually, hyperfs_in
from ..support.writable import WritableMount, writable_mount


async def two_drives(store_path: Path) -> bytes:
    """Make a drive with a file, mounted at ``m`` in another; return the outer one's key."""
    async with hyperfs.open_store(store_path) as store:
        inner, outer = await store.create_drive(), await store.create_drive()
        await (await store.writer(inner)).put_file("f", b"inner")
        await (await store.writer(outer)).mount("m", inner.key)
        return outer.key


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path) as commands:
        yield commands


def open_files(pid: int) -> list[str]:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    return found


def test_an_inner_drive_that_is_here_is_read_without_the_daemon(commands: Hyperfs, tmp_path: Path) -> None:
    outer = trio.run(two_drives, commands.store)
    folder = tmp_path / "mnt"
    folder.mkdir()
    commands("mount", "--read-only", outer.hex(), folder)
    process = commands.mounts()[0]["pid"]
    eventually(lambda: sum(path.endswith("/data") for path in open_files(process)) == 4)  # two of each drive
    commands.kill_daemon()
    assert (folder / "m/f").read_bytes() == b"inner"


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[WritableMount]:
    with writable_mount(tmp_path) as mount:
        yield mount


def test_drives_are_linked_into_a_mount_and_out_of_it_again(mount: WritableMount, tmp_path: Path) -> None:
    commands, folder = mount.hyperfs, mount.folder
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_bytes(b"first")
    inner = commands("import", source).split()[0]
    (source / "f").write_bytes(b"second")
    commands("import", source, inner)
    assert not (folder / "here").exists()  # the kernel remembers it
    (folder / "staged").write_bytes(b"staged")
    commands("link", inner, f"{mount.key}/here")
    assert (folder / "here/f").read_bytes() == b"second"
    commands("link", f"{inner}+2", f"{mount.key}/sub/before")
    assert (folder / "sub/before/f").read_bytes() == b"first"
    assert "it exists" in commands.fails("link", inner, f"{mount.key}/staged")
    commands("link", mount.key, f"{mount.key}/loop")
    for path in ("loop/f", "loop/loop"):
        with pytest.raises(OSError, match="Too many levels"):
            (folder / path).stat()
    commands("unlink", f"{mount.key}/here")
    assert sorted(os.listdir(folder)) == ["loop", "staged", "sub"]
    mount.unmount()
    commands("unlink", f"{mount.key}/sub/before")
    commands("link", inner, f"{mount.key}/again")
    assert mount.cat("again/f") == b"second"
    assert sorted(commands("ls", mount.key).split()) == ["again", "loop", "staged"]


class Nested(WritableMount):
    """A mounted drive with another one of ours at ``in``."""

    def __init__(self, hyperfs: Hyperfs, folder: Path, *options: str) -> None:
        super().__init__(hyperfs, folder, *options)
        self.inner = hyperfs("create").split()[0]
        hyperfs("link", self.inner, f"{self.key}/in")

    def versions(self) -> tuple[int, int]:
        """The versions of the outer and of the inner drive."""
        return self.version(), int(self.hyperfs.json("info", self.inner)["version"])


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[Nested]:
    with hyperfs_in(tmp_path) as hyperfs:
        yield Nested(hyperfs, tmp_path / "mnt")


def test_an_inner_drive_of_ours_is_written_through_the_mount(nested: Nested) -> None:
    folder, hyperfs = nested.folder, nested.hyperfs
    outer_before, inner_before = nested.versions()
    (folder / "in/d").mkdir()
    (folder / "in/d/f").write_bytes(b"written")
    assert (folder / "in/d/f").read_bytes() == b"written"
    (folder / "in/d").rename(folder / "in/e")
    os.setxattr(folder / "in/e/f", "user.a", b"1")
    (folder / "in/link").symlink_to("e/f")
    (folder / "own").write_bytes(b"outer")
    for move in (os.rename, os.link):
        with pytest.raises(OSError, match="cross-device") as refused:
            move(folder / "own", folder / "in/own")
        assert refused.value.errno == errno.EXDEV
    subprocess.run(["mv", folder / "own", folder / "in/moved"], check=True)
    subprocess.run(["cp", "-a", folder / "in/e", folder / "copied"], check=True)
    with pytest.raises(OSError, match="busy"):
        (folder / "in").rename(folder / "elsewhere")
    with pytest.raises(OSError, match="busy"):
        (folder / "in").rmdir()
    assert sorted(os.listdir(folder)) == ["copied", "in"]
    assert sorted(os.listdir(folder / "in")) == ["e", "link", "moved"]
    assert os.statvfs(folder / "in").f_bavail > 0
    beside = folder.parent / "beside"
    beside.mkdir()
    refused_mount = hyperfs.fails("mount", nested.inner, beside, status=2)
    assert "mounted to be written to already" in refused_mount
    nested.unmount()
    for path in ("in/moved", "copied/f", "in/e/f"):
        assert nested.cat(path) == (b"outer" if path == "in/moved" else b"written")
    assert hyperfs.run("cat", nested.inner, "e/f").stdout == b"written"
    outer_after, inner_after = nested.versions()
    assert outer_after > outer_before
    assert inner_after > inner_before
    assert "in/" not in hyperfs("log", nested.key)  # not a node of the inner one's


def test_what_was_staged_of_inner_drives_outlives_a_kill(nested: Nested) -> None:
    folder = nested.folder
    nested.unmount()
    nested.mount("--flush-interval", "3600")
    (folder / "own").write_bytes(b"outer")
    descriptor = os.open(folder / "in/synced", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"inner")
    os.fsync(descriptor)
    (folder / "in/closed").write_bytes(b"closed")
    nested.kill()
    with contextlib.suppress(OSError):
        os.close(descriptor)
    assert (folder / "own").read_bytes() == b"outer"
    assert [(folder / "in" / name).read_bytes() for name in ("synced", "closed")] == [b"inner", b"closed"]
    nested.unmount()
    assert nested.hyperfs.run("cat", nested.inner, "synced", "closed").stdout == b"innerclosed"
