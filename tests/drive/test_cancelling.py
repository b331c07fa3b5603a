"""What stands when what writes to a drive, or from it, is cancelled, at each point where that can be."""

import os
from pathlib import Path

import pytest

from hyperfs.core.store import Store
from hyperfs.drive.committer import CHUNK_BYTES
from hyperfs.drive.create import create_drive
from hyperfs.drive.drive import Drive
from hyperfs.drive.exporter import export
from hyperfs.drive.import_plan import plan_import
from hyperfs.drive.importer import run_import
from hyperfs.drive.library import OpenStore
from hyperfs.drive.prune import Keep, plan_prune
from hyperfs.drive.snapshot import Snapshot
from tests.support.cancelling import cancelled_at_each_checkpoint
from tests.support.drives import RealDrive, real_drive

LARGE = os.urandom(3 * CHUNK_BYTES + 5)
FILES = {"dir/a": b"first", "dir/b": b"", "large": LARGE}


async def contents(snapshot: Snapshot) -> dict[str, bytes]:
    return {
        entry.path: await snapshot.read(entry, 0, entry.stat.size)
        async for entry in snapshot.walk()
        if not entry.is_directory and not entry.is_link
    }


def in_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, less the unfinished ones of an export."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".hyperfs-part-")
    }


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def check_writable(own: RealDrive) -> None:
    """Check that nothing is held that the next writer needs."""
    await own.writer.put_file("next", b"next")
    assert (await contents(own.drive.snapshot()))["next"] == b"next"


async def test_a_batch_is_made_as_a_whole_or_not_at_all() -> None:
    for attempt in cancelled_at_each_checkpoint():
        async with real_drive() as own:
            await own.writer.put_file("dir/old", b"old")
            with attempt:
                async with own.writer.batch() as batch:
                    await batch.put_file("new", LARGE)
                    await batch.rename("dir", "moved")
            assert await contents(own.drive.snapshot()) in (
                {"dir/old": b"old"},
                {"moved/old": b"old", "new": LARGE},
            )
            await check_writable(own)


async def test_an_import_leaves_whole_files_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperfs.drive.importer.OPERATIONS_IN_A_COMMIT", 2)
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    descriptors = open_descriptors()
    for attempt in cancelled_at_each_checkpoint():
        async with real_drive() as own:
            with attempt:
                await run_import(await plan_import(own.drive.snapshot(), tmp_path), own.committer)
            assert (await contents(own.drive.snapshot())).items() <= FILES.items()
            await run_import(await plan_import(own.drive.snapshot(), tmp_path), own.committer)
            assert await contents(own.drive.snapshot()) == FILES
    assert open_descriptors() == descriptors


async def test_an_export_leaves_whole_files_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async with real_drive() as own:
        for path, content in FILES.items():
            await own.writer.put_file(path, content)
        await own.writer.symlink("dir/link", "../large")
        descriptors = open_descriptors()
        for attempt in cancelled_at_each_checkpoint():
            target = tmp_path / str(attempt.checkpoint)
            with attempt:
                await export(own.drive.snapshot(), target)
            assert in_folder(target).items() <= FILES.items() | {("dir/link", LARGE)}
            await export(own.drive.snapshot(), target)
            assert in_folder(target) == {**FILES, "dir/link": LARGE}
            assert not list(target.rglob(".hyperfs-part-*"))
        assert open_descriptors() == descriptors


async def test_what_is_cleared_is_gone_as_a_whole_or_not_at_all() -> None:
    for attempt in cancelled_at_each_checkpoint():
        async with real_drive() as own:
            await own.writer.put_file("f", b"old")
            await own.writer.put_file("f", b"new")
            snapshot = own.drive.snapshot()
            with attempt:
                plan = await plan_prune(snapshot, Keep(1), now=0)
                await own.committer.clear(plan.cleared, expected_version=plan.version)
            if own.content.has(0, 1):
                assert await own.content.get(0) == b"old"
            assert await contents(snapshot) == {"f": b"new"}
            await check_writable(own)


async def test_a_drive_that_was_being_made_is_no_hindrance(tmp_path: Path) -> None:
    for attempt in cancelled_at_each_checkpoint():
        store = await Store.open(tmp_path / str(attempt.checkpoint))
        try:
            with attempt:
                await create_drive(store)
            drive = await Drive.open(OpenStore(store), await create_drive(store))
            assert drive.version == 1
        finally:
            await store.close()
