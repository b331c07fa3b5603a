"""Space kept back for what frees space."""

import errno
import os
from pathlib import Path

import pytest
import trio
from trio.testing import Sequencer

from hyperfs.core.reserve import RESERVE_BYTES, Reserve


class Disk:
    """Something that fails with ``code`` the first time that it is done, and returns how often it was done."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.count = 0

    async def work(self) -> int:
        self.count += 1
        if self.count == 1:
            raise OSError(self.code, "cannot")
        return self.count


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


async def test_what_a_full_disk_refuses_is_done_again_in_the_reserve_once(path: Path) -> None:
    reserve = Reserve(path)
    await reserve.make()
    assert await reserve.spend_on(Disk(errno.ENOSPC).work) == 2
    assert not space_of(path)
    with pytest.raises(OSError, match="cannot"):
        await reserve.spend_on(Disk(errno.ENOSPC).work)


async def test_of_two_that_a_disk_is_full_for_at_once_both_are_done_again(path: Path) -> None:
    reserve = Reserve(path)
    await reserve.make()
    order = Sequencer()
    done = []

    async def first() -> None:
        async with order(1):
            pass
        done.append(await reserve.spend_on(Disk(errno.ENOSPC).work))
        async with order(2):
            pass

    async def second() -> None:
        disk = Disk(errno.EDQUOT)

        async def work() -> int:
            if not disk.count:
                async with order(0):
                    pass
                async with order(3):
                    pass
            return await disk.work()

        done.append(await reserve.spend_on(work))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
    assert done == [2, 2]


async def test_another_failure_does_not_get_it(path: Path) -> None:
    reserve = Reserve(path)
    await reserve.make()
    with pytest.raises(OSError, match="cannot"):
        await reserve.spend_on(Disk(errno.EIO).work)
    assert space_of(path)


@pytest.mark.parametrize(("free", "is_room"), [(0, False), (RESERVE_BYTES - 4096, False), (RESERVE_BYTES, True)])
async def test_there_is_room_when_as_much_is_free_as_is_kept_back(
    path: Path, monkeypatch: pytest.MonkeyPatch, free: int, is_room: bool
) -> None:
    reserve = Reserve(path)
    await reserve.make()
    fill_disk(monkeypatch, free_bytes=free)
    assert await reserve.has_room() == is_room


async def test_without_room_for_a_reserve_content_has_to_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, free_bytes=RESERVE_BYTES)
    with pytest.raises(OSError, match="No space left") as caught:
        await Reserve(path).require()
    assert caught.value.errno == errno.ENOSPC


async def test_the_reserve_is_made_again_when_there_is_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve(path)
    await reserve.make()
    await reserve.give()
    fill_disk(monkeypatch, free_bytes=3 * RESERVE_BYTES)
    await reserve.require()
    assert space_of(path)


async def test_a_reserve_of_before_is_taken_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await Reserve(path).make()
    fill_disk(monkeypatch, free_bytes=0)
    assert await Reserve(path).make()
