"""A drive of ours as a tree of inodes that may be changed, without FUSE."""

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from hyperfs.drive.snapshot import OpenFile
from hyperfs.errors import PathError
from hyperfs.mount.files import Handle
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.rows import name_of, unpack
from hyperfs.mount.staging.nodes import Renaming
from hyperfs.mount.view import Answer
from hyperfs.mount.workspace_view import WorkspaceView
from tests.support.drives import new_drive
from tests.support.workspaces import Paths

FILE = 0o100644


class Mount:
    """A view, and what the kernel would ask of it."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.view = WorkspaceView(paths.own.drive, paths.workspace, paths.own.committer)

    async def lookup(self, name: str) -> Answer:
        return self.view.lookup_now(ROOT, name.encode()) or await self.view.lookup(ROOT, name.encode())

    async def open(self, name: str, *, writing: bool = False, truncating: bool = False) -> Handle:
        number = (await self.lookup(name)).number
        handle = None if truncating else self.view.open_now(number, writing=writing)
        return handle or await self.view.open(number, writing=writing, truncating=truncating, keeps_set_id=True)

    async def read(self, handle: Handle) -> bytes:
        source = self.view.source_now(handle) or await self.view.source(handle)
        return await source.read(0, source.size)

    async def make(self, name: str, data: bytes) -> Handle:
        answer = await self.view.make(ROOT, name, FILE, 0, 0)
        handle = self.view.open_made(answer.number)
        await self.view.write(handle, 0, data)
        return handle

    async def rows(self) -> list[bytes]:
        return await self.view.list(ROOT, lambda: None)


@pytest.fixture
async def mount(tmp_path: Path) -> AsyncIterator[Mount]:
    paths = await Paths.open(tmp_path)
    await paths.put("committed", b"old")
    await paths.commit()
    await paths.workspace.tree.sweep(paths.workspace.exclusively)
    yield Mount(paths)
    paths.workspace.files.close()


async def test_a_new_file_is_there_at_once(mount: Mount) -> None:
    handle = await mount.make("new", b"hello")
    answer = await mount.lookup("new")
    assert answer.number == handle.number
    assert answer.attributes.size == 5
    assert await mount.read(handle) == b"hello"


async def test_what_is_only_read_is_not_taken_up(mount: Mount) -> None:
    handle = await mount.open("committed")
    assert isinstance(mount.view.source_now(handle), OpenFile)
    assert await mount.read(handle) == b"old"
    assert handle.number not in mount.paths.workspace.tree.nodes
    await mount.view.released(handle)


async def test_a_reader_sees_what_is_written_after_he_opened(mount: Mount) -> None:
    reader = await mount.open("committed")
    writer = await mount.open("committed", writing=True)
    await mount.view.write(writer, 0, b"new!")
    assert await mount.read(reader) == b"new!"
    await mount.view.released(writer)
    await mount.view.released(reader)
    assert not mount.paths.workspace.tree.opened


async def test_a_reader_sees_the_version_that_another_made(mount: Mount) -> None:
    reader = await mount.open("committed")
    await mount.paths.own.writer.put_file("committed", b"theirs")
    await mount.view.switch(mount.paths.own.drive.snapshot())
    assert await mount.read(reader) == b"theirs"


async def test_who_has_an_unlinked_file_open_keeps_it(mount: Mount) -> None:
    reader = await mount.open("committed")
    await mount.view.unlink(ROOT, "committed")
    assert await mount.read(reader) == b"old"
    assert (await mount.lookup("committed")).number == 0


async def test_a_truncating_open_empties_and_a_cancelled_one_does_not(mount: Mount) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with mount.paths.workspace.exclusively():
            await mount.open("committed", writing=True, truncating=True)
    assert (await mount.lookup("committed")).attributes.size == 3
    assert not mount.paths.workspace.tree.opened
    await mount.open("committed", writing=True, truncating=True)
    assert (await mount.lookup("committed")).attributes.size == 0


async def test_a_row_that_was_listed_is_as_it_has_to_be_now(mount: Mount) -> None:
    await mount.make("staged", b"1")
    await mount.make("renamed", b"1")
    before = mount.view.generation
    rows = {name_of(row): row for row in await mount.rows()}
    assert set(rows) == {b"committed", b"staged", b"renamed"}
    assert mount.view.generation == before
    await mount.view.unlink(ROOT, "committed")
    assert mount.view.rename_now(ROOT, "renamed", ROOT, "elsewhere", Renaming.REPLACE)
    writer = await mount.open("staged", writing=True)
    await mount.view.write(writer, 0, b"longer")
    assert mount.view.generation != before
    assert mount.view.row_now(ROOT, rows[b"committed"]) is None
    assert mount.view.row_now(ROOT, rows[b"renamed"]) is None
    staged = mount.view.row_now(ROOT, rows[b"staged"])
    assert staged is not None
    assert unpack(staged)[0].size == 6


async def test_a_row_of_a_file_that_another_changed_is_of_his_version(mount: Mount) -> None:
    (row,) = await mount.rows()
    await mount.paths.own.writer.put_file("committed", b"longer than before")
    await mount.view.switch(mount.paths.own.drive.snapshot())
    await mount.lookup("committed")
    now = mount.view.row_now(ROOT, row)
    assert now is not None
    assert unpack(now)[0].size == len(b"longer than before")


async def test_the_blocks_below_what_is_staged_stay(mount: Mount) -> None:
    key = mount.paths.own.content.key
    assert list(mount.view.blocks_in_use(key, [])) == []
    reader = await mount.open("committed")
    (read,) = mount.view.blocks_in_use(key, [reader])
    writer = await mount.open("committed", writing=True)
    await mount.view.write(writer, 1, b"x")
    assert list(mount.view.blocks_in_use(key, [])) == [read]


async def test_what_is_inside_somebody_elses_drive_is_read_and_not_written(tmp_path: Path) -> None:
    own = await new_drive()
    other = await new_drive(own.cores)
    await other.writer.put_file("file", b"theirs")
    await own.writer.mount("inner", other.drive.key)
    mount = Mount(await Paths.open(tmp_path, own))
    inner = (await mount.lookup("inner")).number
    number = (await mount.view.lookup(inner, b"file")).number
    handle = mount.view.open_now(number, writing=False) or await mount.view.open(
        number, writing=False, truncating=False, keeps_set_id=True
    )
    assert await mount.read(handle) == b"theirs"
    with pytest.raises(PathError) as caught:
        await mount.view.open(number, writing=True, truncating=False, keeps_set_id=True)
    assert caught.value.errno == errno.EROFS
    await mount.view.released(handle)
