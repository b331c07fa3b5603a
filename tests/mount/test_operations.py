"""What the kernel may keep of an answer that was waited for, when something was changed meanwhile."""

import types
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyfuse3
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hyperfs.drive.snapshot import Snapshot
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.operations import Operations
from hyperfs.mount.options import MountOptions
from hyperfs.mount.snapshot_view import SnapshotView
from hyperfs.mount.view import View
from hyperfs.mount.workspace_view import WorkspaceView
from tests.support.drives import OwnDrive, new_drive
from tests.support.workspaces import Paths

REGULAR = 0o10
CONTEXT: Any = types.SimpleNamespace(uid=0, gid=0, pid=0)

Ask = Callable[[Operations], Awaitable[pyfuse3.EntryAttributes]]


class Slowly:
    """Whatever is to be read of a drive has to be waited for, until `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = trio.Event()
        stat = Snapshot.stat

        async def slowly(snapshot: Snapshot, path: str) -> Any:
            entry = stat(snapshot, path)
            try:
                return await entry
            finally:
                await self.go.wait()

        monkeypatch.setattr(Snapshot, "stat", slowly)
        monkeypatch.setattr(Snapshot, "look_now", lambda *_: (False, None))


@asynccontextmanager
async def operating(view: View) -> AsyncIterator[Operations]:
    async with trio.open_nursery() as nursery:
        yield Operations(view, MountOptions(), nursery)
        nursery.cancel_scope.cancel()


async def asked(operations: Operations, ask: Ask, slowly: Slowly, change: Callable[[], Awaitable[object]]) -> float:
    """Return for how long the answer may be kept, when a change is made while it is being found."""
    lasting = []

    async def asking() -> None:
        lasting.append((await ask(operations)).entry_timeout)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking)
        await wait_all_tasks_blocked()
        await change()
        slowly.go.set()
    return lasting[0]


def lookup(name: bytes) -> Ask:
    return lambda operations: operations.lookup(ROOT, name, CONTEXT)


def getattr_of(number: int) -> Ask:
    return lambda operations: operations.getattr(number, CONTEXT)


async def nothing() -> None:
    """No change."""


async def drive() -> OwnDrive:
    own = await new_drive()
    await own.writer.put_file("there", b"1")
    return own


@pytest.mark.parametrize("name", [b"there", b"absent"])
async def test_a_name_is_kept_when_nothing_changed(monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    own = await drive()
    async with operating(SnapshotView(own.drive)) as operations:
        assert await asked(operations, lookup(name), Slowly(monkeypatch), nothing) > 0


@pytest.mark.parametrize("name", [b"there", b"absent"])
async def test_a_name_of_a_version_that_is_shown_no_more_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    own = await drive()
    view = SnapshotView(own.drive)
    await own.writer.put_file("there", b"22")

    async with operating(view) as operations:
        ask, slowly = lookup(name), Slowly(monkeypatch)
        assert await asked(operations, ask, slowly, lambda: view.switch(own.drive.snapshot())) == 0


async def test_attributes_of_a_version_that_is_shown_no_more_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    own = await drive()
    view = SnapshotView(own.drive)
    number = view.inodes.remember(ROOT, b"there", REGULAR)
    await own.writer.put_file("there", b"22")
    async with operating(view) as operations:
        ask, slowly = getattr_of(number), Slowly(monkeypatch)
        assert await asked(operations, ask, slowly, lambda: view.switch(own.drive.snapshot())) == 0


@pytest.mark.parametrize("name", [b"there", b"absent"])
async def test_a_name_in_a_folder_of_ours_is_not_kept_when_it_was_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: bytes
) -> None:
    paths = await Paths.open(tmp_path, await drive())
    await paths.put("other", b"1")
    view = WorkspaceView(paths.own.drive, paths.workspace, paths.own.committer)
    async with operating(view) as operations:
        ask, slowly = lookup(name), Slowly(monkeypatch)
        assert await asked(operations, ask, slowly, lambda: operations.unlink(ROOT, b"other", CONTEXT)) == 0


async def test_a_file_that_was_opened_while_the_version_changed_is_of_the_newer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = await drive()
    view = SnapshotView(own.drive)
    number = view.inodes.remember(ROOT, b"there", REGULAR)
    await own.writer.put_file("there", b"22")
    slowly = Slowly(monkeypatch)
    opened = []

    async def opening() -> None:
        opened.append(await view.open(number, writing=False, truncating=False, keeps_set_id=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(opening)
        await wait_all_tasks_blocked()
        await view.switch(own.drive.snapshot())
        slowly.go.set()
    assert opened[0].file is not None
    assert opened[0].file.size == 2
