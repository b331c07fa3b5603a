"""Listing a folder of a writable mount: of one instant, and as long as it takes."""

import types
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pyfuse3
import pytest
import trio
from trio.testing import MockClock

from hyperfs.mount.inodes import ROOT
from hyperfs.mount.operations import Operations
from hyperfs.mount.options import MountOptions
from hyperfs.mount.workspace_view import WorkspaceView
from tests.support.workspaces import Paths

CONTEXT: Any = types.SimpleNamespace(uid=0, gid=0, pid=0)
LIMIT_SECONDS = 5.0


def view_of(paths: Paths) -> WorkspaceView:
    return WorkspaceView(paths.own.drive, paths.workspace, paths.own.committer)


async def test_a_listing_may_take_longer_than_the_limit_as_long_as_it_goes_on(
    tmp_path: Path, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await Paths.open(tmp_path)
    for name in ("a", "b", "c"):
        await paths.put(name, b"x")
    listing = paths.workspace.tree.list

    async def slowly(number: int) -> AsyncGenerator[Any, None]:
        async for batch in listing(number):
            for row in batch:
                await trio.sleep(LIMIT_SECONDS * 0.9)
                yield [row]

    replied = []
    monkeypatch.setattr(paths.workspace.tree, "list", slowly)
    monkeypatch.setattr(pyfuse3, "readdir_reply", lambda token, name, *_: replied.append(name) or True)
    async with trio.open_nursery() as nursery:
        options = MountOptions(lookup_timeout_seconds=LIMIT_SECONDS)
        operations = Operations(view_of(paths), options, nursery)
        handle = await operations.opendir(ROOT, CONTEXT)
        token: Any = None
        await operations.readdir(handle, 0, token)
    assert replied == [b".", b"..", b"a", b"b", b"c"]


async def test_a_listing_is_of_one_instant_also_when_it_is_committed_meanwhile(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("committed", b"x")
    await paths.commit()
    await paths.put("staged", b"x")
    listing = paths.workspace.tree.list(ROOT)
    found = await anext(listing)
    await paths.commit()
    found += [row async for batch in listing for row in batch]
    assert sorted(name for name, _ in found) == ["committed", "staged"]


async def test_who_removes_a_folder_hears_that_it_is_being_looked_through(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/f", b"x")
    await paths.commit()
    await paths.unlink("d/f")
    heard = []
    await paths.workspace.names.remove_directory(ROOT, "d", on_entries=lambda: heard.append(True))
    assert heard


class Kernel:
    """Reads a folder as the kernel does, and keeps what it is told of each name, and for how long."""

    def __init__(self, operations: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known: dict[bytes, float] = {}
        self._operations = operations
        self._room = 0
        self._offset = 0
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)

    async def read(self, handle: int, entries: int) -> None:
        self._room = entries
        await self._operations.readdir(handle, self._offset, None)  # type: ignore[arg-type]

    def _reply(self, token: Any, name: bytes, attributes: pyfuse3.EntryAttributes, offset: int) -> bool:
        if not self._room:
            return False
        self._room -= 1
        self.known[name] = attributes.entry_timeout
        self._offset = offset
        return True


@pytest.mark.parametrize("was", ["staged", "committed", "made in a folder that is in the drive"])
@pytest.mark.parametrize("then", ["nothing", "commit"])
async def test_what_went_while_its_folder_was_read_is_not_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: str, then: str
) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/first", b"")
    if was != "staged":
        await paths.commit()
    for name in ("index.lock", "renamed.tmp", "kept"):
        await paths.put(f"d/{name}", b"x")
    if was == "committed":
        await paths.commit()
    async with trio.open_nursery() as nursery:
        operations = Operations(view_of(paths), MountOptions(), nursery)
        kernel = Kernel(operations, monkeypatch)
        folder = await paths.number("d")
        paths.workspace.inodes.looked_up(folder)
        handle = await operations.opendir(folder, CONTEXT)
        await kernel.read(handle, 2)
        await paths.unlink("d/index.lock")
        await paths.rename("d/renamed.tmp", "d/final")
        if then == "commit":
            await paths.commit()
        await kernel.read(handle, 100)
    kept = {name for name, seconds in kernel.known.items() if seconds}
    assert {b"index.lock", b"renamed.tmp"}.isdisjoint(kept)
    assert then == "commit" or b"kept" in kept
