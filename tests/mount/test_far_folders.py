"""Reading the small files of folders whose owner is far away, in round trips. The clock is a virtual one."""

import math
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from hyperfs.mount.files import OpenFiles
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.siblings import SMALL_BYTES
from hyperfs.mount.snapshot_view import SnapshotView
from hyperfs.mount.waiting import Waits
from tests.support.drives import RealDrive, real_drive
from tests.support.far_drives import ROUND_TRIP, FarDrive, far_drive

FILES = 50
FOLDERS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
CONTENT = b"content " * 12


@pytest.fixture
async def origin() -> AsyncIterator[RealDrive]:
    """A drive of eight folders of 50 small files each, and one folder with large ones among the small."""
    async with real_drive() as drive:
        async with drive.writer.batch() as batch:
            for folder in FOLDERS:
                for number in range(FILES):
                    await batch.put_file(f"{folder}/{number:02}.txt", CONTENT)
            for number in range(8):
                await batch.put_file(f"mixed/small-{number}", CONTENT)
                await batch.put_file(f"mixed/large-{number}", bytes(SMALL_BYTES + 1))
        yield drive


class Reader:
    """A program that opens files of a mounted drive and reads them whole."""

    def __init__(self, far: FarDrive, nursery: trio.Nursery) -> None:
        self.view = SnapshotView(far.drive)
        self.files = OpenFiles(nursery, Waits(), math.inf)
        self.files.fetch_siblings = self.view.fetch_siblings

    async def read(self, path: str) -> bytes:
        number = ROOT
        for name in path.split("/"):
            number = (await self.view.lookup(number, name.encode())).number
        handle = await self.view.open(number, writing=False, truncating=False, keeps_set_id=True)
        opened = self.files.add(handle)
        source = await self.view.source(handle)
        try:
            return await self.files.read(handle, source, 0, 1 << 20)
        finally:
            self.files.release(opened)


async def round_trips_to_read(origin: RealDrive, paths: list[str]) -> float:
    """Return how long reading files takes, once the folders are listed and a file elsewhere was read."""
    async with far_drive(origin) as far, trio.open_nursery() as nursery:
        reader = Reader(far, nursery)
        assert [entry async for entry in far.drive.snapshot().walk()]
        assert await reader.read("mixed/small-0") == CONTENT
        start = trio.current_time()
        for path in paths:
            assert await reader.read(path) == CONTENT
        return (trio.current_time() - start) / ROUND_TRIP


async def content_here(far: FarDrive, origin: RealDrive) -> int:
    await trio.sleep(100 * ROUND_TRIP)  # all that was asked for has come
    content = await far.drive.content()
    return content.count(0, origin.content.length)


async def test_a_folder_is_read_in_the_order_of_names_in_few_round_trips(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    assert await round_trips_to_read(origin, [f"first/{number:02}.txt" for number in range(FILES)]) < 6


async def test_one_folder_after_another_is_read_in_few_round_trips(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    paths = [f"{folder}/{number:02}.txt" for folder in FOLDERS for number in range(FILES)]
    assert await round_trips_to_read(origin, paths) < 8


async def test_one_folder_after_another_is_read_in_few_round_trips_from_the_last_one_on(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    paths = [f"{folder}/{number:02}.txt" for folder in reversed(FOLDERS) for number in range(FILES)]
    assert await round_trips_to_read(origin, paths) < 8


async def test_reading_two_files_brings_these_and_no_other(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    async with far_drive(origin) as far, trio.open_nursery() as nursery:
        reader = Reader(far, nursery)
        for number in (3, 4):
            assert await reader.read(f"second/{number:02}.txt") == CONTENT
        assert await content_here(far, origin) == 2


async def test_of_a_folder_whose_files_are_read_the_large_ones_are_not_brought(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    async with far_drive(origin) as far, trio.open_nursery() as nursery:
        reader = Reader(far, nursery)
        for number in range(3):
            assert await reader.read(f"mixed/small-{number}") == CONTENT
        assert await content_here(far, origin) == 8
