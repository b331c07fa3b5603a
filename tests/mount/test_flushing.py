"""When what is staged becomes a version."""

import errno
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from hyperfs.errors import WriterForked
from hyperfs.mount.staging.committing import SMALL_BYTES
from hyperfs.mount.staging.flushing import LONGEST_SECONDS, Flusher
from hyperfs.mount.staging.nodes import Node
from hyperfs.mount.staging.recovery import recover
from tests.support.workspaces import Paths

BIG = 4 * SMALL_BYTES


@asynccontextmanager
async def flushing(directory: Path, interval_seconds: float = 5.0) -> AsyncIterator[Paths]:
    paths = await Paths.open(directory)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Flusher(paths.maker, interval_seconds=interval_seconds).run)
        await trio.testing.wait_all_tasks_blocked()
        yield paths
        nursery.cancel_scope.cancel()


async def hold_open(paths: Paths, path: str) -> int:
    number = await paths.number(path)
    await paths.workspace.open(number, writing=True)
    return number


async def test_what_was_closed_is_committed_soon(tmp_path: Path, patient_clock: MockClock) -> None:
    async with flushing(tmp_path) as paths:
        await paths.put("f", b"1")
        await trio.sleep(1.2)
        assert await paths.drive_tree() == {"f": b"1"}


async def test_what_is_open_is_committed_within_the_interval(tmp_path: Path, patient_clock: MockClock) -> None:
    async with flushing(tmp_path) as paths:
        await paths.put("f", b"1")
        await hold_open(paths, "f")
        await trio.sleep(3)
        assert await paths.drive_tree() == {}
        await trio.sleep(2.5)
        assert await paths.drive_tree() == {"f": b"1"}


class NeverWalked(dict[int, Node]):
    """What takes too long to go through."""

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("all that is staged was gone through")


async def test_while_a_file_is_written_nobody_goes_through_all_that_is_staged(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    async with flushing(tmp_path) as paths:
        for number in range(10):
            await paths.make(f"f{number}")
        await hold_open(paths, "f0")
        tree = paths.workspace.tree
        tree.dirty = NeverWalked(tree.dirty)
        await trio.sleep(3)
        tree.dirty = dict(tree.dirty.items())
        await trio.sleep(3)
        assert len(await paths.drive_tree()) == 10


async def test_changes_are_gathered_into_one_version(tmp_path: Path, patient_clock: MockClock) -> None:
    async with flushing(tmp_path) as paths:
        version = paths.own.drive.version
        for number in range(10):
            await paths.put("f", b"%d" % number)
            await trio.sleep(0.3)
        await trio.sleep(2)
        assert paths.own.drive.version == version + 1


async def test_a_big_file_that_is_rewritten_all_the_time_is_committed_seldom(
    tmp_path: Path, patient_clock: MockClock
) -> None:
    async with flushing(tmp_path) as paths:
        await paths.put("f", bytes(BIG))
        number = await hold_open(paths, "f")
        for step in range(16):
            await paths.workspace.write(number, step, b"x")
            await trio.sleep(10)
        assert paths.own.content.byte_length <= 7 * BIG


async def test_what_stands_beside_a_waiting_file_waits_with_it(tmp_path: Path, patient_clock: MockClock) -> None:
    async with flushing(tmp_path) as paths:
        await paths.put("f.db", bytes(BIG))
        await paths.put("f.db-journal", b"old")
        await trio.sleep(2)
        before = await paths.drive_tree()
        await paths.write("f.db", b"new")
        await paths.unlink("f.db-journal")
        await paths.put("f.db-journal", b"new")
        await paths.put("f.db-wal", b"new")
        await paths.put("other", b"other")
        await trio.sleep(2)
        assert await paths.drive_tree() == {**before, "other": b"other"}
        copy = shutil.copytree(tmp_path, tmp_path.with_name("copy"))
        again = await Paths.open(copy, paths.own)
        assert await again.tree() == await paths.tree()
        await trio.sleep(10)
        assert await paths.drive_tree() == await paths.tree()


async def test_a_database_waits_while_its_larger_log_is_open(tmp_path: Path, patient_clock: MockClock) -> None:
    async with flushing(tmp_path) as paths:
        await paths.put("f.db", b"rows")
        log = await paths.make("f.db-wal")
        await hold_open(paths, "f.db-wal")
        await paths.workspace.write(log, 0, bytes(BIG))
        await paths.put("other", b"other")
        await trio.sleep(60)
        assert await paths.drive_tree() == {"other": b"other"}
        await paths.write("f.db", b"more rows")
        await paths.unlink("f.db-wal")
        paths.workspace.released(log)
        await trio.sleep(2)
        assert await paths.drive_tree() == {"f.db": b"more rows", "other": b"other"}
        assert paths.own.content.byte_length == len(b"more rows" + b"other")


async def test_a_log_that_stays_open_is_committed_in_the_end(tmp_path: Path, patient_clock: MockClock) -> None:
    async with flushing(tmp_path) as paths:
        await paths.put("f.db", b"rows")
        log = await paths.make("f.db-wal")
        await hold_open(paths, "f.db-wal")
        await paths.workspace.write(log, 0, bytes(BIG))
        await trio.sleep(LONGEST_SECONDS + 2)
        assert await paths.drive_tree() == await paths.tree()


async def test_what_an_earlier_process_staged_is_committed(tmp_path: Path, patient_clock: MockClock) -> None:
    died = await Paths.open(tmp_path)
    await died.put("f", b"staged")
    paths = Paths(died.own, tmp_path)
    await recover(paths.workspace, paths.own.committer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Flusher(paths.maker).run)
        await trio.sleep(2)
        assert await paths.drive_tree() == {"f": b"staged"}
        nursery.cancel_scope.cancel()


async def test_a_forked_drive_is_changed_no_more_until_somebody_decides(
    tmp_path: Path, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> int:
        raise WriterForked("its secret key was used in two places")

    async with flushing(tmp_path) as paths:
        await paths.put("f", b"1")
        with monkeypatch.context() as forked:
            forked.setattr(paths.own.committer, "commit", refuse)
            await trio.sleep(2)
            number = await hold_open(paths, "f")
            for change in (lambda: paths.make("g"), lambda: paths.unlink("f"), lambda: paths.write("f", b"2")):
                with pytest.raises(OSError, match="used in two places"):
                    await change()
            with pytest.raises(OSError, match="used in two places") as caught:
                await paths.workspace.write(number, 0, b"2")
            assert caught.value.errno == errno.EROFS
        await trio.sleep(60)
        assert await paths.drive_tree() == {"f": b"1"}
        await paths.make("g")
