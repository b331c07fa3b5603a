"""What one version of a drive shows."""

import errno
import logging
import stat as st

import pytest
import trio

from hyperfs.core.reader import Run
from hyperfs.drive import names
from hyperfs.drive.batch import Owner
from hyperfs.drive.changes import changes
from hyperfs.drive.descent import LISTED_AT_ONCE, newest_at
from hyperfs.drive.dirents import DirectoryCache, Dirent, Gathered
from hyperfs.drive.drive import Drive
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.stat import Stat, encode_stat
from hyperfs.errors import BlockNotAvailable, NotADrive, PathError, UnknownVersion
from hyperfs.trie import Header, Node, NodeCache, Put, Trie
from tests.support.drives import OwnDrive, new_drive
from tests.support.memory_core import MemoryCores

FILE = encode_stat(Stat(0o100644, mtime=5000, ctime=6000))


async def names_in(snapshot: Snapshot, path: str = "", *, raw: bool = False) -> list[str]:
    return sorted([entry.name async for entry in snapshot.list(path, raw=raw)])


async def drive_of(*keys: str) -> OwnDrive:
    own = await new_drive()
    await own.commit(*[Put(key, FILE) for key in keys])
    return own


async def error_of(snapshot: Snapshot, path: str) -> int:
    with pytest.raises(PathError) as raised:
        await snapshot.stat(path)
    return raised.value.errno


async def test_an_empty_drive_has_an_empty_root() -> None:
    own = await new_drive()
    snapshot = own.drive.snapshot()
    assert (await snapshot.stat("")).is_directory
    assert await names_in(snapshot) == []


async def test_a_directory_lists_each_name_once() -> None:
    own = await drive_of("a/b/c", "a/b/d", "a/e", "f", "g/h/i/j")
    snapshot = own.drive.snapshot()
    assert await names_in(snapshot) == ["a", "f", "g"]
    assert await names_in(snapshot, "a") == ["b", "e"]


async def test_walk_finds_everything() -> None:
    keys = {f"d{n % 7}/e{n % 3}/f{n}" for n in range(100)}
    own = await drive_of(*keys)
    files = {entry.path async for entry in own.drive.snapshot().walk() if not entry.is_directory}
    assert files == keys


async def test_an_implied_directory_takes_its_times_from_the_newest_below() -> None:
    own = await new_drive()
    await own.commit(
        Put("a/old", encode_stat(Stat(0o100600, uid=1, gid=2, mtime=1000, ctime=1001))),
        Put("a/new", encode_stat(Stat(0o100600, uid=3, gid=4, mtime=2000, ctime=2001))),
    )
    stat = (await own.drive.snapshot().stat("a")).stat
    assert stat == Stat(st.S_IFDIR | 0o755, uid=3, gid=4, mtime=2000, ctime=2001)


async def test_stat_and_list_tell_the_same() -> None:
    own = await drive_of("a/b/c", "a/b/d", "a/e", "f", "g/h/i/j")
    await own.writer.make_directory("a/b")
    await own.writer.make_directory("k")
    snapshot = own.drive.snapshot()
    for entry in [entry async for entry in snapshot.walk()]:
        assert await snapshot.stat(entry.path) == entry


async def test_what_is_here_is_told_without_waiting() -> None:
    own = await drive_of("a/b/c", "a/b/d", "a/e", "f", "g/h/i/j")
    await own.writer.make_directory("a/b")
    snapshot = own.drive.snapshot()
    for entry in [entry async for entry in snapshot.walk()]:
        await snapshot.stat(entry.path)
        assert snapshot.stat_now(entry.path) == entry


async def test_a_name_is_looked_for_from_its_directory_on() -> None:
    own = await drive_of("d/a", "d/b", *[f"other{n}/f" for n in range(50)])
    drive = await Drive.open(own.cores, own.drive.key, cache=NodeCache(1))
    snapshot = drive.snapshot()
    of_directory = {(await snapshot.stat(path)).seq for path in ("d/a", "d/b")}
    own.metadata.take_away(*set(range(1, own.metadata.length)) - of_directory)
    assert snapshot.stat_now("d/a") is not None


@pytest.mark.parametrize("path", ["f/below", "a/..", "a/none", "none", "", "g/h/none/x"])
async def test_nothing_is_told_without_waiting_of_what_is_not_there(path: str) -> None:
    own = await drive_of("a/b/c", "f", "g/h/i/j")
    snapshot = own.drive.snapshot()
    for known in ("a/b/c", "g/h/i/j"):
        await snapshot.stat(known)
    assert snapshot.stat_now(path) is None


async def test_a_file_is_opened_without_waiting_once_its_content_was() -> None:
    own = await new_drive()
    await own.writer.put_file("f", b"hello")
    snapshot = own.drive.snapshot()
    entry = await snapshot.stat("f")
    assert snapshot.open_now(entry, entry.stat) is None
    assert await snapshot.open(entry) == snapshot.open_now(entry, entry.stat)


async def test_a_directory_with_a_node_of_its_own_is_shown_by_it() -> None:
    own = await drive_of("a/b", "a/c")
    await own.writer.make_directory("a", mode=0o700)
    entry = await own.drive.snapshot().stat("a")
    assert (entry.implied, entry.stat.mode) == (False, st.S_IFDIR | 0o700)


async def test_it_stays_so_when_something_below_is_newer() -> None:
    own = await new_drive()
    await own.writer.make_directory("a", mode=0o700)
    await own.writer.put_file("a/b/c")
    snapshot = own.drive.snapshot()
    (entry,) = [entry async for entry in snapshot.list()]
    assert (entry.implied, entry.stat.mode) == (False, st.S_IFDIR | 0o700)


@pytest.mark.parametrize("path", ["x", "a/x", "a/b/x/y", "..", "a/..", "a/./b", "a\\b", "x" * 300])
async def test_what_is_not_there_is_enoent(path: str) -> None:
    own = await drive_of("a/b/c")
    assert await error_of(own.drive.snapshot(), path) == errno.ENOENT


@pytest.mark.parametrize("path", ["f/x", "f/x/y", "a/b/x"])
async def test_nothing_is_below_a_file(path: str) -> None:
    own = await drive_of("f", "a/b")
    assert await error_of(own.drive.snapshot(), path) == errno.ENOTDIR


async def test_a_file_is_not_listed() -> None:
    own = await drive_of("f")
    with pytest.raises(PathError) as raised:
        await names_in(own.drive.snapshot(), "f")
    assert raised.value.errno == errno.ENOTDIR


@pytest.mark.parametrize("keys", [("a", "a/b", "a/c/d"), ("a/b", "a/c/d", "a")])
async def test_where_a_path_holds_a_file_and_children_it_is_the_file(keys: tuple[str, ...]) -> None:
    own = await drive_of(*keys)
    snapshot = own.drive.snapshot()
    assert [(entry.name, entry.is_directory) async for entry in snapshot.list()] == [("a", False)]
    assert (await snapshot.stat("a")).stat.is_file
    assert await error_of(snapshot, "a/b") == errno.ENOTDIR
    assert await error_of(snapshot, "a/c") == errno.ENOTDIR


async def test_links_are_not_followed() -> None:
    own = await new_drive()
    await own.writer.put_file("target", b"x")
    await own.writer.symlink("link", "target")
    snapshot = own.drive.snapshot()
    assert (await snapshot.stat("link")).stat.is_link
    assert await snapshot.readlink("link") == "target"
    assert await error_of(snapshot, "link/x") == errno.ENOTDIR


async def test_only_a_link_has_a_target() -> None:
    own = await drive_of("f")
    with pytest.raises(PathError) as raised:
        await own.drive.snapshot().readlink("f")
    assert raised.value.errno == errno.EINVAL


async def test_a_file_is_read_at_any_place() -> None:
    own = await new_drive()
    content = bytes(range(256)) * 5000
    await own.writer.put_file("before", b"1234")
    await own.writer.put_file("f", content)
    snapshot = own.drive.snapshot()
    entry = await snapshot.stat("f")
    assert await snapshot.read(entry, 0, len(content)) == content
    assert await snapshot.read(entry, 524_280, 20) == content[524_280:524_300]
    assert await snapshot.read(entry, len(content) - 3, 100) == content[-3:]
    assert await snapshot.read(entry, len(content), 1) == b""


async def test_a_file_is_copied_from_any_place_on() -> None:
    own = await new_drive()
    content = bytes(range(256)) * 40_000
    await own.writer.put_file("f", content)
    snapshot = own.drive.snapshot()
    copied = bytearray()

    async def write(data: bytes) -> None:
        copied.extend(data)

    await (await snapshot.open(await snapshot.stat("f"))).copy_to(write, start=12_345)
    assert copied == content[12_345:]


@pytest.mark.parametrize(("path", "code"), [("d", errno.EISDIR), ("l", errno.EINVAL), ("dev", errno.EINVAL)])
async def test_only_a_regular_file_is_opened(path: str, code: int) -> None:
    own = await new_drive()
    await own.writer.make_directory("d")
    await own.writer.symlink("l", "x")
    await own.commit(Put("dev", encode_stat(Stat(st.S_IFCHR | 0o666))))
    snapshot = own.drive.snapshot()
    with pytest.raises(PathError) as raised:
        await snapshot.open(await snapshot.stat(path))
    assert raised.value.errno == code


async def test_an_older_snapshot_does_not_change() -> None:
    own = await drive_of("a")
    older = own.drive.snapshot()
    await own.commit(Put("b", FILE))
    assert await names_in(older) == ["a"]
    assert await names_in(own.drive.snapshot()) == ["a", "b"]


async def test_a_drive_at_a_version_shows_that_version() -> None:
    own = await drive_of("a")
    version = own.drive.version
    await own.commit(Put("b", FILE))

    pinned = await Drive.open(own.cores, own.drive.key, version=version)
    assert (pinned.live, pinned.writable) == (False, False)
    assert await names_in(pinned.snapshot()) == ["a"]


@pytest.mark.parametrize("version", [0, 3, 99])
async def test_a_version_that_is_not_there_is_refused(version: int) -> None:

    own = await drive_of("a")
    with pytest.raises(UnknownVersion):
        await Drive.open(own.cores, own.drive.key, version=version)


@pytest.mark.parametrize(
    "block", [b"hello", Header(b"k" * 32, type="hyperbee").encode(), Header(b"short").encode(), Header().encode()]
)
async def test_another_core_is_not_a_drive(block: bytes) -> None:

    cores = MemoryCores()
    core = cores.create()
    await core.append([block])
    with pytest.raises(NotADrive):
        await Drive.open(cores, core.key)


async def test_a_drive_of_which_nothing_is_here_is_not_available() -> None:

    with pytest.raises(BlockNotAvailable):
        await Drive.open(MemoryCores(), b"k" * 32)


async def test_a_core_of_ours_without_a_header_is_not_a_drive() -> None:

    cores = MemoryCores()
    with pytest.raises(NotADrive):
        await Drive.open(cores, cores.create().key)


async def test_the_same_snapshot_is_given_until_the_drive_grows() -> None:
    own = await drive_of("a")
    first = own.drive.snapshot()
    assert own.drive.snapshot() is first
    await own.commit(Put("b", FILE))
    assert own.drive.snapshot() is not first


async def test_a_deleted_entry_takes_its_implied_directory_along() -> None:
    own = await drive_of("a/b/c", "d")
    await own.writer.delete("a/b/c")
    assert await names_in(own.drive.snapshot()) == ["d"]


async def test_a_missing_block_is_told_and_later_found() -> None:
    own = await drive_of("a", "b", "c")
    own.metadata.take_away(1, 2)

    fresh = await Drive.open(own.cores, own.drive.key)
    with pytest.raises(BlockNotAvailable):
        await names_in(fresh.snapshot())
    own.metadata.put_back()
    assert await names_in(fresh.snapshot()) == ["a", "b", "c"]


async def test_tags_are_told_with_their_versions() -> None:
    own = await drive_of("a")
    await own.writer.tag("first")
    await own.commit(Put("b", FILE))
    await own.writer.tag("old", 1)
    snapshot = own.drive.snapshot()
    assert await snapshot.tags() == {"first": 2, "old": 1}
    assert await snapshot.tagged_version("first") == 2


async def test_an_unknown_tag_is_an_unknown_version() -> None:
    own = await drive_of("a")
    with pytest.raises(UnknownVersion, match="no tag 'nope'"):
        await own.drive.snapshot().tagged_version("nope")


async def test_tags_do_not_appear_in_listings() -> None:
    own = await drive_of("a")
    await own.writer.tag("first")
    assert await names_in(own.drive.snapshot()) == ["a"]


async def test_a_listing_is_remembered_across_versions_that_do_not_touch_it(caplog: pytest.LogCaptureFixture) -> None:
    own = await drive_of("a/b", "c/d")
    await names_in(own.drive.snapshot(), "a")
    await own.commit(Put("c/e", FILE))
    snapshot = own.drive.snapshot()
    newest = (await snapshot.stat("a/b")).seq
    assert snapshot.volume.pool.directories.get(own.drive.key, "a", newest) is not None


@pytest.mark.parametrize("times_listed_before", [0, 1])
async def test_a_listing_comes_many_entries_at_a_time(times_listed_before: int) -> None:
    own = await drive_of(*[f"d/{n}" for n in range(LISTED_AT_ONCE + 1)])
    snapshot = own.drive.snapshot()
    for _ in range(times_listed_before):
        await names_in(snapshot, "d")
    sizes = [len(entries) async for entries in snapshot.list_batches("d") if entries]
    assert sizes == [LISTED_AT_ONCE, 1]


@pytest.mark.parametrize("times_listed_before", [0, 1])
async def test_others_have_their_turn_during_a_long_listing(times_listed_before: int) -> None:
    own = await drive_of(*[f"d/{n}" for n in range(4 * LISTED_AT_ONCE)])
    snapshot = own.drive.snapshot()
    for _ in range(times_listed_before):
        await names_in(snapshot, "d")
    listed: list[str] = []
    seen: list[int] = []

    async def look() -> None:
        seen.append(len(listed))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        async for entries in snapshot.list_batches("d"):
            listed += [entry.name for entry in entries]
    assert seen[0] < len(listed)


async def test_a_far_listing_does_not_ask_for_each_child() -> None:
    own = await new_drive()
    async with own.writer.batch() as batch:
        for number in range(100):
            await batch.make_directory(f"d{number}")
        for number in range(100):
            await batch.put_file(f"d{number}/f")
    own.metadata.take_away(*range(1, own.metadata.length))
    own.metadata.is_far = True
    far = await Drive.open(own.cores, own.drive.key)
    assert len(await names_in(far.snapshot())) == 100
    assert own.metadata.questions < 30


async def test_a_name_in_a_listed_directory_is_found_without_walking_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = await drive_of("d/a", "d/b", "e")
    snapshot = own.drive.snapshot()
    assert await names_in(snapshot, "d") == ["a", "b"]
    before = await snapshot.stat("d/a")
    monkeypatch.delattr("hyperfs.drive.snapshot.newest_now")
    assert snapshot.look_now("d/a") == (True, before)
    assert snapshot.look_now("d/c") == (True, None)


async def test_a_name_that_came_after_the_listing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    own = await drive_of("d/a")
    assert await names_in(own.drive.snapshot(), "d") == ["a"]
    await own.commit(Put("d/b", FILE))
    snapshot = own.drive.snapshot()
    await snapshot.stat("d/a")
    assert snapshot.look_now("d/b")[1] is not None


async def test_a_huge_directory_is_listed_without_being_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperfs.drive.dirents.MAX_CACHED_BYTES", 2000)
    own = await drive_of(*[f"d/{n}" for n in range(9)])
    snapshot = own.drive.snapshot()
    assert len(await names_in(snapshot, "d")) == 9
    assert snapshot.volume.pool.directories.get(own.drive.key, "d", own.drive.version - 1) is None


def test_listed_directories_are_remembered_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperfs.drive.dirents.MAX_CACHED_BYTES", 100_000)
    cache = DirectoryCache()

    def kept(value: bytes) -> list[int]:
        for number in range(9):
            gathered = Gathered()
            gathered.add([Dirent("a", number, False, value, 0)])
            cache.put(bytes(32), "d", number, gathered)
        return [number for number in range(9) if cache.get(bytes(32), "d", number)]

    assert kept(b"") == list(range(9))
    cache = DirectoryCache()
    assert kept(bytes(40_000)) == [7, 8]
    cache = DirectoryCache()
    assert kept(bytes(200_000)) == []


class TestHostileNames:
    """A drive's author may put any key; what cannot be a name is left out, and told once."""

    KEYS = ("ok", "../evil", "d/..", "d/.", "d/a\0b", "d/" + "x" * 256, "d//e", "d/back\\slash", "d/fine")

    async def test_they_are_left_out_of_a_listing(self) -> None:
        own = await drive_of(*self.KEYS)
        snapshot = own.drive.snapshot()
        assert await names_in(snapshot) == ["d", "ok"]
        assert await names_in(snapshot, "d") == ["fine"]

    async def test_a_raw_listing_shows_them(self) -> None:
        own = await drive_of(*self.KEYS)
        shown = await names_in(own.drive.snapshot(), "d", raw=True)
        assert shown == sorted(["..", ".", "a\0b", "x" * 256, "", "back\\slash", "fine"])

    async def test_a_directory_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        own = await drive_of(*self.KEYS)
        with caplog.at_level(logging.WARNING, "hyperfs.drive"):
            for _ in range(3):
                await names_in(own.drive.snapshot(), "d")
        (record,) = caplog.records
        assert "6 names in directory 'd' left out" in record.getMessage()

    async def test_they_are_not_found_by_stat(self) -> None:
        own = await drive_of(*self.KEYS)
        assert await error_of(own.drive.snapshot(), "d/..") == errno.ENOENT

    async def test_they_are_not_walked_into(self) -> None:
        own = await drive_of(*self.KEYS)
        assert sorted([entry.path async for entry in own.drive.snapshot().walk()]) == ["d", "d/fine", "ok"]

    @pytest.mark.parametrize("value", [None, b"", b"\xff\xff", encode_stat(Stat(0o100644, size=1 << 63))])
    async def test_a_node_without_a_stat_is_left_out(self, value: bytes | None) -> None:
        own = await drive_of("good")
        await own.commit(Put("bad", value))
        assert await names_in(own.drive.snapshot()) == ["good"]

    async def test_a_path_without_end_costs_little(self) -> None:
        own = await drive_of("good", "x/" * 2000 + "x", "y/" * 2000 + "z" * 200)
        older = await Drive.open(own.cores, own.drive.key, version=2)
        snapshot = own.drive.snapshot()
        named = [change.path async for change in changes(snapshot, older.snapshot())]
        assert {"", "x", "x/x", "y", "y/y"} <= set(named)
        assert max(map(len, named)) < names.MAX_PATH_BYTES
        assert await names_in(snapshot) == ["good", "x", "y"]
        assert await names_in(snapshot, "y/" * 1999 + "y") == []
        assert await error_of(snapshot, "x/" * 3000) == errno.ENAMETOOLONG

    async def test_a_key_that_is_not_utf8_does_not_fail_a_listing(self) -> None:
        own = await drive_of("good")
        await own.commit(Put("bad-XX", FILE))
        block = own.metadata.blocks[-1]
        assert block is not None
        own.metadata.blocks[-1] = block.replace(b"bad-XX", b"bad-\xff\xfe")

        snapshot = (await Drive.open(own.cores, own.drive.key)).snapshot()
        assert "good" in await names_in(snapshot)


async def test_a_file_whose_blocks_nobody_has_is_not_available() -> None:
    own = await new_drive()
    await own.writer.put_file("f", b"content", owner=Owner(1, 2))
    own.content.take_away(0)
    snapshot = own.drive.snapshot()
    with pytest.raises(BlockNotAvailable):
        await snapshot.read(await snapshot.stat("f"), 0, 7)


async def test_a_read_past_the_end_of_a_run_asks_for_nothing() -> None:
    own = await new_drive()
    assert await OpenFile(own.content, Run(range(0), 0, 0)).read(0, 10) == b""


async def test_a_log_line_is_short_whatever_an_author_puts_into_a_drive(caplog: pytest.LogCaptureFixture) -> None:
    own = await new_drive()
    name = "\x1b[31m" + "n" * 60_000
    await own.commit(
        *(
            Put(f"{prefix}/{name}{number}", b"", flags=1, hidden=True)
            for prefix in ("mounts", "hyperdrive-tags")
            for number in range(9)
        ),
        Put(name, encode_stat(Stat(0o100644))),
    )
    for _ in range(2):
        snapshot = Snapshot(own.drive.volume, own.drive.version, ((own.drive.key, None),))
        assert [entry async for entry in snapshot.list()] == []
        assert await snapshot.tags() == {}
    assert len(caplog.records) == 3
    for record in caplog.records:
        assert len(record.getMessage()) < 300
        assert record.getMessage().isprintable()


async def test_a_path_of_thousands_of_names_that_is_not_there_takes_a_few_lookups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = await drive_of("d/d/file")
    lookups = 0

    async def count(trie: Trie, path: str, *, hidden: bool = False) -> Node | None:
        nonlocal lookups
        lookups += 1
        return await newest_at(trie, path, hidden=hidden)

    monkeypatch.setattr("hyperfs.drive.snapshot.newest_at", count)
    snapshot = own.drive.snapshot()
    assert await error_of(snapshot, "/".join("d" * 2000)) == errno.ENOENT
    assert await error_of(snapshot, "/".join(["d", "d", "file", *"d" * 2000])) == errno.ENOTDIR
    assert lookups < 40
