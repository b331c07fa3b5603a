"""A journal on a disk that lets one wait: nobody but who answers for a record waits for it."""

import errno
import math
import os
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from hyperfs.mount.inodes import ROOT
from hyperfs.mount.staging import files, journal
from tests.support.workspaces import Paths


class Disk:
    """Writes to the journal, when it is told to."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.waits = threading.Event()
        self.error: OSError | None = None
        self._write_at = files.write_at

    def write_at(self, descriptor: int, place: int, data: bytes | memoryview) -> None:
        self.waits.set()
        self.goes_on.wait()
        if self.error is not None:
            raise self.error
        self._write_at(descriptor, place, data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(files, "write_at", disk.write_at)
    return disk


@pytest.fixture
async def paths(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Paths]:
    monkeypatch.setattr(journal, "SLOW_SECONDS", -1.0)
    monkeypatch.setattr(journal, "SLOW_FOR_SECONDS", math.inf)
    paths = await Paths.open(tmp_path / "staging")
    await paths.put("f", b"first")
    yield paths
    paths.workspace.close()


async def next_process(paths: Paths, folder: Path) -> Paths:
    """Return what the next process finds when this one is killed now."""
    shutil.copytree(paths.workspace.directory, folder)
    return await Paths.open(folder, paths.own)


async def test_what_was_answered_for_is_there_for_the_next_process(paths: Paths, tmp_path: Path) -> None:
    assert paths.workspace.names.make_now(ROOT, "now", 0o100644, uid=0, gid=0) is None
    await paths.put("g", b"second")
    await paths.rename("f", "h")
    following = await next_process(paths, tmp_path / "next")
    assert await following.tree() == await paths.tree() == {"g": b"second", "h": b"first"}
    following.workspace.close()


async def test_others_go_on_while_a_record_waits_for_the_disk(paths: Paths, disk: Disk) -> None:
    disk.goes_on.clear()
    disk.waits.clear()
    is_answered = False

    async def rename() -> None:
        nonlocal is_answered
        await paths.workspace.names.rename(ROOT, "f", ROOT, "g")
        is_answered = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rename)
        await trio.to_thread.run_sync(disk.waits.wait)
        assert await paths.read("g") == b"first"
        assert not is_answered
        disk.goes_on.set()
    assert is_answered


async def test_a_record_that_the_disk_refused_is_written_when_it_takes_it(
    paths: Paths, disk: Disk, tmp_path: Path
) -> None:
    disk.error = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        await paths.rename("f", "g")
    with pytest.raises(OSError, match="Input/output"):
        await paths.mkdir("d")
    with pytest.raises(OSError, match="Input/output"):
        await paths.workspace.sync()
    disk.error = None
    await paths.workspace.sync()
    following = await next_process(paths, tmp_path / "next")
    assert await following.tree() == await paths.tree() == {"g": b"first"}
    following.workspace.close()


async def test_a_commit_begins_its_journal_behind_all_that_was_queued(paths: Paths, tmp_path: Path) -> None:
    await paths.commit()
    await paths.put("g", b"second")
    following = await next_process(paths, tmp_path / "next")
    assert await following.tree() == {"f": b"first", "g": b"second"}
    following.workspace.close()
