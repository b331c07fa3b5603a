"""A staged file system over a drive: what its users see, and what a commit holds."""

import errno
import os
import stat as st
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperfs.errors import DaemonError, PathError
from hyperfs.mount.staging import committing
from hyperfs.mount.staging.nodes import Renaming
from hyperfs.mount.staging.segments import OWN_SEGMENT_BYTES
from hyperfs.mount.staging.workspace import MAX_TIME_NS
from tests.support.workspaces import Paths


async def test_what_is_written_is_seen_at_once_and_committed_as_one_version(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/f", b"hello")
    assert await paths.tree() == {"d": None, "d/f": b"hello"}
    assert await paths.drive_tree() == {}
    version = paths.own.drive.version
    outcome = await paths.commit()
    assert await paths.drive_tree() == {"d": None, "d/f": b"hello"}
    assert outcome.version == version + 2
    assert outcome.appended_bytes == 5
    assert await paths.tree() == {"d": None, "d/f": b"hello"}


async def test_nothing_is_committed_when_nothing_changed(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"hello")
    version = (await paths.commit()).version
    assert (await paths.commit()).version == version
    await paths.put("g", b"x")
    await paths.unlink("g")
    assert (await paths.commit()).version == version


async def test_nothing_is_in_a_file_that_was_committed(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"hello")
    await paths.commit()
    with pytest.raises(PathError) as caught:
        await paths.mkdir("f/d/e")
    assert caught.value.errno == errno.ENOTDIR


async def test_a_file_unlinked_before_its_commit_appends_nothing(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/f", b"hello")
    await paths.unlink("d/f")
    assert (await paths.commit()).appended_bytes == 0
    assert paths.own.content.byte_length == 0


async def test_a_file_that_grew_at_the_end_of_the_content_appends_what_is_new(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("log", b"one\n")
    await paths.commit()
    await paths.write("log", b"two\n", 4)
    assert (await paths.commit()).appended_bytes == 4
    assert (await paths.drive_tree())["log"] == b"one\ntwo\n"


@pytest.mark.parametrize("size", [0, 4])
async def test_a_file_that_shrank_is_a_run_of_what_is_left(tmp_path: Path, size: int) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"0123456789")
    await paths.commit()
    await paths.truncate("f", size)
    assert (await paths.commit()).appended_bytes == size
    stat = (await paths.own.drive.snapshot().stat("f")).stat
    blocks = [await paths.own.content.get(index) for index in range(stat.offset, stat.offset + stat.blocks)]
    assert b"".join(blocks) == b"0123456789"[:size]
    assert await paths.read("f") == b"0123456789"[:size]


async def test_changing_attributes_appends_no_content(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"0123456789")
    await paths.commit()
    await paths.workspace.set_attributes(await paths.number("f"), mode=0o600, mtime=1_234_567_890_123_456_789)
    assert (await paths.commit()).appended_bytes == 0
    stat = (await paths.own.drive.snapshot().stat("f")).stat
    assert st.S_IMODE(stat.mode) == 0o600
    attributes = await paths.workspace.attributes(await paths.number("f"))
    assert attributes.mtime == 1_234_567_890_123_456_789


async def test_time_goes_on_whatever_the_clocks_do(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    times = []

    async def note() -> None:
        times.append((await paths.workspace.attributes(await paths.number("f"))).mtime)

    await paths.put("f", b"1")
    await note()
    touched = paths.now + 2_345_678  # the kernel's clock is ahead of ours by a part of a tick
    await paths.set_attributes("f", mtime=touched)
    await note()
    await paths.write("f", b"2")
    await note()
    paths.now -= 3_600_000_000_000
    await paths.write("f", b"3")
    await note()
    assert times[1] == touched
    assert times == sorted(times)


async def test_a_time_that_a_program_sets_is_kept_and_moves_no_clock(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"1")
    for when in (paths.now + 10**12, 5, paths.now - 1):
        await paths.set_attributes("f", mtime=when)
        assert (await paths.workspace.attributes(await paths.number("f"))).mtime == when
    await paths.write("f", b"2")
    assert (await paths.workspace.attributes(await paths.number("f"))).mtime == paths.now
    far = (await paths.set_attributes("f", mtime=1 << 70)).mtime
    again = await Paths.open(tmp_path, paths.own)
    assert (await again.workspace.attributes(await again.number("f"))).mtime == far == MAX_TIME_NS


async def test_holes_and_cut_ends_read_as_zeros(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"0123456789")
    await paths.commit()
    await paths.truncate("f", 3)
    await paths.truncate("f", 6)
    await paths.write("f", b"xy", 8)
    expected = b"012\0\0\0\0\0xy"
    assert await paths.read("f") == expected
    await paths.commit()
    assert (await paths.drive_tree())["f"] == expected


async def test_a_renamed_directory_takes_everything_along(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("a")
    await paths.mkdir("a/b")
    await paths.put("a/b/old", b"old")
    await paths.put("a/gone", b"gone")
    await paths.commit()
    await paths.rename("a", "z")
    await paths.put("z/b/new", b"new")
    await paths.unlink("z/gone")
    await paths.mkdir("a")
    expected = {"a": None, "z": None, "z/b": None, "z/b/new": b"new", "z/b/old": b"old"}
    assert await paths.tree() == expected
    await paths.commit()
    assert await paths.drive_tree() == expected
    assert await paths.tree() == expected


async def test_an_inode_keeps_its_number_through_renames_and_commits(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("a")
    await paths.put("a/f", b"1")
    await paths.commit()
    number = await paths.number("a/f")
    paths.workspace.inodes.looked_up(await paths.number("a"))
    paths.workspace.inodes.looked_up(number)
    await paths.rename("a", "b")
    assert await paths.number("b/f") == number
    await paths.commit()
    assert await paths.number("b/f") == number
    await paths.rename("b/f", "b/g")
    await paths.commit()
    assert await paths.number("b/g") == number


async def test_two_files_are_exchanged(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("a", b"1")
    await paths.commit()
    await paths.put("b", b"2")
    await paths.rename("a", "b", Renaming.EXCHANGE)
    assert await paths.tree() == {"a": b"2", "b": b"1"}
    await paths.commit()
    assert await paths.drive_tree() == {"a": b"2", "b": b"1"}


async def test_an_open_file_lives_on_when_another_is_renamed_over_it(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"old")
    await paths.commit()
    number = await paths.number("f")
    content = await paths.workspace.open(number, writing=True)
    assert content is not None
    await paths.put("f.new", b"new")
    await paths.rename("f.new", "f")
    await paths.commit()
    await paths.workspace.write(number, 3, b"er")
    assert await content.read(0, 100) == b"older"
    assert await paths.read("f") == b"new"
    paths.workspace.released(number)
    await paths.commit()
    assert await paths.drive_tree() == {"f": b"new"}


async def test_an_implied_directory_stays_when_its_last_file_goes(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.own.writer.put_file("only/implied/f", b"x")
    await paths.maker.rebase(paths.own.drive.snapshot())
    await paths.unlink("only/implied/f")
    assert await paths.tree() == {"only": None, "only/implied": None}
    await paths.commit()
    assert await paths.drive_tree() == {"only": None, "only/implied": None}


async def test_a_directory_with_entries_is_not_removed(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/f", b"")
    await paths.commit()
    with pytest.raises(PathError) as raised:
        await paths.rmdir("d")
    assert raised.value.errno == errno.ENOTEMPTY
    await paths.unlink("d/f")
    await paths.rmdir("d")
    await paths.commit()
    assert await paths.drive_tree() == {}


async def test_what_was_staged_is_staged_again_by_the_next_process(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("kept", b"0123456789")
    await paths.commit()
    await paths.mkdir("d")
    await paths.put("d/f", b"staged")
    await paths.write("kept", b"XX", 2)
    await paths.truncate("kept", 6)
    await paths.rename("d", "e")
    expected = await paths.tree()
    again = await Paths.open(tmp_path, paths.own)
    assert await again.tree() == expected
    await again.commit()
    assert await again.drive_tree() == expected == {"e": None, "e/f": b"staged", "kept": b"01XX45"}


async def test_what_is_not_utf8_is_staged_and_committed_as_it_is(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    target, name = (raw.decode(errors="surrogateescape") for raw in (b"to \xff\xfe", b"user.\xff"))
    await paths.make("link", st.S_IFLNK | 0o777, target)
    await paths.put("f", b"")
    await paths.workspace.set_user_attribute(await paths.number("f"), name, b"1")
    again = await Paths.open(tmp_path, paths.own)
    await again.commit()
    snapshot = again.own.drive.snapshot()
    assert (await snapshot.stat("link")).stat.linkname == target
    assert (await snapshot.stat("f")).stat.attributes[name] == b"1"


@pytest.mark.parametrize("change", ["write", "grow"])
async def test_a_change_whose_commit_would_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    disk = SimpleNamespace(f_bavail=12_000, f_blocks=100_000, f_frsize=1000)
    monkeypatch.setattr(os, "statvfs", lambda _: disk)
    paths = await Paths.open(tmp_path)
    await paths.put("f", bytes(1_000_000))
    await paths.commit()
    reserve, journals = 2 * 100_000_000 // 64, 2 * 100_000_000 // 256
    disk.f_bavail = (reserve + journals + 1_000_000) // 1000
    with pytest.raises(OSError, match="No space"):
        await (paths.write("f", b"x") if change == "write" else paths.truncate("f", 1_000_001))
    disk.f_bavail += 20
    await (paths.write("f", b"x") if change == "write" else paths.truncate("f", 1_000_001))


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_file_is_emptied_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", bytes(1_000_000))
    await paths.commit()
    monkeypatch.setattr(paths.workspace.files, "has_room", lambda *_: False)
    paths.at_once = at_once
    await paths.truncate("f", 0)
    assert await paths.read("f") == b""
    with pytest.raises(OSError, match="No space"):
        await paths.truncate("f", 1)


@pytest.mark.parametrize("told", ["flush", "sync", "rename"])
async def test_attributes_of_an_open_file_are_written_down_with_what_was_written(tmp_path: Path, told: str) -> None:
    paths = await Paths.open(tmp_path / "staging")
    await paths.put("f", b"x")
    number = await paths.number("f")
    await paths.workspace.open(number, writing=True)
    before = paths.workspace.journal.number, (tmp_path / "staging" / "1.journal").read_bytes()
    for changed in ({"mode": 0o640}, {"uid": 7, "gid": 8}, {"mtime": 12_345_678_901}):
        await paths.set_attributes("f", **changed)
    assert (paths.workspace.journal.number, (tmp_path / "staging" / "1.journal").read_bytes()) == before
    match told:
        case "flush":
            await paths.workspace.flush(number)
        case "sync":
            await paths.workspace.sync()
        case "rename":
            await paths.rename("f", "g")
    again = await Paths.open(tmp_path / "staging", paths.own)
    found = await again.workspace.attributes(await again.number("g" if told == "rename" else "f"))
    assert (st.S_IMODE(found.mode), found.uid, found.gid, found.mtime) == (0o640, 7, 8, 12_345_678_901)


async def test_another_writers_version_is_taken_as_the_base(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("mine", b"1")
    await paths.commit()
    await paths.put("mine", b"2")
    await paths.own.writer.put_file("other", b"3")
    await paths.commit()
    assert await paths.drive_tree() == {"mine": b"2", "other": b"3"}
    assert await paths.tree() == {"mine": b"2", "other": b"3"}


async def test_many_large_files_are_staged_in_few(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    paths.workspace.segments.most = 4
    contents = {f"f{number}": bytes([number]) * (OWN_SEGMENT_BYTES + 1) for number in range(10)}
    for name, content in contents.items():
        await paths.put(name, content)
    assert sum(name.endswith(".data") for name in os.listdir(tmp_path)) <= 5
    assert await paths.tree() == contents
    await paths.commit()
    assert await paths.drive_tree() == contents


async def test_staging_leaves_no_file_behind(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", bytes(1_000_000))
    await paths.commit()
    paths.workspace.close()
    assert os.listdir(tmp_path) == []


async def test_a_commit_whose_answer_was_lost_is_not_made_twice(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"hello")
    committer = paths.own.committer
    commit = committer.commit

    async def lose_the_answer(*arguments: Any, **keywords: Any) -> int:
        await commit(*arguments, **keywords)
        raise DaemonError("the daemon went away")

    committer.commit = lose_the_answer  # type: ignore[method-assign]
    version = (await paths.commit()).version
    committer.commit = commit  # type: ignore[method-assign]
    assert (await paths.commit()).version == version
    assert await paths.drive_tree() == {"f": b"hello"}


async def test_a_commit_that_stands_is_not_made_again_by_the_next_process(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/f", b"hello")
    paths.workspace.journal.delete_through = lambda number: None  # type: ignore[method-assign]  # it dies before
    version = (await paths.commit()).version
    again = await Paths.open(tmp_path, paths.own)
    assert (await again.commit()).version == version
    assert await again.tree() == {"d": None, "d/f": b"hello"}


async def test_what_a_full_disk_kept_from_being_written_down_is_written_down_by_the_next_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"hello")
    await paths.commit()

    def refuse(record: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as full_disk:
        full_disk.setattr(paths.workspace.journal, "add", refuse)
        with pytest.raises(OSError, match="full"):
            await paths.write("f", b"HE", 0)
    await paths.workspace.sync()
    again = await Paths.open(tmp_path, paths.own)
    assert await again.read("f") == b"HEllo"


async def test_a_failed_commit_leaves_everything_staged_and_the_next_one_makes_it(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"hello")
    committer = paths.own.committer
    commit = committer.commit

    async def refuse(*arguments: Any, **keywords: Any) -> int:
        await paths.write("f", b"HELLO", 5)
        raise OSError(errno.ENOSPC, "full")

    committer.commit = refuse  # type: ignore[method-assign]
    with pytest.raises(OSError, match="full"):
        await paths.commit()
    committer.commit = commit  # type: ignore[method-assign]
    assert await paths.tree() == {"f": b"helloHELLO"}
    await paths.commit()
    assert await paths.drive_tree() == {"f": b"helloHELLO"}


@pytest.mark.parametrize("fails", ["the commit", "an append"])
async def test_half_a_commit_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("kept", b"kept")
    await paths.commit()
    monkeypatch.setattr(committing, "APPEND_BYTES", 1)
    for name in ("a", "b", "c"):
        await paths.put(name, b"12345")
    append, commit = paths.own.content.append, paths.own.committer.commit

    async def append_some(blocks: Any, **keywords: Any) -> int:
        if paths.own.content.length == 3:
            raise OSError(errno.ENOSPC, "full")
        return await append(blocks, **keywords)

    async def refuse(*arguments: Any, **keywords: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    if fails == "an append":
        monkeypatch.setattr(paths.own.content, "append", append_some)
    else:
        monkeypatch.setattr(paths.own.committer, "commit", refuse)
    with pytest.raises(OSError, match="full"):
        await paths.commit()
    assert [block for block in paths.own.content.blocks if block is not None] == [b"kept"]
    monkeypatch.setattr(paths.own.content, "append", append)
    monkeypatch.setattr(paths.own.committer, "commit", commit)
    await paths.commit()
    assert (await paths.drive_tree()) == {"kept": b"kept", "a": b"12345", "b": b"12345", "c": b"12345"}
