"""Staging again what a process left: nothing is lost for a fault of the disk, and what cannot be done again is kept."""

import errno
import os
import struct
import zlib
from pathlib import Path

import msgpack
import pytest

from hyperfs.errors import DaemonError, LaterFormat
from hyperfs.mount.staging import journal, recovery
from tests.support.staging_disk import StagingDisk
from tests.support.workspaces import Paths

FILES = {f"f{number}": bytes([65 + number]) * 100 for number in range(8)}


async def stage(directory: Path) -> Paths:
    paths = await Paths.open(directory)
    for name, content in FILES.items():
        await paths.put(name, content)
    await paths.workspace.sync()
    return paths


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def change(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


async def test_a_damaged_record_costs_what_it_said_and_is_set_aside_with_all_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = await stage(tmp_path)
    before = files_of(tmp_path)
    change(tmp_path / "1.journal", b"f3", b"fX")
    damaged = (tmp_path / "1.journal").read_bytes()
    again = await Paths.open(tmp_path, paths.own)
    assert await again.tree() == {name: content for name, content in FILES.items() if name != "f3"}
    kept = files_of(tmp_path / "set-aside" / "1")
    assert kept["1.journal"] == damaged
    assert kept["1.data"] == before["1.data"]
    assert "damaged" in kept["why.txt"].decode()
    assert "set-aside/1" in caplog.text
    await again.commit()
    again.workspace.close()
    assert files_of(tmp_path) == {f"set-aside/1/{name}": content for name, content in kept.items()}


async def test_a_process_that_dies_before_it_committed_sets_nothing_aside_twice(tmp_path: Path) -> None:
    paths = await stage(tmp_path)
    change(tmp_path / "1.journal", b"f3", b"fX")
    trees = []
    for _ in range(2):
        paths = await Paths.open(tmp_path, paths.own)
        trees.append(await paths.tree())
        await paths.put("new", b"1")
    assert trees[1] == trees[0] | {"new": b"1"}
    assert [path.name for path in (tmp_path / "set-aside").iterdir()] == ["1"]
    assert {"1.journal", "2.journal", "1.data"} <= files_of(tmp_path / "set-aside" / "1").keys()


async def test_what_is_set_aside_is_not_written_to_by_who_goes_on(tmp_path: Path) -> None:
    paths = await stage(tmp_path)
    change(tmp_path / "1.journal", b"f3", b"fX")
    again = await Paths.open(tmp_path, paths.own)
    kept = files_of(tmp_path / "set-aside")
    await again.write("f0", b"other", 10)
    await again.put("more", b"more")
    await again.workspace.sync()
    assert files_of(tmp_path / "set-aside") == kept


async def test_a_journal_of_a_later_version_refuses_the_mount_and_stays(tmp_path: Path) -> None:
    paths = await stage(tmp_path)
    change(tmp_path / "1.journal", b"journal 2", b"journal 3")
    before = files_of(tmp_path)
    with pytest.raises(LaterFormat, match="version 3"):
        await Paths.open(tmp_path, paths.own)
    assert files_of(tmp_path) == before
    change(tmp_path / "1.journal", b"journal 3", b"journal 2")
    assert await (await Paths.open(tmp_path, paths.own)).tree() == FILES


@pytest.mark.parametrize("body", [["z", 1, "f"], "text", ["n", 1, "f"], ["c", 1, "f0", 9, 9, 9, None, [[1, 2, 3]], 1]])
async def test_a_record_of_unknown_shape_is_left_out_and_kept(tmp_path: Path, body: object) -> None:
    paths = await stage(tmp_path)
    paths.workspace.journal.add(msgpack.packb(body))
    await paths.put("last", b"1")
    again = await Paths.open(tmp_path, paths.own)
    assert await again.tree() == FILES | {"last": b"1"}
    assert (tmp_path / "set-aside" / "1" / "1.journal").exists()


async def test_what_the_drive_does_not_allow_any_more_is_left_out_and_kept(tmp_path: Path) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.commit()
    await paths.put("d/f", b"staged")
    await paths.put("g", b"staged too")
    await paths.own.writer.delete_tree("d")
    again = await Paths.open(tmp_path, paths.own)
    assert await again.tree() == {"g": b"staged too"}
    (kept,) = (tmp_path / "set-aside").iterdir()
    assert b"staged" in (kept / "1.data").read_bytes()
    assert "d/f" in (kept / "why.txt").read_text()


@pytest.mark.parametrize("gone", ["lost", "cut off"])
async def test_a_file_whose_staged_bytes_are_gone_is_as_in_the_drive_and_the_rest_is_kept(
    tmp_path: Path, gone: str
) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("old", b"committed")
    await paths.commit()
    await paths.put("old", b"staged over it")
    await paths.put("new", b"staged")
    segment = tmp_path / max(name for name in os.listdir(tmp_path) if name.endswith(".data"))
    if gone == "lost":
        segment.unlink()
    else:
        os.truncate(segment, 3)
    again = await Paths.open(tmp_path, paths.own)
    assert await again.tree() == {"old": b"committed", "new": b""}
    (kept,) = (tmp_path / "set-aside").iterdir()
    assert "old: 14 bytes" in (kept / "why.txt").read_text()
    await again.commit()


async def test_recovering_needs_no_room_on_the_disk(tmp_path: Path) -> None:
    paths = await stage(tmp_path)
    disk = StagingDisk(tmp_path)

    def full(call: str, path: Path | None) -> OSError | None:
        is_for_more = call in ("write_at", "posix_fallocate")
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if is_for_more else None

    disk.verdict = full
    with disk.installed():
        again = await Paths.open(tmp_path, paths.own)
        assert await again.tree() == FILES
        with pytest.raises(OSError, match="No space"):
            await again.put("more", b"1")
    await again.put("more", b"1")
    assert await (await Paths.open(tmp_path, paths.own)).tree() == FILES | {"more": b"1"}


async def test_what_cannot_be_read_of_the_drive_now_refuses_the_mount_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await stage(tmp_path)
    before = files_of(tmp_path)

    async def unreachable(*arguments: object) -> bool:
        raise DaemonError("the daemon does not answer")

    paths.workspace.records.add(recovery.CommitSent(1, 1, "f0", None))
    before = files_of(tmp_path)
    with monkeypatch.context() as without_daemon:
        without_daemon.setattr(recovery, "stands", unreachable)
        with pytest.raises(DaemonError):
            await Paths.open(tmp_path, paths.own)
    assert files_of(tmp_path) == before
    assert await (await Paths.open(tmp_path, paths.own)).tree() == FILES


async def test_a_commit_that_stands_but_may_not_be_durable_keeps_what_was_staged_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await stage(tmp_path)

    async def refuse() -> None:
        raise OSError(errno.EIO, "the drive's disk fails")

    monkeypatch.setattr(paths.own.committer, "sync", refuse)
    await paths.commit()
    before = files_of(tmp_path)
    paths.workspace.close()
    assert files_of(tmp_path) == before
    with pytest.raises(OSError, match="the drive's disk fails"):
        await Paths.open(tmp_path, paths.own)
    assert files_of(tmp_path) == before
    monkeypatch.undo()
    (await Paths.open(tmp_path, paths.own)).workspace.close()
    assert files_of(tmp_path) == {}


async def test_what_an_earlier_process_did_not_sync_is_durable_after_a_sync_of_this_one(tmp_path: Path) -> None:
    paths = await stage(tmp_path)
    disk = StagingDisk(tmp_path)
    synced: set[str] = set()
    disk.before = lambda call, path: synced.add(path.name) if call == "fdatasync" and path is not None else None
    with disk.installed():
        again = await Paths.open(tmp_path, paths.own)
        await again.workspace.sync()
    assert {"1.journal", "1.data"} <= synced


async def test_what_the_power_failure_cut_off_stays_cut_off_for_every_later_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await stage(tmp_path)
    await paths.make("unsynced")
    await paths.make("not-there")
    await paths.make("behind")
    change(tmp_path / "1.journal", b"not-there", bytes(9))
    monkeypatch.setattr(journal, "boot_id", lambda: b"the next boot...")
    expected: dict[str, object] = FILES | {"unsynced": b""}
    for number in range(3):
        paths = await Paths.open(tmp_path, paths.own)
        assert await paths.tree() == expected
        await paths.make(f"later{number}")
        await paths.workspace.sync()
        expected[f"later{number}"] = b""
    assert not (tmp_path / "set-aside").exists()


async def test_what_the_first_version_of_the_journal_staged_is_staged_again(tmp_path: Path) -> None:
    bodies: list[list[object]] = [
        ["n", 5_000_000, "d", 0o40755, 0, 0, None],
        ["n", 6_000_000, "d/f", 0o100644, 1, 2, None],
        ["c", 7_000_000, "d/f", 5, 0, 0, None, [[0, 5, 1, 3]], 7_000_000],
        ["a", 8_000_000, "d/f", 0o100600, 1, 2, 9_000_000],
        ["n", 8_000_000, "gone", 0o100644, 0, 0, None],
        ["u", 8_000_000, "gone"],
        ["r", 8_000_000, "d/f", "d/g"],
    ]
    packed = [msgpack.packb(body) for body in bodies]
    frames = b"".join(struct.pack("<II", len(body), zlib.crc32(body)) + body for body in packed)
    (tmp_path / "1.journal").write_bytes((b"hyperfs journal 1\n" + frames).ljust(1 << 16, b"\0"))
    (tmp_path / "1.data").write_bytes(b"...hello")
    paths = await Paths.open(tmp_path)
    assert await paths.tree() == {"d": None, "d/g": b"hello"}
    attributes = await paths.workspace.attributes(await paths.number("d/g"))
    assert (attributes.mode, attributes.uid, attributes.gid, attributes.mtime) == (0o100600, 1, 2, 9_000_000)
    await paths.commit()
    assert await paths.drive_tree() == {"d": None, "d/g": b"hello"}
    assert not (tmp_path / "set-aside").exists()


async def test_what_was_not_synced_ends_at_the_first_record_whose_bytes_the_power_failure_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"synced")
    await paths.workspace.sync()
    await paths.write("f", b"written over it")
    await paths.make("behind")
    os.truncate(tmp_path / "1.data", len(b"synced"))
    monkeypatch.setattr(journal, "boot_id", lambda: b"the next boot...")
    for _ in range(2):
        paths = await Paths.open(tmp_path, paths.own)
        assert await paths.tree() == {"f": b"synced"}
    assert not (tmp_path / "set-aside").exists()


async def test_a_journal_of_which_the_power_failure_left_nothing_takes_those_behind_it_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    paths.workspace.journal.begin()
    await paths.rename("d", "e")
    paths.workspace.journal.begin()
    await paths.make("e/f")
    second = tmp_path / "2.journal"
    os.truncate(second, 0)
    monkeypatch.setattr(journal, "boot_id", lambda: b"the next boot...")
    assert await (await Paths.open(tmp_path, paths.own)).tree() == {"d": None}
    assert not (tmp_path / "set-aside").exists()


async def test_a_segment_may_be_gone_whose_records_were_replaced_before_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"unlinked before it was committed")
    await paths.unlink("f")
    await paths.make("g")
    paths.workspace.segments.begin_anew()
    await paths.workspace.collect()
    assert not (tmp_path / "1.data").exists()
    monkeypatch.setattr(journal, "boot_id", lambda: b"the next boot...")
    assert await (await Paths.open(tmp_path, paths.own)).tree() == {"g": b""}
    assert not (tmp_path / "set-aside").exists()
