"""What a committer does on a full disk, and how content is cleared under it."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hyperfs.core.core import Core
from hyperfs.core.store import Store, run_store
from hyperfs.drive.committer import LocalCommitter, named_content
from hyperfs.drive.create import create_drive
from hyperfs.drive.stat import Stat, encode_stat
from hyperfs.errors import ConflictingLength, WriterBehind
from hyperfs.trie import Put


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with run_store(tmp_path) as store:
        yield store


@pytest.fixture
async def committer(store: Store) -> LocalCommitter:
    key = await create_drive(store)
    return LocalCommitter(await store.core(key), await store.content_core(key), reserve=store.reserve)


async def add_file(committer: LocalCommitter, path: str) -> None:
    async with committer.content() as lease:
        run = await lease.append([b"content"])
    stat = Stat(0o100644, size=run.size, blocks=1, offset=run.blocks.start, byte_offset=run.byte_offset)
    await committer.commit([Put(path, encode_stat(stat))])


def fill_disk(monkeypatch: pytest.MonkeyPatch, core: Core, failures: int) -> None:
    """Let the next ``failures`` appends to ``core`` find no space."""
    append = core.append
    left = [failures]

    async def full_append(*arguments: Any, **more: Any) -> int:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return await append(*arguments, **more)

    monkeypatch.setattr(core, "append", full_append)


async def test_a_commit_on_a_full_disk_uses_the_reserve(
    store: Store, committer: LocalCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_file(committer, "a")
    fill_disk(monkeypatch, committer.metadata, 1)
    assert await committer.commit([Put("b", encode_stat(Stat(0o100644)))]) == 3
    assert not store.reserve.stands


async def test_a_commit_that_finds_no_space_even_then_fails(
    committer: LocalCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_file(committer, "a")
    fill_disk(monkeypatch, committer.metadata, 2)
    with pytest.raises(OSError, match="No space left"):
        await committer.commit([Put("b", encode_stat(Stat(0o100644)))])
    assert committer.metadata.length == 2


async def test_a_commit_that_raises_is_not_made_and_one_that_is_made_does_not_raise(
    committer: LocalCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the disk fails just as the core has to wait for it."""
    monkeypatch.setattr("hyperfs.core.durability._MAX_PENDING_SIGNATURES", 2)

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    await add_file(committer, "a")
    monkeypatch.setattr(os, "fdatasync", fail)
    for number in range(6):
        before = committer.metadata.length
        try:
            version = await committer.commit([Put(f"{number}", b"")], expected_version=before)
        except OSError:
            assert committer.metadata.length == before
        else:
            assert committer.metadata.length == version == before + 1
    monkeypatch.undo()


async def test_content_never_uses_the_reserve(
    store: Store, committer: LocalCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_file(committer, "a")
    fill_disk(monkeypatch, committer.content_core, 1)
    with pytest.raises(OSError, match="No space left"):
        await add_file(committer, "b")
    assert store.reserve.stands


async def test_content_is_cleared_at_the_version_that_was_looked_at(committer: LocalCommitter) -> None:
    await add_file(committer, "a")
    await add_file(committer, "b")
    await committer.clear([range(1)], expected_version=3)
    assert not committer.content_core.has(0, 1)
    assert committer.content_core.has(1, 2)


async def test_nothing_is_cleared_when_the_drive_was_written_to_meanwhile(committer: LocalCommitter) -> None:
    await add_file(committer, "a")
    with pytest.raises(ConflictingLength, match="written to meanwhile"):
        await committer.clear([range(1)], expected_version=1)
    assert committer.content_core.has(0, 1)


async def test_content_that_the_metadata_names_and_that_is_not_here_keeps_it_from_growing(
    committer: LocalCommitter,
) -> None:
    """As after a backup was restored in which one of the two cores is older than the other."""
    await add_file(committer, "a")
    await committer.commit([Put("b", encode_stat(Stat(0o100644, size=7, blocks=1, offset=4)))])
    assert await named_content(committer.metadata) == 5
    await committer.content_core.fork_guard.note_signed(await named_content(committer.metadata))
    with pytest.raises(WriterBehind):
        await add_file(committer, "c")
