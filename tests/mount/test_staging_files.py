"""The files of the staging: a sync returns only for what is on the disk, however often the disk failed before."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hyperfs.mount.staging.directory import StagingDirectory
from hyperfs.mount.staging.files import StagedFile
from tests.support.staging_disk import StagingDisk

RECORD = b"a record"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[StagingDisk]:
    disk = StagingDisk(tmp_path)
    with disk.installed():
        yield disk


@pytest.fixture
def staging(disk: StagingDisk) -> Iterator[StagingDirectory]:
    staging = StagingDirectory(disk.path)
    yield staging
    staging.close()


def fail(disk: StagingDisk, call: str, code: int, *, times: int = 1, suffix: str = "") -> None:
    left = [times]

    def verdict(called: str, path: Path | None) -> OSError | None:
        if called != call or not left[0] or not str(path).endswith(suffix):
            return None
        left[0] -= 1
        return OSError(code, os.strerror(code))

    disk.verdict = verdict


async def stage(staging: StagingDirectory, data: bytes = b"bytes") -> None:
    await staging.segments.append(staging.segments.shared(), data)
    staging.journal.add(RECORD)


async def test_files_and_folders_of_the_staging_are_their_owners_alone(staging: StagingDirectory) -> None:
    await stage(staging)
    staging.set_aside(["why"])
    for path in staging.path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


async def test_a_record_in_a_journal_that_is_followed_by_another_during_the_sync_is_durable(
    disk: StagingDisk, staging: StagingDirectory
) -> None:
    await stage(staging)

    def begin_another(call: str, path: Path | None) -> None:
        if call == "fsync":
            disk.before = lambda call, path: None
            trio.from_thread.run_sync(staging.journal.begin)

    disk.before = begin_another
    await staging.sync()
    assert RECORD in disk.durable("1.journal")
    assert (disk.path / "2.journal").exists()


async def test_a_folder_whose_sync_failed_is_synced_by_the_next_one(
    disk: StagingDisk, staging: StagingDirectory
) -> None:
    await stage(staging)
    fail(disk, "fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        await staging.sync()
    synced: list[str] = []
    disk.before = lambda call, path: synced.append(call) if call == "fsync" else None
    await staging.sync()
    assert synced == ["fsync"]


@pytest.mark.parametrize("name", ["1.data", "1.journal"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
async def test_what_the_disk_did_not_take_is_written_to_it_again(
    disk: StagingDisk, staging: StagingDirectory, name: str, code: int
) -> None:
    await stage(staging)
    await staging.sync()
    await stage(staging, b"more bytes")
    fail(disk, "fdatasync", code, suffix=name)
    with pytest.raises(OSError, match=os.strerror(code)):
        await staging.sync()
    await stage(staging, b"the last")
    await staging.sync()
    for path in disk.path.iterdir():
        assert disk.durable(path.name).rstrip(b"\0") == path.read_bytes().rstrip(b"\0")


async def test_what_cannot_be_written_again_fails_every_later_sync_and_is_told(
    disk: StagingDisk, staging: StagingDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    await stage(staging)

    def verdict(call: str, path: Path | None) -> OSError | None:
        is_lost = call in ("fdatasync", "write_at") and str(path).endswith(".data")
        return OSError(errno.EIO, os.strerror(errno.EIO)) if is_lost else None

    disk.verdict = verdict
    with pytest.raises(OSError, match="Input/output"):
        await staging.sync()
    disk.verdict = lambda call, path: None
    for _ in range(2):
        with pytest.raises(OSError, match="not durable"):
            await staging.sync()
    assert staging.failure is not None
    assert len([record for record in caplog.records if "cannot be written to this disk" in record.message]) == 1


async def test_what_is_written_while_a_sync_is_under_way_is_left_to_the_next_one(
    disk: StagingDisk, staging: StagingDirectory
) -> None:
    await stage(staging)
    segment = staging.segments.shared()

    def write_more(call: str, path: Path | None) -> None:
        if call == "fdatasync":
            disk.before = lambda call, path: None
            segment.file.write(segment.end, b"more")

    disk.before = write_more
    await staging.sync()
    assert staging.segments.unsynced() == [segment.file]


def test_two_syncs_of_one_file_do_not_take_each_others_failure(disk: StagingDisk) -> None:
    file = StagedFile.create(disk.path / "1.data")
    file.write(0, b"bytes")
    inside, go_on = threading.Event(), threading.Event()

    def wait(call: str, path: Path | None) -> None:
        if call == "fdatasync" and not inside.is_set():
            inside.set()
            go_on.wait(60)

    disk.before = wait
    fail(disk, "fdatasync", errno.EIO)
    told: list[str] = []

    def sync() -> None:
        try:
            file.sync()
            told.append(f"durable: {disk.durable('1.data')!r}")
        except OSError as error:
            told.append(os.strerror(error.errno or 0))

    threads = [threading.Thread(target=sync) for _ in range(2)]
    threads[0].start()
    inside.wait(60)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["Input/output error", "durable: b'bytes'"]
    file.close()


def test_a_descriptor_stays_open_for_the_thread_that_uses_it(disk: StagingDisk) -> None:
    file = StagedFile.create(disk.path / "1.data")
    file.write(0, b"bytes")
    disk.before = lambda call, path: file.close() if call == "fdatasync" else None
    file.sync()
    assert disk.durable("1.data") == b"bytes"
    with pytest.raises(OSError, match="closed"):
        file.read(0, 1)


def test_a_sync_of_what_was_deleted_meanwhile_has_nothing_to_do(disk: StagingDisk) -> None:
    file = StagedFile.create(disk.path / "1.data")
    file.write(0, b"bytes")
    file.delete()
    file.sync()


def test_a_large_write_is_made_whole_also_by_a_disk_that_takes_a_part_at_a_time(
    disk: StagingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, place: pwrite(fd, data[:50_000], place))
    file = StagedFile.create(disk.path / "1.data")
    data = bytes(range(251)) * 1000
    file.write(6, data)
    assert file.read(6, len(data)) == data
    file.close()


def test_a_record_that_was_not_written_leaves_nothing_that_looks_like_damage(
    disk: StagingDisk, staging: StagingDirectory
) -> None:
    staging.journal.add(b"first")
    written = os.pwrite

    def write_half_and_fail(call: str, path: Path | None) -> OSError | None:
        if call != "write_at" or path is None:
            return None
        disk.verdict = lambda call, path: None
        with path.open("r+b") as file:
            written(file.fileno(), b"\xff" * 200, path.read_bytes().index(b"first") + 5)
        return OSError(errno.EIO, os.strerror(errno.EIO))

    disk.verdict = write_half_and_fail
    with pytest.raises(OSError, match="Input/output"):
        staging.journal.add(b"x" * 300)
    staging.journal.add(b"second")
    staging.close()
    again = StagingDirectory(disk.path)
    (contents,) = again.journal.read().values()
    assert ([found.record for found in contents.frames], contents.damage) == ([b"first", b"second"], [])
    again.close()


def test_what_is_dropped_without_being_closed_warns(tmp_path: Path) -> None:
    with pytest.warns(ResourceWarning, match="was not closed"):
        StagedFile.create(tmp_path / "1.data")
    staging = StagingDirectory(tmp_path / "staging")
    with pytest.warns(ResourceWarning, match="was not closed"):
        staging.__del__()
    staging.close()
