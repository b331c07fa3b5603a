"""Drives inside a mounted one: linked into it, and read when the daemon goes away."""

import os
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
