"""Drives mounted in drives."""

import errno

import pytest

from hyperfs.drive.drive import Drive
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import MountTarget, Stat, encode_mount_record, encode_stat
from hyperfs.errors import BlockNotAvailable, NotADrive, PathError, UnknownVersion
from hyperfs.trie import Put
from tests.support.drives import OwnDrive, new_drive
from tests.support.memory_core import MemoryCore

FILE = encode_stat(Stat(0o100644))


async def paths_in(snapshot: Snapshot, path: str = "") -> list[str]:
    return sorted([entry.path async for entry in snapshot.walk(path)])


async def read(snapshot: Snapshot, path: str) -> bytes:
    entry = await snapshot.stat(path)
    return await snapshot.read(entry, 0, entry.stat.size)


async def outer_and_inner(*, version: int | None = None) -> tuple[OwnDrive, OwnDrive]:
    inner = await new_drive()
    await inner.writer.put_file("dir/file", b"inner content")
    outer = await new_drive(inner.cores)
    await outer.writer.put_file("own", b"outer content")
    await outer.writer.mount("sub/in", inner.drive.key, version=version)
    return outer, inner


async def test_a_mounted_drive_is_a_directory_of_the_outer_one() -> None:
    outer, inner = await outer_and_inner()
    entry = await outer.drive.snapshot().stat("sub/in")
    assert entry.is_directory
    assert entry.mount == MountTarget(inner.drive.key)
    assert entry.volume.key == outer.drive.key


async def test_paths_below_lead_into_it() -> None:
    outer, inner = await outer_and_inner()
    snapshot = outer.drive.snapshot()
    assert await paths_in(snapshot) == ["own", "sub", "sub/in", "sub/in/dir", "sub/in/dir/file"]
    entry = await snapshot.stat("sub/in/dir/file")
    assert (entry.volume.key, entry.inner_path) == (inner.drive.key, "dir/file")


async def test_its_bytes_come_from_its_own_content() -> None:
    outer, _ = await outer_and_inner()
    assert await read(outer.drive.snapshot(), "sub/in/dir/file") == b"inner content"


async def test_a_live_one_is_followed() -> None:
    outer, inner = await outer_and_inner()
    before = outer.drive.snapshot()
    assert "sub/in/new" not in await paths_in(before)
    await inner.writer.put_file("new", b"x")
    assert "sub/in/new" not in await paths_in(before)
    assert "sub/in/new" in await paths_in(outer.drive.snapshot())


async def test_a_pinned_one_stays() -> None:
    outer, inner = await outer_and_inner(version=2)
    await inner.writer.put_file("new", b"x")
    assert "sub/in/new" not in await paths_in(outer.drive.snapshot())


async def test_a_checkout_reads_an_unpinned_one_live() -> None:
    outer, inner = await outer_and_inner()
    pinned = await Drive.open(outer.cores, outer.drive.key, version=outer.drive.version)
    await outer.writer.put_file("later", b"x")
    await inner.writer.put_file("new", b"x")
    paths = await paths_in(pinned.snapshot())
    assert "sub/in/new" in paths
    assert "later" not in paths


async def test_two_levels_deep_with_one_pinned() -> None:
    innermost = await new_drive()
    await innermost.writer.put_file("a", b"first")
    await innermost.writer.put_file("a", b"second")
    middle = await new_drive(innermost.cores)
    await middle.writer.mount("pinned", innermost.drive.key, version=2)
    await middle.writer.mount("live", innermost.drive.key)
    outer = await new_drive(innermost.cores)
    await outer.writer.mount("m", middle.drive.key)
    snapshot = outer.drive.snapshot()
    assert await read(snapshot, "m/pinned/a") == b"first"
    assert await read(snapshot, "m/live/a") == b"second"


async def test_the_closest_mount_decides() -> None:
    one, two = await new_drive(), None
    await one.writer.put_file("b/f", b"from a")
    two = await new_drive(one.cores)
    await two.writer.put_file("f", b"from b")
    outer = await new_drive(one.cores)
    await outer.writer.mount("a", one.drive.key)
    await outer.commit(Put("mounts/a/b", encode_mount_record("a/b", MountTarget(two.drive.key)), flags=1, hidden=True))
    assert await read(outer.drive.snapshot(), "a/b/f") == b"from b"


async def test_a_longer_name_is_not_below_a_mount() -> None:
    outer, _ = await outer_and_inner()
    await outer.writer.put_file("sub/in2", b"own")
    assert await read(outer.drive.snapshot(), "sub/in2") == b"own"


async def test_a_drive_mounted_in_itself_is_a_loop() -> None:
    own = await new_drive()
    await own.writer.put_file("f", b"x")
    await own.writer.mount("self", own.drive.key)
    snapshot = own.drive.snapshot()
    assert (await snapshot.stat("self")).is_directory
    for path in ("self/f", "self/self"):
        with pytest.raises(PathError) as raised:
            await snapshot.stat(path)
        assert raised.value.errno == errno.ELOOP
    with pytest.raises(PathError) as raised:
        await paths_in(snapshot, "self")
    assert raised.value.errno == errno.ELOOP


async def test_two_drives_mounted_in_each_other_are_a_loop() -> None:
    one = await new_drive()
    two = await new_drive(one.cores)
    await one.writer.mount("two", two.drive.key)
    await two.writer.mount("one", one.drive.key)
    snapshot = one.drive.snapshot()
    assert (await snapshot.stat("two/one")).is_directory
    with pytest.raises(PathError) as raised:
        await snapshot.stat("two/one/two")
    assert raised.value.errno == errno.ELOOP


async def test_an_old_version_of_a_drive_in_itself_is_no_loop() -> None:
    own = await new_drive()
    await own.writer.put_file("f", b"old")
    await own.writer.mount("history", own.drive.key, version=2)
    await own.writer.put_file("f", b"new")
    assert await read(own.drive.snapshot(), "history/f") == b"old"


async def test_a_walk_does_not_go_into_a_loop() -> None:
    own = await new_drive()
    await own.writer.mount("self", own.drive.key)
    assert await paths_in(own.drive.snapshot()) == ["self"]


async def test_nothing_mounted_is_below_a_file() -> None:
    outer, inner = await outer_and_inner()
    await outer.commit(
        Put("own/x", FILE, flags=1),
        Put("mounts/own/x", encode_mount_record("own/x", MountTarget(inner.drive.key)), flags=1, hidden=True),
    )
    with pytest.raises(PathError) as raised:
        await outer.drive.snapshot().stat("own/x/dir")
    assert raised.value.errno == errno.ENOTDIR


async def test_a_mount_without_a_visible_node_is_listed() -> None:
    outer, inner = await outer_and_inner()
    record = encode_mount_record("bare/there", MountTarget(inner.drive.key))
    await outer.commit(Put("mounts/bare/there", record, flags=1, hidden=True))
    paths = await paths_in(outer.drive.snapshot(), "bare")
    assert paths == ["bare/there", "bare/there/dir", "bare/there/dir/file"]


async def test_a_hidden_node_without_the_flag_is_no_mount() -> None:
    outer, inner = await outer_and_inner()
    await outer.commit(Put("mounts/x", encode_mount_record("x", MountTarget(inner.drive.key)), hidden=True))
    with pytest.raises(PathError):
        await outer.drive.snapshot().stat("x")


async def test_an_unreadable_record_is_left_out() -> None:
    outer, _ = await outer_and_inner()
    await outer.commit(Put("mounts/x", b"\xff", flags=1, hidden=True))
    assert "sub/in/dir/file" in await paths_in(outer.drive.snapshot())


async def test_unmounting_leaves_what_the_outer_drive_has() -> None:
    outer, _ = await outer_and_inner()
    await outer.writer.unmount("sub/in")
    assert await paths_in(outer.drive.snapshot()) == ["own"]


async def test_a_mounted_core_is_a_file_as_long_as_the_core() -> None:
    own = await new_drive()
    core = own.cores.create()
    await core.append([b"abc", b"defg"])
    await own.writer.mount_core("log", core.key)
    snapshot = own.drive.snapshot()
    entry = await snapshot.stat("log")
    assert (entry.stat.size, await snapshot.read(entry, 1, 100)) == (7, b"bcdefg")
    (listed,) = [found async for found in snapshot.list()]
    assert listed == entry


async def test_a_mounted_core_grows_with_the_core() -> None:
    own = await new_drive()
    core = own.cores.create()
    await own.writer.mount_core("log", core.key)
    await core.append([b"abc"])
    assert await read(own.drive.snapshot(), "log") == b"abc"


async def test_a_mounted_key_that_is_no_drive_is_told() -> None:
    own = await new_drive()
    core = own.cores.create()
    await core.append([b"no header"])
    await own.writer.mount("m", core.key)
    snapshot = own.drive.snapshot()
    assert (await snapshot.stat("m")).is_directory
    with pytest.raises(NotADrive):
        await snapshot.stat("m/x")


async def test_a_mounted_drive_that_nobody_has_does_not_hide_its_neighbours() -> None:
    own = await new_drive()
    await own.writer.mount("m", b"k" * 32)
    await own.writer.put_file("f", b"x")
    snapshot = own.drive.snapshot()
    assert sorted([entry.name async for entry in snapshot.list()]) == ["f", "m"]
    with pytest.raises(BlockNotAvailable):
        await snapshot.stat("m/x")


async def test_a_mounted_version_that_is_not_there_is_told() -> None:
    outer, _ = await outer_and_inner(version=99)
    with pytest.raises(UnknownVersion):
        await outer.drive.snapshot().stat("sub/in/dir")


async def test_a_walk_that_does_not_go_into_mounted_drives_needs_none_of_them() -> None:
    outer, inner = await outer_and_inner()
    inner.metadata.take_away(*range(inner.metadata.length))
    walked = [entry.path async for entry in outer.drive.snapshot().walk(into_mounts=False)]
    assert sorted(walked) == ["own", "sub", "sub/in"]


async def test_only_so_many_drives_are_reached_whether_they_are_there_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperfs.drive.volume.MAX_DRIVES", 3)
    outer, _ = await outer_and_inner()
    await outer.writer.mount("nowhere", bytes(32))
    await outer.writer.mount("one-too-many", bytes(31) + b"\1")
    snapshot = outer.drive.snapshot()
    assert await read(snapshot, "sub/in/dir/file") == b"inner content"
    with pytest.raises(BlockNotAvailable):
        await snapshot.stat("nowhere/file")
    with pytest.raises(PathError, match="are open") as refused:
        await snapshot.stat("one-too-many/file")
    assert refused.value.errno == errno.EMFILE
    assert bytes(31) + b"\1" not in outer.cores.cores
    with pytest.raises(BlockNotAvailable):  # again, and it is not counted twice
        await snapshot.stat("nowhere/file")


async def test_only_so_many_cores_are_opened_that_are_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperfs.drive.volume.MAX_DRIVES", 2)  # the drive itself, and one more
    own = await new_drive()
    cores = [own.cores.create() for _ in range(3)]
    for number, core in enumerate(cores):
        await core.append([b"bytes"])
        await own.writer.mount_core(f"f{number}", core.key)
    opened = []
    open_core = own.cores.open_core

    async def noted(key: bytes) -> MemoryCore:
        opened.append(key)
        return await open_core(key)

    monkeypatch.setattr(own.cores, "open_core", noted)
    snapshot = own.drive.snapshot()
    sizes = sorted([entry.stat.size async for entry in snapshot.list()])
    assert (sizes, len(set(opened))) == ([0, 0, 5], 1)
    reached = [core for core in cores if core.key in opened]
    refused = []
    for number, core in enumerate(cores):
        entry = await snapshot.stat(f"f{number}")
        try:
            assert (await snapshot.read(entry, 0, 10), core) == (b"bytes", reached[0])
        except PathError as error:
            refused.append(error.errno)
    assert refused == [errno.EMFILE] * 2
