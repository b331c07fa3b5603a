"""A sync that failed is told, and never counts as done later: the kernel takes for clean what it could not write."""

import errno
import random

import pytest

from hyperfs.core.core import Core
from hyperfs.core.head_record import HeadRecord
from hyperfs.errors import BlockNotAvailable, DamagedStore
from tests.support.cores import KEYS, bring, writer
from tests.support.lying_disk import LyingDirectory, LyingDisk

BOOT = b"1" * 16
FILES = ["data", "tree", "signatures", "bitfield"]


def failing(disk: LyingDisk, name: str, kind: str = "sync") -> None:
    """Have the next operation of a kind on a file fail, and no other."""

    def fault(wanted_kind: str, wanted_name: str) -> int | None:
        return errno.EIO if not disk.failed and (wanted_kind, wanted_name) == (kind, f"core/{name}") else None

    disk.failed.clear()
    disk.fault = fault


def record_on(disk: LyingDisk, boot: bytes = BOOT) -> HeadRecord:
    return HeadRecord(LyingDirectory(disk, "heads/"), "core", boot=boot)


async def own(disk: LyingDisk, *, boot: bytes = BOOT) -> Core:
    return await Core.open(LyingDirectory(disk, "core/"), key_pair=KEYS, record=record_on(disk, boot))


async def other(disk: LyingDisk) -> Core:
    return await Core.open(LyingDirectory(disk, "core/"), key=KEYS.public)


def disk_of(*, forgets: bool = False) -> LyingDisk:
    """A disk that loses all that a failed sync could not write."""
    chance = random.Random(1)
    chance.random = lambda: 1.0  # type: ignore[method-assign]
    return LyingDisk(chance, forgets=forgets)


@pytest.mark.parametrize("name", FILES)
async def test_what_a_failed_sync_lost_is_on_the_disk_after_the_next(name: str) -> None:
    disk = disk_of()
    core = await own(disk)
    await core.append([b"a"])
    await core.sync()
    await core.append([b"b", b"c"])
    failing(disk, name)
    with pytest.raises(OSError, match="Input/output"):
        await core.sync()
    assert core.durable_length == 1
    await core.sync()
    core.close_without_sync()
    again = await own(disk.lose_power(), boot=b"2" * 16)
    assert [await again.get(index) for index in range(again.length)] == [b"a", b"b", b"c"]
    await again.close()


@pytest.mark.parametrize("name", FILES)
async def test_what_a_process_that_died_could_not_sync_is_on_the_disk_after_the_next_ones_sync(name: str) -> None:
    disk = disk_of()
    core = await own(disk)
    await core.append([b"a", b"b", b"c"])
    failing(disk, name)
    with pytest.raises(OSError, match="Input/output"):
        await core.sync()
    core.close_without_sync()
    core = await own(disk.kill())
    await core.sync()
    assert core.durable_length == 3
    core.close_without_sync()
    again = await own(disk.lose_power(), boot=b"2" * 16)
    assert [await again.get(index) for index in range(again.length)] == [b"a", b"b", b"c"]
    await again.close()


@pytest.mark.parametrize("name", ["data", "tree"])
async def test_a_core_of_ours_that_the_disk_has_lost_refuses_to_go_on(name: str) -> None:
    disk = disk_of(forgets=True)
    core = await own(disk)
    await core.append([b"a" * 5000] * 30)
    failing(disk, name)
    with pytest.raises(DamagedStore, match="lost"):
        await core.sync()
    for _ in range(2):
        with pytest.raises(DamagedStore, match="lost"):
            await core.append([b"b"])
        with pytest.raises(DamagedStore, match="lost"):
            await core.sync()
    with pytest.raises(DamagedStore, match="lost"):
        await core.close()


async def test_a_block_of_somebody_else_s_that_the_disk_has_lost_is_fetched_again() -> None:
    disk = disk_of(forgets=True)
    source, core = await writer([b"a" * 5000] * 9), await other(disk)
    await bring(source, core, [3])
    failing(disk, "data")
    with pytest.raises(DamagedStore, match=r"lost blocks \[3\]"):
        await core.sync()
    with pytest.raises(BlockNotAvailable):
        await core.get(3)
    await bring(source, core, [3])
    await core.sync()
    core.close_without_sync()
    again = await other(disk.lose_power())
    assert await again.get(3) == b"a" * 5000
    await again.close()


async def test_a_folder_whose_names_may_not_be_on_the_disk_is_synced_again() -> None:
    disk = disk_of()
    core = await own(disk)
    await core.append([b"a"])
    failing(disk, "", "sync directory")
    with pytest.raises(OSError, match="Input/output"):
        await core.sync()
    assert core.durable_length == 0
    await core.sync()
    core.close_without_sync()
    again = await own(disk.lose_power(), boot=b"2" * 16)
    assert again.length == 1
    await again.close()


async def test_a_core_that_is_closed_is_synced_even_if_that_fails_first(caplog: pytest.LogCaptureFixture) -> None:
    disk = disk_of()
    core = await own(disk)
    await core.append([b"a"])
    failing(disk, "bitfield")
    await core.close()
    assert core.durable_length == 1
    assert "tried once more" in caplog.text


async def test_a_key_that_may_not_be_on_the_disk_is_written_again() -> None:
    disk = disk_of()
    failing(disk, "key")
    with pytest.raises(OSError, match="Input/output"):
        await own(disk)
    core = await own(disk)
    await core.append([b"a"])
    await core.sync()
    core.close_without_sync()
    again = await Core.open(LyingDirectory(disk.lose_power(), "core/"))
    assert again.key == KEYS.public
    await again.close()
