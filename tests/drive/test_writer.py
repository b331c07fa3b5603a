"""Changing a drive."""

import errno
import stat as st
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from hyperfs.drive.batch import Owner
from hyperfs.drive.committer import CHUNK_BYTES
from hyperfs.drive.drive import Drive
from hyperfs.drive.stat import Stat, encode_stat
from hyperfs.drive.writer import DriveWriter
from hyperfs.errors import ConflictingLength, NotWritable, PathError, UnknownVersion
from hyperfs.trie import Put
from tests.support.drives import OwnDrive, new_drive

NOW = 1_600_000_000_000


async def tree_of(own: OwnDrive) -> dict[str, str]:
    """Everything in a drive: directories as ``dir``, links as ``-> target``, files as their text."""
    snapshot = own.drive.snapshot()
    found = {}
    async for entry in snapshot.walk():
        stat = entry.stat
        if entry.is_directory:
            found[entry.path] = "dir"
        elif stat.is_link:
            found[entry.path] = f"-> {stat.linkname}"
        else:
            found[entry.path] = (await snapshot.read(entry, 0, stat.size)).decode()
    return found


async def fails(code: int, action: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(PathError) as raised:
        await action()
    assert raised.value.errno == code


async def test_a_file_is_written_with_its_stat() -> None:
    own = await new_drive()
    await own.writer.put_file("before", b"12345")
    stat = await own.writer.put_file(
        "/a//f", b"hello", mode=0o600, owner=Owner(3, 4), mtime=7, attributes={"user.x": b"y"}
    )
    expected = Stat(0o100600, 3, 4, 5, 1, 1, 5, 7, NOW, attributes={"user.x": b"y"})
    assert stat == expected
    assert (await own.drive.snapshot().stat("a/f")).stat == expected


async def test_a_large_file_is_cut_into_chunks() -> None:
    own = await new_drive()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(CHUNK_BYTES // 2 + 1)

    stat = await own.writer.put_file("f", chunks())
    assert (stat.size, stat.blocks) == (3 * (CHUNK_BYTES // 2 + 1), 2)
    assert [len(block or b"") for block in own.content.blocks] == [CHUNK_BYTES, CHUNK_BYTES // 2 + 3]


async def test_an_empty_file_has_no_blocks() -> None:
    own = await new_drive()
    stat = await own.writer.put_file("f")
    assert (stat.size, stat.blocks, own.content.length) == (0, 0, 0)


async def test_a_synced_commit_has_its_content_on_disk() -> None:
    own = await new_drive()
    await own.writer.put_file("f", b"x")
    await own.committer.sync()
    assert (own.content.synced, own.metadata.synced) == (own.content.length, own.metadata.length)


async def test_a_batch_is_seen_as_a_whole() -> None:
    own = await new_drive()
    async with own.writer.batch() as batch:
        await batch.put_file("a", b"1")
        await batch.put_file("b", b"2")
        assert await tree_of(own) == {}
    assert await tree_of(own) == {"a": "1", "b": "2"}
    assert own.drive.version == 3


async def test_a_batch_that_fails_changes_nothing() -> None:
    own = await new_drive()

    async def fail_half_way() -> None:
        async with own.writer.batch() as batch:
            await batch.put_file("a", b"1")
            await batch.delete("missing")

    await fails(errno.ENOENT, fail_half_way)
    assert await tree_of(own) == {}


async def test_a_batch_sees_what_it_did() -> None:
    own = await new_drive()
    await own.writer.put_file("old", b"1")
    async with own.writer.batch() as batch:
        await batch.put_file("new/a", b"2")
        await batch.delete("old")
        assert await batch.find("old") is None
        assert (await batch.find("new") or Stat(0)).is_directory
        await batch.rename("new", "newer")
        await batch.delete("newer/a")
        assert await batch.find("newer") is None
    assert await tree_of(own) == {}


async def test_somebody_elses_commit_is_a_conflict() -> None:
    own = await new_drive()

    async def be_overtaken() -> None:
        async with own.writer.batch() as batch:
            await batch.put_file("a")
            await own.commit(Put("b", encode_stat(Stat(0o100644))))

    with pytest.raises(ConflictingLength):
        await be_overtaken()
    assert list(await tree_of(own)) == ["b"]


async def test_a_drive_at_a_version_cannot_be_written() -> None:
    own = await new_drive()
    pinned = await Drive.open(own.cores, own.drive.key, version=1)
    with pytest.raises(NotWritable):
        DriveWriter(pinned, own.committer)


async def test_a_directory_is_made_once() -> None:
    own = await new_drive()
    await own.writer.make_directory("d", mode=0o700)
    assert (await own.drive.snapshot().stat("d")).stat.mode == st.S_IFDIR | 0o700
    await fails(errno.EEXIST, lambda: own.writer.make_directory("d"))


async def test_an_implied_directory_may_be_made() -> None:
    own = await new_drive()
    await own.writer.put_file("d/f")
    await own.writer.make_directory("d", mode=0o700)
    assert not (await own.drive.snapshot().stat("d")).implied


async def test_a_link_is_made_where_nothing_is() -> None:
    own = await new_drive()
    await own.writer.symlink("l", "../some\\where")
    assert await tree_of(own) == {"l": "-> ../some\\where"}
    await fails(errno.EEXIST, lambda: own.writer.symlink("l", "x"))


async def test_a_file_does_not_replace_a_directory() -> None:
    own = await new_drive()
    await own.writer.put_file("d/f")
    await fails(errno.EISDIR, lambda: own.writer.put_file("d"))


@pytest.mark.parametrize("path", ["f/x", "f/x/y"])
async def test_nothing_is_written_below_a_file(path: str) -> None:
    own = await new_drive()
    await own.writer.put_file("f")
    await fails(errno.ENOTDIR, lambda: own.writer.put_file(path))


@pytest.mark.parametrize("path", ["/", "a/..", ".", "x" * 256])
async def test_what_no_drive_should_hold_is_not_written(path: str) -> None:
    own = await new_drive()
    with pytest.raises(PathError):
        await own.writer.put_file(path)


async def test_only_an_empty_directory_is_deleted() -> None:
    own = await new_drive()
    await own.writer.make_directory("d")
    await own.writer.put_file("d/f")
    await fails(errno.ENOTEMPTY, lambda: own.writer.delete("d"))
    await own.writer.delete("d/f")
    await own.writer.delete("d")
    assert await tree_of(own) == {}


async def test_what_is_not_there_is_not_deleted() -> None:
    own = await new_drive()
    await fails(errno.ENOENT, lambda: own.writer.delete("x"))


async def test_a_key_of_another_spelling_is_deleted() -> None:
    own = await new_drive()
    await own.commit(Put("d/", encode_stat(Stat(0o40755))), Put("e/f/", encode_stat(Stat(0o100644))))
    await own.writer.delete("d")
    await own.writer.delete_tree("e")
    assert await tree_of(own) == {}


async def test_a_tree_is_deleted_in_one_batch() -> None:
    own = await new_drive()
    for path in ("t/a", "t/b/c", "t/b/d/e", "tt"):
        await own.writer.put_file(path)
    version = own.drive.version
    await own.writer.delete_tree("t")
    assert await tree_of(own) == {"tt": ""}
    assert own.drive.version == version + 1


async def test_a_file_is_renamed_over_another() -> None:
    own = await new_drive()
    await own.writer.put_file("a", b"1")
    await own.writer.put_file("b", b"2")
    await own.writer.rename("a", "b")
    assert await tree_of(own) == {"b": "1"}


async def test_renaming_appends_no_content() -> None:
    own = await new_drive()
    await own.writer.put_file("a", b"1")
    await own.writer.rename("a", "b")
    assert own.content.length == 1


async def test_a_tree_is_renamed() -> None:
    own = await new_drive()
    await own.writer.make_directory("t")
    await own.writer.put_file("t/a", b"1")
    await own.writer.put_file("t/b/c", b"2")
    await own.writer.symlink("t/l", "a")
    version = own.drive.version
    await own.writer.rename("t", "x/y")
    assert own.drive.version == version + 5
    assert await tree_of(own) == {
        "x": "dir", "x/y": "dir", "x/y/a": "1", "x/y/b": "dir", "x/y/b/c": "2", "x/y/l": "-> a",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("missing", "x", errno.ENOENT),
        ("d", "d/in", errno.EINVAL),
        ("f", "d", errno.EISDIR),
        ("e", "f", errno.ENOTDIR),
        ("e", "d", errno.ENOTEMPTY),
        ("f", "f2/x", errno.ENOTDIR),
    ],
)
async def test_what_rename_refuses(old: str, new: str, code: int) -> None:
    own = await new_drive()
    await own.writer.put_file("f")
    await own.writer.put_file("f2")
    await own.writer.put_file("d/x")
    await own.writer.make_directory("e")
    before = await tree_of(own)
    await fails(code, lambda: own.writer.rename(old, new))
    assert await tree_of(own) == before


async def test_a_mounted_drive_is_renamed_with_its_folder() -> None:
    inner = await new_drive()
    await inner.writer.put_file("f", b"inner")
    own = await new_drive(inner.cores)
    await own.writer.mount("t/m", inner.drive.key)
    await own.writer.rename("t", "u")
    assert await tree_of(own) == {"u": "dir", "u/m": "dir", "u/m/f": "inner"}


async def test_a_mounted_drive_is_not_written_into_from_outside() -> None:
    inner = await new_drive()
    own = await new_drive(inner.cores)
    await own.writer.mount("m", inner.drive.key)
    await fails(errno.EXDEV, lambda: own.writer.put_file("m/f"))
    await fails(errno.EBUSY, lambda: own.writer.delete("m"))
    await fails(errno.EEXIST, lambda: own.writer.mount("m", inner.drive.key))


async def test_deleting_a_tree_unmounts_what_is_in_it() -> None:
    inner = await new_drive()
    await inner.writer.put_file("f")
    own = await new_drive(inner.cores)
    await own.writer.mount("t/m", inner.drive.key)
    await own.writer.delete_tree("t")
    assert await tree_of(own) == {}
    assert (await own.drive.snapshot().mounts()).targets == {}


async def test_only_what_is_mounted_is_unmounted() -> None:
    own = await new_drive()
    await own.writer.put_file("f")
    await own.writer.mount_core("c", own.cores.create().key)
    await own.writer.unmount("c")
    await fails(errno.EINVAL, lambda: own.writer.unmount("f"))
    assert await tree_of(own) == {"f": ""}


async def test_permissions_and_times_are_set() -> None:
    own = await new_drive()
    await own.writer.put_file("f", b"x")
    stat = await own.writer.set_stat("f", mode=0o4711, uid=5, mtime=9)
    assert (stat.mode, stat.uid, stat.gid, stat.mtime, stat.ctime) == (0o104711, 5, 0, 9, NOW)
    assert (await own.drive.snapshot().stat("f")).stat == stat


async def test_attributes_keep_their_order_and_removed_ones_stay_as_names() -> None:
    own = await new_drive()
    await own.writer.put_file("f", attributes={"user.a": b"1", "user.b": b"2"})
    await own.writer.set_attribute("f", "user.a", None)
    await own.writer.set_attribute("f", "user.c", b"3")
    stat = (await own.drive.snapshot().stat("f")).stat
    assert list(stat.attributes.items()) == [("user.a", None), ("user.b", b"2"), ("user.c", b"3")]
    await fails(errno.ENODATA, lambda: own.writer.set_attribute("f", "user.a", None))


async def test_a_tag_names_a_version_that_is_there() -> None:
    own = await new_drive()
    assert await own.writer.tag("v1") == 1
    with pytest.raises(UnknownVersion):
        await own.writer.tag("v2", 99)
    await fails(errno.EINVAL, lambda: own.writer.tag("12"))


async def test_a_tag_stays_where_it_is_unless_forced() -> None:
    own = await new_drive()
    await own.writer.tag("v1")
    await own.writer.put_file("f", b"x")
    await fails(errno.EEXIST, lambda: own.writer.tag("v1"))
    assert await own.drive.snapshot().tags() == {"v1": 1}
    assert await own.writer.tag("v1", force=True) == 3
    assert await own.drive.snapshot().tags() == {"v1": 3}


async def test_a_tag_that_names_the_version_already_is_not_written_again() -> None:
    own = await new_drive()
    await own.writer.tag("v1", 1)
    await own.writer.tag("v1", 1)
    assert own.drive.version == 2


async def test_a_tag_stays_where_its_own_batch_put_it() -> None:
    own = await new_drive()
    await own.writer.put_file("f", b"x")
    async with own.writer.batch() as batch:
        await batch.tag("v1", 1)
        await fails(errno.EEXIST, lambda: batch.tag("v1", 2))
        assert await batch.delete_tag("v1") == 1
        await batch.tag("v1", 2)
    assert await own.drive.snapshot().tags() == {"v1": 2}


async def test_a_tag_whose_record_is_damaged_can_be_moved_and_deleted() -> None:
    own = await new_drive()
    await own.commit(*(Put(f"hyperdrive-tags/{name}", b"\xff", hidden=True) for name in ("moved", "deleted")))
    await own.writer.tag("moved", 1, force=True)
    await own.writer.delete_tag("deleted")
    assert await own.drive.snapshot().tags() == {"moved": 1}


async def test_a_deleted_tag_is_gone() -> None:
    own = await new_drive()
    await own.writer.tag("v1")
    await own.writer.delete_tag("v1")
    assert await own.drive.snapshot().tags() == {}
    with pytest.raises(UnknownVersion):
        await own.writer.delete_tag("v1")
