"""Drives mounted in a drive that is written to: each has a view, numbers and staging of its own."""

import errno
from collections.abc import Awaitable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import MountTarget
from hyperfs.drive.volume import MountTable
from hyperfs.errors import BlockNotAvailable, PathError
from hyperfs.mount.inodes import ROOT, place_of
from hyperfs.mount.staging.nodes import Renaming
from hyperfs.mount.staging.tree import Found
from hyperfs.mount.staging.workspace import Workspace
from tests.support.drives import OwnDrive, new_drive
from tests.support.joined_mounts import FILE, Writers, mounted


async def refused(attempt: Awaitable[object]) -> int:
    with pytest.raises(PathError) as error:
        await attempt
    return error.value.errno


async def drives(count: int) -> list[OwnDrive]:
    first = await new_drive()
    return [first, *[await new_drive(first.cores) for _ in range(count - 1)]]


async def content(own: OwnDrive, path: str) -> bytes:
    snapshot = own.drive.snapshot()
    return await snapshot.read(await snapshot.stat(path), 0, 1000)


async def test_what_is_written_below_goes_into_the_drive_that_is_there(tmp_path: Path) -> None:
    outer, middle, innermost = await drives(3)
    await middle.writer.mount("b", innermost.drive.key)
    await outer.writer.mount("a", middle.drive.key)
    before = outer.drive.version, middle.drive.version
    async with mounted(Writers(tmp_path, outer, middle, innermost), outer) as mount:
        await mount.put("a/b/f", b"deep")
        assert await mount.read("a/b/f") == b"deep"
        assert [place_of(await mount.number(path)) for path in ("", "a", "a/b", "a/b/f")] == [0, 1, 2, 2]
        assert (await mount.names(""), await mount.names("a"), await mount.names("a/b")) == (["a"], ["b"], ["f"])
    assert await content(innermost, "f") == b"deep"
    assert (outer.drive.version, middle.drive.version) == before


async def test_nothing_is_renamed_from_one_drive_to_another(tmp_path: Path) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("in", inner.drive.key)
    async with mounted(Writers(tmp_path, outer, inner), outer) as mount:
        await mount.put("f", b"x")
        there = await mount.number("in")
        assert await refused(mount.view.rename(ROOT, "f", there, "f", Renaming.REPLACE)) == errno.EXDEV
        assert await refused(mount.view.rename(ROOT, "in", ROOT, "out", Renaming.REPLACE)) == errno.EBUSY


async def test_what_cannot_be_written_says_so_and_is_read(tmp_path: Path) -> None:
    outer, inner, theirs = await drives(3)
    await inner.writer.put_file("f", b"old")
    await theirs.writer.put_file("f", b"theirs")
    await theirs.writer.mount("ours", inner.drive.key)
    theirs.metadata.writable = False
    await outer.writer.mount("pinned", inner.drive.key, version=2)
    await outer.writer.mount("theirs", theirs.drive.key)
    await outer.writer.mount("loop", outer.drive.key)
    async with mounted(Writers(tmp_path, outer, inner, theirs), outer) as mount:
        for path in ("pinned/new", "theirs/new", "theirs/ours/new"):
            assert await refused(mount.put(path, b"x")) == errno.EROFS
        assert await refused(mount.put("loop/new", b"x")) == errno.ELOOP
        assert [await mount.read(path) for path in ("pinned/f", "theirs/f")] == [b"old", b"theirs"]


async def test_a_drive_is_written_at_one_place_at_a_time(tmp_path: Path) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("a", inner.drive.key)
    await outer.writer.mount("b", inner.drive.key)
    async with mounted(Writers(tmp_path, outer, inner), outer) as mount:
        await mount.put("a/f", b"x")
        assert await refused(mount.put("b/g", b"x")) == errno.EROFS


async def test_staged_files_of_an_inner_drive_are_found_again(tmp_path: Path) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("d/in", inner.drive.key)
    writers = Writers(tmp_path, outer, inner)
    async with mounted(writers, outer) as mount:
        await mount.put("d/in/f", b"staged")
        for place in list(mount.places):  # killed: nothing is committed any more
            if place.staged is not None:
                place.staged.workspace.files.close()
                place.staged._closed = True
    writers.held.clear()
    assert inner.drive.version == 1
    async with mounted(writers, outer) as mount:
        assert mount.places.uncommitted_bytes == len(b"staged")
        assert await mount.read("d/in/f") == b"staged"
    assert await content(inner, "f") == b"staged"


async def test_nothing_is_staged_or_committed_any_more_once_a_drive_is_let_go(tmp_path: Path) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("in", inner.drive.key)
    writers = Writers(tmp_path, outer, inner)
    async with mounted(writers, outer) as mount:
        await mount.put("in/f", b"x")
        place = mount.places.of(await mount.number("in"))
        staged = place.staged
        assert staged is not None
        await staged.close()
        for attempt in (staged.flusher.flush(), staged.view.make(place.root, "g", FILE, 0, 0)):
            with pytest.raises(OSError, match="closed"):
                await attempt
        with pytest.raises(OSError, match="closed"):
            staged.workspace.segments.make()
        assert not writers.staged()


async def test_a_place_that_nobody_changes_any_more_lets_the_drive_go(
    tmp_path: Path,
) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("in", inner.drive.key)
    writers = Writers(tmp_path, outer, inner)
    async with mounted(writers, outer) as mount:
        await mount.put("in/f", b"first")
        place = mount.places.of(await mount.number("in"))
        assert place.staged is not None
        number = await mount.number("in/f")
        await mount.places._rest(place)
        await mount.places._rest(place)
        assert place.staged is not None  # it is not committed
        await place.staged.flusher.flush()
        await mount.places._rest(place)
        await mount.places._rest(place)
        assert (place.staged, inner.drive.key in writers.held) == (None, False)
        assert (await mount.number("in/f"), await mount.read("in/f")) == (number, b"first")
        await mount.put("in/g", b"again")
    assert await content(inner, "g") == b"again"


async def test_a_place_that_the_kernel_forgets_is_given_up(tmp_path: Path) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("in", inner.drive.key)
    async with mounted(Writers(tmp_path, outer, inner), outer) as mount:
        number = await mount.number("in")
        mount.view.inodes.forget(number, 1)
        assert await refused(mount.view.attributes(number)) == errno.ESTALE
        number = await mount.number("in")
        await mount.names("in")
        mount.view.inodes.forget(number, mount.view.inodes[number].lookups)
        await mount.places._rest(mount.places.of(number))
        assert len(list(mount.places)) == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_a_place_is_not_given_up_while_it_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("in", inner.drive.key)
    async with mounted(Writers(tmp_path, outer, inner), outer) as mount:
        number = await mount.number("in")
        stat = Snapshot.stat

        async def meanwhile(snapshot: Snapshot, path: str) -> Entry:
            monkeypatch.undo()
            mount.view.inodes.forget(number, 1)  # of the lookup before
            if fails:
                raise BlockNotAvailable("it is not here")
            return await stat(snapshot, path)

        monkeypatch.setattr(Snapshot, "stat", meanwhile)
        if fails:
            with pytest.raises(BlockNotAvailable):
                await mount.number("in")
            assert len(list(mount.places)) == 1
        else:
            assert await mount.number("in") == number
            assert await mount.names("in") == []


async def test_what_is_only_listed_takes_no_place(tmp_path: Path) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("in", inner.drive.key)
    async with mounted(Writers(tmp_path, outer, inner), outer) as mount:
        assert await mount.names("") == ["in"]
        assert len(list(mount.places)) == 1


async def test_a_place_stays_while_something_is_staged_below_it(tmp_path: Path) -> None:
    outer, middle, innermost = await drives(3)
    await middle.writer.mount("b", innermost.drive.key)
    await outer.writer.mount("a", middle.drive.key)
    async with mounted(Writers(tmp_path, outer, middle, innermost), outer) as mount:
        await mount.put("a/b/f", b"staged")
        for path in ("a/b/f", "a/b", "a"):
            number = await mount.number(path)
            mount.view.inodes.forget(number, mount.view.inodes[number].lookups)
        await mount.places._rest(list(mount.places)[1])
        assert len(list(mount.places)) == 3
        await mount.put("a/b/g", b"more")
        assert await mount.names("a/b") == ["f", "g"]


async def test_cores_of_what_somebody_went_into_are_held(tmp_path: Path) -> None:
    outer, inner, other = await drives(3)
    await outer.writer.mount("in", inner.drive.key)
    await outer.writer.mount("other", other.drive.key)
    async with mounted(Writers(tmp_path, outer, inner, other), outer) as mount:
        await mount.names("in")
        await mount.number("other")
        of_outer, of_inner = [{own.metadata.key, own.content.key} for own in (outer, inner)]
        assert set(mount.places.cores()) == of_outer | of_inner


async def test_what_others_write_to_an_inner_drive_is_seen(tmp_path: Path) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("in", inner.drive.key)
    async with mounted(Writers(tmp_path, outer, inner), outer) as mount:
        assert await mount.names("in") == []
        place = mount.places.of(await mount.number("in"))
        await inner.writer.put_file("theirs", b"x")
        await trio.testing.wait_all_tasks_blocked()
        assert place.snapshot.version == inner.drive.version
        await mount.put("in/mine", b"y")
        await inner.writer.put_file("more", b"z")
        await trio.testing.wait_all_tasks_blocked()
        assert await mount.names("in") == ["mine", "more", "theirs"]


async def test_a_place_is_found_also_while_another_version_comes_to_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, middle, innermost = await drives(3)
    await middle.writer.mount("b", innermost.drive.key)
    await outer.writer.mount("a", middle.drive.key)
    async with mounted(Writers(tmp_path, outer, middle, innermost), outer) as mount:
        above = await mount.number("a")
        place, mounts, found = await mount.places.entered(above), Snapshot.mounts, []

        async def meanwhile(snapshot: Snapshot) -> MountTable:
            found.append(place_of((await mount.view.lookup(above, b"b")).number))
            return await mounts(snapshot)

        newer = Snapshot(middle.drive.volume, middle.drive.version, ((middle.drive.key, None),))
        with monkeypatch.context() as patch:
            patch.setattr(newer, "mounts", partial(meanwhile, newer))
            await place.switch(newer)
        found.append(place_of((await mount.view.lookup(above, b"b")).number))
        assert (place.snapshot, found) == (newer, [2, 2])


async def test_a_drive_that_comes_to_be_mounted_while_its_name_is_looked_up_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, inner = await drives(2)
    async with mounted(Writers(tmp_path, outer, inner), outer) as mount:
        find = Workspace.find

        async def meanwhile(workspace: Workspace, parent: int, name: str) -> Found | None:
            monkeypatch.undo()
            await mount.places.outer.view.link("in", MountTarget(inner.drive.key))
            return await find(workspace, parent, name)

        monkeypatch.setattr(Workspace, "find", meanwhile)
        assert place_of((await mount.view.lookup(ROOT, b"in")).number) == 1
        await mount.put("in/f", b"x")
    assert await content(inner, "f") == b"x"


async def test_a_place_that_is_unmounted_before_anybody_went_in_is_gone(tmp_path: Path) -> None:
    outer, inner = await drives(2)
    await outer.writer.mount("in", inner.drive.key)
    async with mounted(Writers(tmp_path, outer, inner), outer) as mount:
        number = await mount.number("in")
        await mount.places.outer.view.link("in", None)
        await mount.put("in", b"a file now")
        await mount.places.outer.flusher.flush()
        assert await refused(mount.view.attributes(number)) == errno.ESTALE
