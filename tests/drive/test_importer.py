"""Bringing a drive up to date with a folder."""

import errno
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hyperfs.drive import import_plan as plan_module
from hyperfs.drive import importer as importer_module
from hyperfs.drive import scan as scan_module
from hyperfs.drive.committer import CHUNK_BYTES
from hyperfs.drive.folder import part_name
from hyperfs.drive.import_plan import Compare, plan_import
from hyperfs.drive.importer import Progress, run_import
from hyperfs.drive.scan import Found, Skipped, scan
from hyperfs.errors import PathError
from hyperfs.trie import Operation
from tests.support.drives import new_drive
from tests.support.imports import bring, contents, source

__all__ = ["source"]


async def test_a_folder_is_in_the_drive_afterwards(source: Path) -> None:
    own = await new_drive()
    result = await bring(own, source)
    assert await contents(own) == {
        "a/b/c.txt": b"hello",
        "zero": b"",
        "big": bytes(range(256)) * 4097,
    }
    assert (result.files, result.byte_count, result.skipped) == (3, 5 + 256 * 4097, ())


async def test_modes_owners_times_and_links_are_kept(source: Path) -> None:
    os.chmod(source / "zero", 0o640)
    os.utime(source / "zero", ns=(0, 1_234_567_890_123_999_999))
    os.chmod(source / "empty", 0o711)
    own = await new_drive()
    await bring(own, source)
    snapshot = own.drive.snapshot()
    zero = (await snapshot.stat("zero")).stat
    assert (zero.mode, zero.mtime, zero.ctime) == (0o100640, 1_234_567_890_123, 77)
    assert (zero.uid, zero.gid) == (os.getuid(), os.getgid())
    assert (await snapshot.stat("empty")).stat.mode == 0o40711
    assert await snapshot.readlink("link") == "a/b/c.txt"


async def test_the_users_attributes_are_kept(source: Path) -> None:
    os.setxattr(source / "zero", "user.note", b"kept")
    own = await new_drive()
    await bring(own, source)
    assert (await own.drive.snapshot().stat("zero")).stat.attributes == {"user.note": b"kept"}


async def test_nothing_is_appended_when_nothing_changed(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    before = (own.metadata.length, own.content.length)
    result = await bring(own, source, delete=True)
    assert (own.metadata.length, own.content.length) == before
    assert (result.files, result.nodes, result.deleted, result.unchanged) == (0, 0, 0, 7)


async def test_only_what_changed_is_appended(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    before = own.content.length
    (source / "zero").write_bytes(b"more")
    (source / "new").write_bytes(b"new")
    result = await bring(own, source)
    assert (result.files, own.content.length - before) == (2, 2)


async def test_another_mode_appends_no_content(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    before = own.content.length
    os.chmod(source / "big", 0o600)
    result = await bring(own, source)
    assert (result.nodes, own.content.length - before) == (1, 0)
    assert (await own.drive.snapshot().stat("big")).stat.mode == 0o100600
    assert (await contents(own))["big"] == (source / "big").read_bytes()


async def test_a_change_that_keeps_size_and_time_is_found_by_checksum(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    path = source / "a" / "b" / "c.txt"
    times = path.stat()
    path.write_bytes(b"HELLO")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (await plan_import(own.drive.snapshot(), source)).is_empty
    plan = await plan_import(own.drive.snapshot(), source, compare=Compare.CHECKSUM)
    assert [found.path for found in plan.files] == ["a/b/c.txt"]


async def test_a_touched_file_appends_no_content_when_compared_by_checksum(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    os.utime(source / "big", ns=(0, 5_000_000_000))
    plan = await plan_import(own.drive.snapshot(), source, compare=Compare.CHECKSUM)
    assert (plan.files, [path for path, _ in plan.nodes]) == ((), ["big"])


async def test_what_is_gone_stays_unless_deletion_is_asked_for(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    (source / "a" / "b" / "c.txt").unlink()
    (source / "a" / "b").rmdir()
    await bring(own, source)
    assert "a/b/c.txt" in await contents(own)
    await bring(own, source, delete=True)
    paths = {entry.path async for entry in own.drive.snapshot().walk()}
    assert paths == {"a", "big", "empty", "link", "zero"}


async def test_a_directory_that_became_a_file_leaves_nothing_behind(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    (source / "a" / "b" / "c.txt").unlink()
    (source / "a" / "b").rmdir()
    (source / "a" / "b").write_bytes(b"now a file")
    await bring(own, source)
    assert (await contents(own))["a/b"] == b"now a file"
    keys = {node.key async for node in own.drive.snapshot().trie.iterate()}
    assert "a/b/c.txt" not in keys


async def test_a_file_that_became_a_directory_is_one(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    (source / "zero").unlink()
    (source / "zero").mkdir()
    (source / "zero" / "inside").write_bytes(b"x")
    await bring(own, source)
    assert (await contents(own))["zero/inside"] == b"x"


async def test_it_may_go_into_a_directory_of_the_drive(source: Path) -> None:
    own = await new_drive()
    await own.writer.put_file("other", b"stays")
    await bring(own, source, into="/some/where/", delete=True)
    found = await contents(own)
    assert (found["some/where/a/b/c.txt"], found["other"]) == (b"hello", b"stays")


@pytest.mark.parametrize(
    ("into", "code"),
    [
        ("../x", errno.EINVAL),
        ("a/../b", errno.EINVAL),
        ("n" * 256, errno.ENAMETOOLONG),
        ("/".join(["n" * 255] * 17), errno.ENAMETOOLONG),
        ("file", errno.ENOTDIR),
        ("file/below/it", errno.ENOTDIR),
        ("link", errno.ENOTDIR),
        ("link/below", errno.ENOTDIR),
        ("inner", errno.EXDEV),
        ("inner/folder", errno.EXDEV),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_nothing_goes_where_nobody_could_reach_it(source: Path, into: str, code: int) -> None:
    own = await new_drive()
    await own.writer.put_file("file", b"")
    await own.writer.symlink("link", "elsewhere")
    await own.writer.mount("inner", bytes(32))
    before = own.metadata.length
    with pytest.raises(PathError) as caught:
        await bring(own, source, into=into)
    assert caught.value.errno == code
    assert own.metadata.length == before


async def test_what_was_below_an_implied_directory_goes_when_a_file_takes_its_place(source: Path) -> None:
    own = await new_drive()
    await own.writer.put_file("zero/below", b"implies the directory")
    await bring(own, source)
    assert (await contents(own))["zero"] == b""
    assert [node.key async for node in own.drive.snapshot().trie.iterate("zero")] == ["zero"]


async def test_a_file_does_not_hide_a_drive_that_is_mounted_below_it(source: Path) -> None:
    own = await new_drive()
    await own.writer.mount("zero/inner", bytes(32))
    result = await bring(own, source)
    assert [skipped.path for skipped in result.skipped] == ["zero"]
    assert (await own.drive.snapshot().stat("zero/inner")).mount is not None


async def test_a_path_that_is_too_long_in_the_drive_is_left_out_alone(source: Path) -> None:
    own = await new_drive()
    into = "/".join(["n" * 255] * 15 + ["n" * 251])
    result = await bring(own, source, into=into)
    assert sorted(skipped.path for skipped in result.skipped) == ["a/b/c.txt", "empty", "link", "zero"]
    assert [path.rpartition("/")[2] for path in await contents(own)] == ["big"]


async def test_a_path_that_no_program_can_open_is_left_out_alone(source: Path) -> None:
    """The folder itself can just be named, and what would make a store of it not any more."""
    levels = 15
    parts = [*["n" * 255] * levels, "n" * (4095 - len(os.fsencode(source)) - 1 - 256 * levels)]
    above = os.open(source, os.O_RDONLY)
    for part in parts:
        os.mkdir(part, dir_fd=above)
        inside = os.open(part, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = inside
    os.mkdir("below", dir_fd=above)
    os.close(above)
    own = await new_drive()
    result = await bring(own, source)
    assert [(skipped.path, skipped.reason) for skipped in result.skipped] == [
        (f"{'/'.join(parts)}/below", "File name too long")
    ]
    assert (await contents(own))["a/b/c.txt"] == b"hello"


@pytest.mark.parametrize("when", ["listed", "opened", "read", "read_and_looked_at"])
@pytest.mark.parametrize("name", ["a/b/c.txt", "big"])
async def test_a_file_that_fails_is_left_out_alone(
    source: Path, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    own = await new_drive()
    plan = await plan_import(own.drive.snapshot(), source)
    path = source / name
    failed = OSError(errno.ESTALE, "Stale file handle")
    real = {name: getattr(os, name) for name in ("read", "readv", "fstat")}

    def is_it(descriptor: int) -> bool:
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(path)

    def fail(call: str, descriptor: int, *arguments: Any) -> Any:
        if is_it(descriptor):
            raise failed
        return real[call](descriptor, *arguments)

    looked: list[int] = []

    def fail_at_the_second_look(descriptor: int) -> Any:
        if is_it(descriptor):
            looked.append(descriptor)
            if len(looked) == 2:
                raise failed
        return real["fstat"](descriptor)

    match when:
        case "listed":
            path.unlink()
        case "opened":
            path.unlink()
            path.mkdir()
        case "read":
            monkeypatch.setattr("os.read", partial(fail, "read"))
            monkeypatch.setattr("os.readv", partial(fail, "readv"))
        case _:
            monkeypatch.setattr("os.fstat", fail_at_the_second_look)
    result = await run_import(plan, own.committer)
    assert [skipped.path for skipped in result.skipped] == [name]
    assert sorted(await contents(own)) == sorted({"a/b/c.txt", "big", "zero"} - {name})


async def test_attributes_that_no_reader_would_take_leave_their_file_out(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {f"user.{number}": bytes(65_536) for number in range(17)}
    monkeypatch.setattr(scan_module, "read_attributes", lambda target: large if str(target).endswith("zero") else {})
    own = await new_drive()
    result = await bring(own, source)
    assert [skipped.path for skipped in result.skipped] == ["zero"]
    assert sorted(await contents(own)) == ["a/b/c.txt", "big"]


async def test_what_a_drive_cannot_hold_is_skipped_with_the_reason(source: Path) -> None:
    os.mkfifo(source / "fifo")
    (source / "back\\slash").touch()
    (source / os.fsdecode(b"not-\xff-utf8")).touch()
    own = await new_drive()
    result = await bring(own, source)
    reasons = {os.fsencode(skipped.path): skipped.reason for skipped in result.skipped}
    assert set(reasons) == {b"fifo", b"back\\slash", b"not-\xff-utf8"}
    assert "FIFO" in reasons[b"fifo"]
    assert "not UTF-8" in reasons[b"not-\xff-utf8"]


async def test_what_could_not_be_read_is_not_deleted(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = await new_drive()
    await bring(own, source)

    def unreadable(folder: Path, **_: object) -> list[Found | Skipped]:
        return [Skipped("a", "Permission denied")]

    monkeypatch.setattr(plan_module, "scan", unreadable)
    plan = await plan_import(own.drive.snapshot(), source, delete=True)
    assert sorted(plan.deletions) == ["big", "empty", "link", "zero"]


async def test_a_mounted_drive_is_left_alone(source: Path) -> None:
    inner = await new_drive()
    await inner.writer.put_file("c.txt", b"inner")
    own = await new_drive(inner.cores)
    await own.writer.mount("a/b", inner.drive.key)
    result = await bring(own, source, delete=True)
    assert (await contents(own))["a/b/c.txt"] == b"inner"
    assert {skipped.path for skipped in result.skipped} == {"a/b", "a/b/c.txt"}


async def test_what_is_ignored_is_not_imported_and_is_left_alone_in_the_drive(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    (source / "a/b/.hyperfsignore").write_text("*.txt\n")
    (source / "a/b/c.txt").write_bytes(b"changed")
    (source / "zero").unlink()
    plan = await plan_import(own.drive.snapshot(), source, delete=True, ignore=["/big", "/empty/"])
    assert [found.path for found in plan.files] == ["a/b/.hyperfsignore"]
    assert (plan.deletions, plan.ignored, plan.skipped) == (("zero",), 3, ())


async def test_the_store_is_not_imported_into_itself(source: Path) -> None:
    own = await new_drive()
    (source / "store" / "cores").mkdir(parents=True)
    plan = await plan_import(own.drive.snapshot(), source, excluded=[source / "store"])
    assert [skipped.path for skipped in plan.skipped] == ["store"]


async def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    own = await new_drive()
    with pytest.raises(FileNotFoundError):
        await plan_import(own.drive.snapshot(), tmp_path / "missing")


async def test_progress_ends_with_everything(source: Path) -> None:
    own = await new_drive()
    told: list[Progress] = []
    plan = await plan_import(own.drive.snapshot(), source)
    await run_import(plan, own.committer, on_progress=told.append)
    assert told[-1] == Progress(3, 3, plan.total_bytes, plan.total_bytes)


async def test_many_files_go_in_several_commits(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer_module, "OPERATIONS_IN_A_COMMIT", 3)
    monkeypatch.setattr(importer_module, "LOAD_FILES", 2)
    for number in range(20):
        (source / f"f{number}").write_bytes(bytes(number))
    own = await new_drive()
    await bring(own, source)
    found = await contents(own)
    assert all(found[f"f{number}"] == bytes(number) for number in range(20))


async def test_large_files_are_committed_as_they_are_done(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer_module, "BYTES_IN_A_COMMIT", 1_000_000)
    for name in ("big2", "big3"):
        (source / name).write_bytes(bytes(1_100_000))
    own = await new_drive()
    versions: list[int] = []
    commit = own.committer.commit

    async def note(operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
        versions.append(await commit(operations, expected_version=expected_version))
        return versions[-1]

    monkeypatch.setattr(own.committer, "commit", note)
    await bring(own, source)
    assert len(versions) == 4


def test_a_scan_tells_a_directory_before_what_is_in_it(source: Path) -> None:
    paths = [item.path for item in scan(source)]
    assert paths.index("a") < paths.index("a/b") < paths.index("a/b/c.txt")


def test_a_scan_goes_through_directories_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/file", "a/inner/file", "c/file", "a/other/file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = [item.path for item in scan(tmp_path) if item.path.endswith("file")]
    assert files == ["a/inner/file", "a/other/file", "b/file", "c/file"]


async def test_content_that_the_drive_has_lost_is_brought_again_when_compared_by_checksum(source: Path) -> None:
    own = await new_drive()
    await bring(own, source)
    own.content.take_away((await own.drive.snapshot().stat("a/b/c.txt")).stat.offset)
    plan = await plan_import(own.drive.snapshot(), source, compare=Compare.CHECKSUM)
    assert [found.path for found in plan.files] == ["a/b/c.txt"]


async def test_what_an_interrupted_export_has_left_is_left_out(source: Path) -> None:
    (source / "a" / part_name("big", b"")).write_bytes(b"half")
    own = await new_drive()
    result = await bring(own, source)
    assert [one.path for one in result.skipped] == [f"a/{part_name('big', b'')}"]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
async def test_the_blocks_of_a_file_hold_its_bytes_and_no_more(tmp_path: Path, size: int) -> None:
    """The reference returns a file's last block as a whole."""
    (tmp_path / "imported").write_bytes(bytes(size))
    own = await new_drive()
    await bring(own, tmp_path)
    await own.writer.put_file("put", bytes(size))
    for path in ("imported", "put"):
        stat = (await own.drive.snapshot().stat(path)).stat
        blocks = own.content.blocks[stat.offset : stat.offset + stat.blocks]
        assert sum(len(block) for block in blocks if block is not None) == stat.size == size
        assert all(blocks)
