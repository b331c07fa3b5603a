"""An import that ends before its time."""

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from hyperfs.drive.committer import PIECE_BYTES
from hyperfs.drive.scan import ReadFile
from hyperfs.trie import Operation
from tests.support.drives import new_drive
from tests.support.imports import bring, contents

LARGE = 2 * PIECE_BYTES + 5
"""Of so many bytes a file is appended in several pieces."""


class TestAnInterruptedImport:
    """What is whole goes in, what is not is given back, and the next one goes on after it."""

    @pytest.fixture
    def many(self, tmp_path: Path) -> Path:
        folder = tmp_path / "many"
        folder.mkdir()
        for name in ("a", "b", "c"):
            (folder / name).write_bytes(name.encode() * LARGE)
        return folder

    async def test_keeps_what_was_whole_and_gives_back_the_rest(
        self, many: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = await new_drive()
        read_into = ReadFile.read_into

        def interrupted(self: ReadFile, buffer: memoryview) -> int:
            count = read_into(self, buffer)
            if self.found.path == "c":
                trio.from_thread.run_sync(scope.cancel)
            return count

        monkeypatch.setattr(ReadFile, "read_into", interrupted)
        with trio.CancelScope() as scope:
            await bring(own, many)
        assert scope.cancelled_caught
        assert sorted(await contents(own)) == ["a", "b"]
        named = sum([(await own.drive.snapshot().stat(name)).stat.blocks for name in "ab"])
        assert own.content.count(named, own.content.length) == 0
        assert own.content.length > named
        monkeypatch.undo()
        result = await bring(own, many)
        assert (result.files, result.unchanged) == (1, 2)
        assert sorted(await contents(own)) == ["a", "b", "c"]

    @pytest.mark.parametrize("stands", [False, True])
    async def test_in_its_commit_loses_nothing(self, many: Path, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
        own = await new_drive()
        commit = own.committer.commit
        calls = 0

        async def interrupted(operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
            nonlocal calls
            calls += 1
            if calls == 1 and not stands:
                raise KeyboardInterrupt
            version = await commit(operations, expected_version=expected_version)
            if calls == 1:
                raise KeyboardInterrupt
            return version

        monkeypatch.setattr(own.committer, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await bring(own, many)
        found = await contents(own)
        assert {name: len(found[name]) for name in found} == dict.fromkeys("abc", LARGE)

    async def test_on_a_disk_that_takes_nothing_any_more_says_so(
        self, many: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = await new_drive()

        async def full(operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(own.committer, "commit", full)
        with pytest.raises(OSError, match="No space left"):
            await bring(own, many)
