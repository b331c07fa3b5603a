"""Seeking in a film whose owner is far away. The clock is a virtual one."""

import math
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from hyperfs.drive.committer import CHUNK_BYTES
from hyperfs.mount.files import Handle, OpenFiles
from hyperfs.mount.waiting import Waits
from hyperfs.replication.window import INITIAL_REQUESTS
from tests.support.drives import RealDrive, real_drive
from tests.support.far_drives import ROUND_TRIP, far_drive

MIB = 1 << 20
FILM_BYTES = 24 * MIB
PLAYED = 4 * MIB
SOUGHT = 22 * MIB
READ_BYTES = 128 * 1024
RATE = 20e6
UNDER_WAY = INITIAL_REQUESTS
"""Blocks that are under way, of 27 that are to be read ahead: of a slow line not more is known yet."""


@pytest.fixture
async def origin() -> AsyncIterator[RealDrive]:
    async with real_drive() as drive:
        async with drive.writer.batch() as batch:
            await batch.put_file("film", bytes(FILM_BYTES))
        yield drive


async def play(files: OpenFiles, handle: Handle, begin: int, end: int) -> None:
    assert handle.file is not None
    for position in range(begin, end, READ_BYTES):
        assert len(await files.read(handle, handle.file, position, READ_BYTES)) == READ_BYTES


async def test_after_a_seek_nothing_more_of_the_old_place_is_fetched_than_was_under_way(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    async with far_drive(origin, rate=RATE) as far, trio.open_nursery() as nursery:
        snapshot = far.drive.snapshot()
        file = await snapshot.open(await snapshot.stat("film"))
        blocks = file.run.blocks
        middle = blocks[len(blocks) * SOUGHT // FILM_BYTES]
        files = OpenFiles(nursery, Waits(), math.inf)
        handle = Handle(5, file, "film", 7)
        files.add(handle)
        await play(files, handle, 0, PLAYED)
        here = file.core.count(blocks.start, middle)
        await play(files, handle, SOUGHT, SOUGHT + READ_BYTES)
        await trio.sleep(60)
        assert file.core.count(blocks.start, middle) <= here + UNDER_WAY
        nursery.cancel_scope.cancel()


async def test_bytes_that_lie_in_two_blocks_take_one_round_trip(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    async with far_drive(origin, rate=None) as far, trio.open_nursery() as nursery:
        snapshot = far.drive.snapshot()
        file = await snapshot.open(await snapshot.stat("film"))
        files = OpenFiles(nursery, Waits(), math.inf)
        handle = Handle(5, file, "film", 7)
        files.add(handle)
        await play(files, handle, 0, READ_BYTES)
        for block in (8, 30):
            start = trio.current_time()
            await play(files, handle, block * CHUNK_BYTES - READ_BYTES // 2, block * CHUNK_BYTES)
            assert trio.current_time() - start == pytest.approx(ROUND_TRIP)
        nursery.cancel_scope.cancel()
