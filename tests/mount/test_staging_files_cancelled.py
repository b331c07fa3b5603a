"""What cancellation leaves of the staging, at each point where it can come."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hyperfs.mount.staging.segments import LARGE_BYTES
from tests.support.cancelling import cancelled_at_each_checkpoint
from tests.support.staging_disk import StagingDisk
from tests.support.workspaces import Paths

OLD = b"old" * LARGE_BYTES
NEW = b"new" * LARGE_BYTES


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@asynccontextmanager
async def opened(paths: Paths, path: str) -> AsyncIterator[int]:
    number = await paths.number(path)
    await paths.workspace.open(number, writing=True)
    yield number
    paths.workspace.released(number)


@pytest.mark.parametrize("is_staged", [False, True], ids=["over the drive", "over staged bytes"])
async def test_a_write_is_there_or_not(tmp_path: Path, *, is_staged: bool) -> None:
    was_cancelled = False
    for number, attempt in enumerate(cancelled_at_each_checkpoint()):
        paths = await Paths.open(tmp_path / str(number))
        await paths.put("f", OLD)
        if not is_staged:
            await paths.commit()
        async with opened(paths, "f") as inode:
            with attempt:
                await paths.workspace.write(inode, 0, NEW)
        was_cancelled |= attempt.was_cancelled
        found = await paths.read("f")
        assert found in (OLD, NEW)
        assert attempt.was_cancelled or found == NEW
        await paths.workspace.flush(inode)
        again = await Paths.open(tmp_path / str(number), paths.own)
        assert await again.read("f") == found
        await again.commit()
        assert await again.drive_tree() == {"f": found}
        assert not [segment for segment in again.workspace.segments.idle() if segment.references]
    assert was_cancelled


async def test_what_a_cancelled_sync_did_not_make_durable_the_next_one_does(tmp_path: Path) -> None:
    for number, attempt in enumerate(cancelled_at_each_checkpoint()):
        directory = tmp_path / str(number)
        disk = StagingDisk(directory)
        with disk.installed():
            paths = await Paths.open(directory)
            await paths.put("f", OLD)
            with attempt:
                await paths.workspace.sync()
            await paths.workspace.sync()
            for name in ("1.data", "1.journal"):
                assert disk.durable(name).rstrip(b"\0") == (directory / name).read_bytes().rstrip(b"\0")


async def test_a_cancelled_recovery_leaves_everything_for_the_next_process(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/f", OLD)
    await paths.rename("d", "e")
    before = files_of(tmp_path)
    for attempt in cancelled_at_each_checkpoint():
        again = Paths(paths.own, tmp_path)
        with attempt:
            await again.recover()
        again.workspace.close()
        if attempt.was_cancelled:
            assert files_of(tmp_path) == before
    assert await (await Paths.open(tmp_path, paths.own)).tree() == {"e": None, "e/f": OLD}


async def test_a_cancelled_collection_is_made_up_for_by_the_next_one(tmp_path: Path) -> None:
    for number, attempt in enumerate(cancelled_at_each_checkpoint()):
        directory = tmp_path / str(number)
        paths = await Paths.open(directory)
        await paths.put("gone", OLD)
        await paths.put("f", NEW)
        await paths.unlink("gone")
        paths.workspace.segments.begin_anew()
        with attempt:
            await paths.workspace.collect()
        assert await paths.read("f") == NEW
        await paths.workspace.collect()
        assert len(list(directory.glob("*.data"))) == 1
        assert await (await Paths.open(directory, paths.own)).tree() == {"f": NEW}
