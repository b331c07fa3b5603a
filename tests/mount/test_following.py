"""A view is moved from version to version, and the kernel told of what differs, whatever fails meanwhile."""

import errno
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hyperfs.mount import following
from hyperfs.mount.edge import keep_going
from hyperfs.mount.files import OpenFiles
from hyperfs.mount.following import Follower
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.snapshot_view import SnapshotView
from hyperfs.mount.waiting import Waits
from hyperfs.mount.workspace_view import WorkspaceView
from tests.support.drives import OwnDrive, new_drive
from tests.support.workspaces import Paths


class Kernel:
    """What is told to the kernel, in place of the `Invalidator`."""

    def __init__(self) -> None:
        self.names: list[tuple[int, bytes]] = []
        self.changed: list[int] = []

    async def room(self) -> None:
        pass

    def add_name(self, directory: int, name: bytes) -> None:
        self.names.append((directory, name))

    def add_pages(self, number: int) -> None:
        self.changed.append(number)

    def attributes(self, number: int) -> None:
        self.changed.append(number)


class Failing:
    """`changes`, which fails when it is called the next times, or after so many changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = 0
        self.after: int | None = None
        self.error: Exception = OSError(errno.EIO, "Input/output error")
        self._real = following.changes
        monkeypatch.setattr(following, "changes", self._changes)

    async def _changes(self, newer: Any, older: Any) -> AsyncGenerator[Any, None]:
        if self.fails and self.after is None:
            self.fails -= 1
            raise self.error
        count = 0
        async with aclosing(self._real(newer, older)) as found:
            async for change in found:
                if self.fails and count == self.after:
                    self.fails -= 1
                    raise self.error
                count += 1
                yield change


@asynccontextmanager
async def followed(own: OwnDrive, kernel: Kernel) -> AsyncIterator[SnapshotView]:
    async with trio.open_nursery() as nursery:
        view = SnapshotView(own.drive)
        waits = Waits()
        follower = Follower(own.drive, view, OpenFiles(nursery, waits, 20.0), waits, kernel)  # type: ignore[arg-type]
        nursery.start_soon(keep_going, follower.run)
        await wait_all_tasks_blocked()
        yield view
        nursery.cancel_scope.cancel()


async def test_a_new_version_is_told_of(patient_clock: MockClock) -> None:
    own = await new_drive()
    await own.writer.put_file("a", b"1")
    kernel = Kernel()
    async with followed(own, kernel) as view:
        number = (await view.lookup(ROOT, b"a")).number
        await own.writer.put_file("a", b"22")
        await own.writer.put_file("b", b"1")
        await trio.sleep(60)
        assert view.snapshot.version == own.drive.version
    assert kernel.names == [(ROOT, b"b")]
    assert number in kernel.changed


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("of nobody's making")])
async def test_what_fails_while_the_difference_is_read_is_tried_again(
    patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    own = await new_drive()
    kernel, failing = Kernel(), Failing(monkeypatch)
    async with followed(own, kernel) as view:
        failing.fails, failing.error = 3, error
        await own.writer.put_file("b", b"1")
        await trio.sleep(60)
        assert failing.fails == 0
        assert view.snapshot.version == own.drive.version
    assert kernel.names == [(ROOT, b"b")]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), RuntimeError("of nobody's making")])
async def test_what_could_not_be_told_is_told_later(
    patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(following, "MAX_GATHERED", 1)
    own = await new_drive()
    kernel, failing = Kernel(), Failing(monkeypatch)
    async with followed(own, kernel) as view:
        failing.fails, failing.error, failing.after = 1, error, 2
        async with own.writer.batch() as batch:
            for name in ("a", "b", "c", "d"):
                await batch.put_file(name, b"1")
        await trio.sleep(60)
        assert failing.fails == 0
        assert view.snapshot.version == own.drive.version
    assert {name for _, name in kernel.names} == {b"a", b"b", b"c", b"d"}


async def test_a_version_of_our_own_is_not_told_of(patient_clock: MockClock, tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    view = WorkspaceView(paths.own.drive, paths.workspace, paths.own.committer)
    kernel, waits = Kernel(), Waits()
    async with trio.open_nursery() as nursery:
        files = OpenFiles(nursery, waits, 20.0)
        follower = Follower(paths.own.drive, view, files, waits, kernel)  # type: ignore[arg-type]
        nursery.start_soon(follower.run)
        await paths.put("ours", b"1")
        await view.maker.commit()
        await paths.own.writer.put_file("theirs", b"1")
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert kernel.names == [(ROOT, b"theirs")]
