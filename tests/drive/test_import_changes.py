"""What changes while it is imported: files, and the drive itself."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from hyperfs.drive import importer as importer_module
from hyperfs.drive.committer import CHUNK_BYTES
from hyperfs.drive.import_plan import ImportPlan, plan_import
from hyperfs.drive.importer import import_folder, run_import
from hyperfs.drive.scan import Found, ReadFile, Skipped, read_small
from hyperfs.drive.stat import DEFAULT_FILE_MODE, Stat, encode_stat
from hyperfs.errors import ConflictingLength
from hyperfs.trie import Operation, Put
from tests.support.drives import new_drive
from tests.support.imports import bring, contents, source

__all__ = ["source"]


async def test_somebody_elses_commit_is_a_conflict(source: Path) -> None:
    own = await new_drive()
    plan = await plan_import(own.drive.snapshot(), source)
    await own.writer.put_file("x")
    with pytest.raises(ConflictingLength):
        await run_import(plan, own.committer)


async def test_what_somebody_else_writes_meanwhile_is_compared_anew(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer_module, "OPERATIONS_IN_A_COMMIT", 1)
    own = await new_drive()
    commit, commits = own.committer.commit, 0

    async def second(operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
        nonlocal commits
        commits += 1
        if commits in (1, 4):
            theirs = encode_stat(Stat(DEFAULT_FILE_MODE, mtime=1))
            await commit([Put(path, theirs) for path in ("a/b/c.txt", f"theirs {commits}")])
        return await commit(operations, expected_version=expected_version)

    monkeypatch.setattr(own.committer, "commit", second)
    result = await import_folder(own.drive, lambda: plan_import(own.drive.snapshot(), source), own.committer)
    found = await contents(own)
    assert (found["a/b/c.txt"], found["theirs 1"], found["theirs 4"]) == (b"hello", b"", b"")
    assert (await plan_import(own.drive.snapshot(), source)).is_empty
    assert (result.version, result.files, result.unchanged) == (own.drive.version, 3, 0)


async def test_an_import_gives_up_when_somebody_writes_all_the_time(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = await new_drive()
    commit = own.committer.commit

    async def second(operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
        await commit([Put("theirs", encode_stat(Stat(DEFAULT_FILE_MODE)))])
        return await commit(operations, expected_version=expected_version)

    monkeypatch.setattr(own.committer, "commit", second)
    with pytest.raises(ConflictingLength, match="all the time"):
        await import_folder(own.drive, lambda: plan_import(own.drive.snapshot(), source), own.committer)


class TestChangingFiles:
    """A file goes into the drive as it was at one instant, or not at all."""

    def test_a_small_file_is_read_again_when_it_changed(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = iter([False, True])
        monkeypatch.setattr(ReadFile, "stayed", lambda self: next(answers))
        contents = read_small(source, Found("zero", Stat(0o100644)))
        assert not isinstance(contents, Skipped)

    def test_one_that_changes_each_time_is_skipped(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ReadFile, "stayed", lambda self: False)
        assert read_small(source, Found("zero", Stat(0o100644))) == Skipped("zero", "it changed each time it was read")

    def test_a_write_while_reading_is_noticed(self, source: Path) -> None:
        file = ReadFile(source, Found("zero", Stat(0o100644)))
        (source / "zero").write_bytes(b"x")
        file.read_blocks(2)
        assert not file.stayed()
        file.close()

    def test_a_file_that_became_a_link_is_not_read(self, source: Path) -> None:
        (source / "zero").unlink()
        (source / "zero").symlink_to("/etc/passwd")
        assert isinstance(read_small(source, Found("zero", Stat(0o100644))), Skipped)

    def test_a_file_that_became_a_fifo_does_not_hang(self, source: Path) -> None:
        (source / "zero").unlink()
        os.mkfifo(source / "zero")
        assert isinstance(read_small(source, Found("zero", Stat(0o100644))), Skipped)

    async def test_a_large_one_is_sent_again(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        content = os.urandom(CHUNK_BYTES * 20 + 5)
        (source / "big").write_bytes(content)
        answers = iter([False])
        stayed = ReadFile.stayed
        monkeypatch.setattr(ReadFile, "stayed", lambda self: stayed(self) and next(answers, True))
        own = await new_drive()
        plan = await plan_import(own.drive.snapshot(), source)
        big = ImportPlan(source, "", 1, tuple(f for f in plan.files if f.path == "big"), (), (), 0, ())
        result = await run_import(big, own.committer)
        assert (result.files, own.content.length) == (1, 21 + 21)
        assert await contents(own) == {"big": content}

    async def test_a_large_one_that_always_changes_is_skipped(
        self, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ReadFile, "stayed", lambda self: self.found.path != "big")
        own = await new_drive()
        result = await bring(own, source)
        assert "big" not in await contents(own)
        assert [skipped.path for skipped in result.skipped] == ["big"]
