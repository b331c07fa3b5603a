"""Drives inside a mounted one, when the daemon goes away before anybody has gone into them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import hyperfs

from ..support.commands import Hyperfs, eventually, hyperfs_in


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
