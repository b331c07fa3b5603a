"""What is named as different between two versions."""

from contextlib import aclosing

import pytest
import trio
import trio.testing

from hyperfs.drive.changes import Change, Kind, changes, differences
from hyperfs.drive.drive import Drive
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import Stat, encode_stat
from hyperfs.trie import Put
from tests.support.drives import OwnDrive, new_drive


async def changed(newer: Snapshot, older: Snapshot) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    async for change in changes(newer, older):
        assert change.path not in found
        found[change.path] = change.kind
    return found


def stat(time: int = 0, *, size: int = 0) -> bytes:
    return encode_stat(Stat(0o100644, size=size, mtime=time, ctime=time))


async def drive_of(*keys: str) -> OwnDrive:
    own = await new_drive()
    await own.commit(*[Put(key, stat()) for key in keys])
    return own


async def test_nothing_differs_from_itself() -> None:
    own = await drive_of("a")
    assert await changed(own.drive.snapshot(), own.drive.snapshot()) == {}


async def test_a_changed_file_is_named_with_the_directories_it_dates() -> None:
    own = await drive_of("a/b/c", "d/e")
    older = own.drive.snapshot()
    await own.commit(Put("a/b/c", stat(9)))
    assert await changed(own.drive.snapshot(), older) == {
        "a/b/c": Kind.CHANGED,
        "a/b": Kind.CHANGED,
        "a": Kind.CHANGED,
        "": Kind.CHANGED,
    }


async def test_a_directory_with_a_node_holds_other_things_but_is_the_same() -> None:
    own = await drive_of("x")
    await own.writer.make_directory("a")
    older = own.drive.snapshot()
    await own.writer.put_file("a/new")
    found = await changed(own.drive.snapshot(), older)
    assert (found["a"], found["a/new"]) == (Kind.LISTING, Kind.NEW)


async def test_new_implied_directories_are_named() -> None:
    own = await drive_of("x")
    older = own.drive.snapshot()
    await own.commit(Put("a/b/c", stat()))
    found = await changed(own.drive.snapshot(), older)
    assert {path for path, kind in found.items() if kind is Kind.NEW} == {"a", "a/b", "a/b/c"}


async def test_implied_directories_that_are_gone_are_named() -> None:
    own = await drive_of("x", "a/b/c")
    older = own.drive.snapshot()
    await own.writer.delete("a/b/c")
    found = await changed(own.drive.snapshot(), older)
    assert {path for path, kind in found.items() if kind is Kind.GONE} == {"a", "a/b", "a/b/c"}


async def test_a_neighbour_that_a_deletion_wrote_again_is_not_named() -> None:
    own = await drive_of("a", "b", "c")
    older = own.drive.snapshot()
    await own.writer.delete("b")
    assert await changed(own.drive.snapshot(), older) == {"b": Kind.GONE, "": Kind.LISTING}


async def test_a_file_that_becomes_a_directory_is_named_with_its_tree() -> None:
    own = await drive_of("a")
    older = own.drive.snapshot()
    await own.writer.delete("a")
    await own.writer.put_file("a/b")
    found = [change async for change in changes(own.drive.snapshot(), older)]
    assert Change("a", Kind.CHANGED, whole_tree=True) in found


async def test_changes_are_told_backwards_too() -> None:
    own = await drive_of("a")
    older = own.drive.snapshot()
    await own.commit(Put("b", stat()))
    assert (await changed(older, own.drive.snapshot()))["b"] is Kind.GONE


async def test_a_change_in_a_mounted_drive_is_named_by_its_outer_path() -> None:
    inner = await drive_of("f")
    outer = await new_drive(inner.cores)
    await outer.writer.mount("m/n", inner.drive.key)
    older = outer.drive.snapshot()
    await older.stat("m/n/f")
    await inner.commit(Put("g", stat()))
    assert await changed(outer.drive.snapshot(), older) == {"m/n/g": Kind.NEW, "m/n": Kind.LISTING}


async def test_a_mount_that_comes_or_goes_is_named_with_its_tree() -> None:
    inner = await drive_of("f")
    outer = await new_drive(inner.cores)
    before = outer.drive.snapshot()
    await outer.writer.mount("m", inner.drive.key)
    after = outer.drive.snapshot()
    assert Change("m", Kind.NEW, whole_tree=True) in [change async for change in changes(after, before)]
    assert Change("m", Kind.GONE, whole_tree=True) in [change async for change in changes(before, after)]


async def test_the_work_follows_the_change_and_not_the_drive() -> None:
    own = await drive_of(*[f"d{n % 10}/e{n % 7}/f{n}" for n in range(500)])
    older = own.drive.snapshot()
    await own.commit(Put("d1/e1/new", stat()))
    newer = own.drive.snapshot()
    looked_at: set[int] = set()
    get_local = own.metadata.get_local

    def note(index: int) -> bytes | None:
        looked_at.add(index)
        return get_local(index)

    own.metadata.get_local = note  # type: ignore[method-assign]  # to count what is read

    fresh = await Drive.open(own.cores, own.drive.key)
    old = await Drive.open(own.cores, own.drive.key, version=older.version)
    await changed(fresh.snapshot(), old.snapshot())
    assert newer.version == 502
    assert len(looked_at) < 40


async def test_when_too_much_differs_the_root_stands_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperfs.drive.changes.MAX_TEXT", 5)
    own = await drive_of("x")
    older = own.drive.snapshot()
    await own.commit(Put("a", stat()), Put("b", stat()), Put("c/d", stat()))
    found = [change async for change in changes(own.drive.snapshot(), older)]
    assert found[-1] == Change("", Kind.CHANGED, whole_tree=True)


async def test_people_are_told_paths_with_both_stats() -> None:
    own = await drive_of("a", "b", "c")
    older = own.drive.snapshot()
    await own.writer.delete("a")
    await own.commit(Put("b", stat(size=5)), Put("d/e", stat()))
    found = {item.path: item async for item in differences(own.drive.snapshot(), older)}
    assert {path: item.kind for path, item in found.items()} == {"a": Kind.GONE, "b": Kind.CHANGED, "d/e": Kind.NEW}
    newer, before = found["b"].newer, found["b"].older
    assert newer is not None
    assert before is not None
    assert (newer.size, before.size) == (5, 0)


async def test_a_watcher_sees_each_newer_version() -> None:
    own = await drive_of("a")
    seen: list[int] = []
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            async with aclosing(own.drive.watch()) as snapshots:
                async for snapshot in snapshots:
                    seen.append(snapshot.version)
                    if snapshot.version == 4:
                        return

        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        await own.commit(Put("b", stat()))
        await trio.testing.wait_all_tasks_blocked()
        await own.commit(Put("c", stat()))
    assert seen == [2, 3, 4]


async def test_a_watcher_sees_a_mounted_drive_grow() -> None:
    inner = await drive_of("f")
    outer = await new_drive(inner.cores)
    await outer.writer.mount("m", inner.drive.key)
    snapshots: list[Snapshot] = []
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            async with aclosing(outer.drive.watch()) as newer:
                async for snapshot in newer:
                    snapshots.append(snapshot)
                    if len(snapshots) == 2:
                        return

        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        await snapshots[0].stat("m/f")
        await inner.commit(Put("g", stat()))
    assert (await snapshots[1].stat("m/g")).path == "m/g"


@pytest.mark.parametrize("path", ["a/b/c", "d"])
async def test_a_rewritten_neighbour_may_still_date_a_directory(path: str) -> None:
    own = await new_drive()
    await own.commit(
        Put("a/b/c", stat(1)), Put("d", stat(2)), Put("e/f", stat(3)), Put("e/g", stat(4)), Put("h/i", stat(5))
    )
    older = own.drive.snapshot()
    await own.writer.delete(path)
    newer = own.drive.snapshot()
    named = await changed(newer, older)
    for directory in ("", "e", "h"):
        before, after = (await older.stat(directory)).stat, (await newer.stat(directory)).stat
        assert (named.get(directory) is Kind.CHANGED) == (before != after), directory
