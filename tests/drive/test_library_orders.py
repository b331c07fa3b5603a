"""Drives as programs use them: writes at once, drives in drives in drives, links to links, loops that are watched."""

import errno
from pathlib import Path

import pytest
import trio
import trio.testing

import hyperfs
from hyperfs.errors import PathError


async def test_what_is_written_at_once_is_all_there(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        writer = await store.writer(drive)
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(writer.put_file, f"f{number}", b"%d" % number)
        snapshot = drive.snapshot()
        for number in range(10):
            assert await snapshot.read(await snapshot.stat(f"f{number}"), 0, 10) == b"%d" % number


async def test_drives_are_mounted_through_each_other_and_each_entry_tells_whose_it_is(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        one, two, three = [await store.create_drive() for _ in range(3)]
        writer = await store.writer(one)
        await writer.mount("a", two.key)
        await writer.mount("a/b", three.key)
        await writer.put_file("b/c", b"mine")
        await writer.put_file("a/b/c", b"theirs")
        snapshot = one.snapshot()
        assert {
            entry.path: (entry.is_directory, (await snapshot.locate(entry.path, enter=True))[0].key)
            async for entry in snapshot.walk()
            if entry.path
        } == {
            "a": (True, two.key),
            "a/b": (True, three.key),
            "a/b/c": (False, three.key),
            "b": (True, one.key),
            "b/c": (False, one.key),
        }
        assert (await snapshot.locate("a/b/c"))[1] == "c"
        assert [entry.name async for entry in two.snapshot().list()] == ["b"]
        outside = {entry.path async for entry in snapshot.walk(into_mounts=False) if entry.path}
        assert outside == {"a", "b", "b/c"}


async def test_links_to_links_lead_to_the_directory(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        writer = await store.writer(drive)
        for path in ("a/c/d", "b/e", "b/f"):
            await writer.put_file(path)
        for path, target in (("a/d", "../r"), ("r", "a/c/f"), ("a/c/f", "../../b"), ("p", "nothing_here")):
            await writer.symlink(path, target)
        snapshot = drive.snapshot()
        for path in ("a/d", "r", "a/c/f"):
            directory = await hyperfs.follow(snapshot, path)
            assert [entry.name async for entry in snapshot.list(directory.path)] == ["e", "f"]
        with pytest.raises(PathError) as refused:
            await hyperfs.follow(snapshot, "p")
        assert refused.value.errno == errno.ENOENT
        assert "p" in [entry.name async for entry in snapshot.list()]
        await writer.put_file("nothing_here", b"now")
        assert (await hyperfs.follow(drive.snapshot(), "p")).stat.size == 3
        await writer.delete("p")
        assert (await drive.snapshot().stat("nothing_here")).stat.size == 3


async def test_a_link_below_directories_that_nobody_made_can_be_deleted(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        writer = await store.writer(drive)
        await writer.symlink("a/b/c/d", "nowhere")
        assert (await drive.snapshot().stat("a/b/c/d")).is_link
        await writer.delete("a/b/c/d")
        assert [entry.path async for entry in drive.snapshot().walk() if entry.path] == []


async def test_drives_that_are_mounted_in_each_other_can_be_watched(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        one, two = await store.create_drive(), await store.create_drive()
        ours, theirs = await store.writer(one), await store.writer(two)
        await ours.mount("a", two.key)
        await theirs.mount("b", one.key)
        watched = one.watch()
        snapshot = await anext(watched)
        assert [entry.path async for entry in snapshot.list("a")] == ["a/b"]
        for writer, path in ((theirs, "a/c"), (ours, "c")):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.put_file, "c", b"x")
                newer = await anext(watched)
                while path not in [entry.path async for entry in newer.list(path.rpartition("/")[0])]:
                    newer = await anext(watched)
        await watched.aclose()
