"""Space kept back for what frees space."""

import errno
import os
from pathlib import Path

import pytest

from hyperfs.core.reserve import RESERVE_BYTES, Reserve

FULL = OSError(errno.ENOSPC, "full")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / ".hyperfs").mkdir()
    return tmp_path / ".hyperfs/reserve"


def fill_disk(monkeypatch: pytest.MonkeyPatch, *, free_bytes: int) -> None:
    blocks = (1 << 40) // 4096
    free = free_bytes // 4096
    told = os.statvfs_result((4096, 4096, blocks, free, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: told)


def space_of(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.exists() else 0


async def test_the_reserve_takes_space(path: Path) -> None:
    assert await Reserve(path).make()
    assert space_of(path) >= RESERVE_BYTES


async def test_a_full_disk_gets_the_reserve_once(path: Path) -> None:
    reserve = Reserve(path)
    await reserve.make()
    assert await reserve.give_way(FULL)
    assert not space_of(path)
    assert not await reserve.give_way(FULL)


async def test_another_failure_does_not_get_it(path: Path) -> None:
    reserve = Reserve(path)
    await reserve.make()
    assert not await reserve.give_way(OSError(errno.EIO, "broken"))
    assert space_of(path)


async def test_without_room_for_a_reserve_content_has_to_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, free_bytes=RESERVE_BYTES)
    with pytest.raises(OSError, match="No space left") as caught:
        await Reserve(path).require()
    assert caught.value.errno == errno.ENOSPC


async def test_the_reserve_is_made_again_when_there_is_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve(path)
    await reserve.make()
    await reserve.give_way(FULL)
    fill_disk(monkeypatch, free_bytes=3 * RESERVE_BYTES)
    await reserve.require()
    assert space_of(path)


async def test_a_reserve_of_before_is_taken_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await Reserve(path).make()
    fill_disk(monkeypatch, free_bytes=0)
    assert await Reserve(path).make()
