"""Reading a drive whose owner is far away, in round trips. The clock is a virtual one."""

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from hyperfs.drive.history import history
from hyperfs.drive.snapshot import Snapshot
from hyperfs.replication.extensions import Extension
from hyperfs.trie import HypertrieExtension
from tests.support.drives import RealDrive, real_drive
from tests.support.far_drives import ROUND_TRIP, FarDrive, far_drive

FOLDERS, FILES_IN_EACH = 30, 50
EXTENSIONS = pytest.mark.parametrize(
    "extensions", [(HypertrieExtension(),), ()], ids=["with answers to questions", "without"]
)


@pytest.fixture
async def origin() -> AsyncIterator[RealDrive]:
    """A drive of 1,500 small files in 30 folders, and one in its root that is older than they."""
    async with real_drive() as drive:
        async with drive.writer.batch() as batch:
            await batch.put_file("file", b"in the root")
            for folder in range(FOLDERS):
                for number in range(FILES_IN_EACH):
                    await batch.put_file(f"folder-{folder:02}/file-{number:02}.txt", b"content " * 12)
        yield drive


def round_trips_since(start: float) -> float:
    return (trio.current_time() - start) / ROUND_TRIP


async def count_of(snapshot: Snapshot) -> int:
    return len([entry async for entry in snapshot.walk()])


def blocks_here(far: FarDrive) -> int:
    return far.metadata.count(0, far.metadata.length)


async def round_trips_to_first_byte(origin: RealDrive, path: str, extensions: tuple[Extension, ...]) -> float:
    """Return how long the first byte of a file takes from when both sides have greeted each other, as in a mount."""
    async with far_drive(origin, extensions=extensions) as far:
        start = trio.current_time()
        await far.drive.content()
        snapshot = far.drive.snapshot()
        parts = path.split("/")
        for end in range(1, len(parts)):
            assert (await snapshot.stat("/".join(parts[:end]))).is_directory
        entry = await snapshot.stat(path)
        assert len(await snapshot.read(entry, 0, 1)) == 1
        return round_trips_since(start - far.opening_seconds)


@EXTENSIONS
async def test_the_log_of_a_far_drive_comes_in_a_few_round_trips(
    patient_clock: trio.testing.MockClock, origin: RealDrive, extensions: tuple[Extension, ...]
) -> None:
    async with far_drive(origin, extensions=extensions) as far:
        start = trio.current_time()
        versions = [entry.version async for entry in history(far.drive.snapshot())]
        assert versions == list(range(far.drive.version, 1, -1))
        assert round_trips_since(start) <= 4


@pytest.mark.parametrize(("path", "most"), [("file", 6), ("folder-21/file-33.txt", 8)])
async def test_the_first_byte_of_a_file_comes_soon(
    patient_clock: trio.testing.MockClock, origin: RealDrive, path: str, most: int
) -> None:
    assert await round_trips_to_first_byte(origin, path, (HypertrieExtension(),)) < most + 0.5


async def test_a_peer_that_answers_no_questions_makes_it_little_longer(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    assert await round_trips_to_first_byte(origin, "folder-21/file-33.txt", ()) < 10.5


@EXTENSIONS
async def test_a_walk_waits_for_few_round_trips(
    patient_clock: trio.testing.MockClock, origin: RealDrive, extensions: tuple[Extension, ...]
) -> None:
    async with far_drive(origin, extensions=extensions) as far:
        start = trio.current_time()
        assert await count_of(far.drive.snapshot()) == FOLDERS * (FILES_IN_EACH + 1) + 1
        assert round_trips_since(start) <= 10


@EXTENSIONS
async def test_a_folder_is_listed_in_few_round_trips(
    patient_clock: trio.testing.MockClock, origin: RealDrive, extensions: tuple[Extension, ...]
) -> None:
    async with far_drive(origin, extensions=extensions) as far:
        start = trio.current_time()
        entries = [entry async for entry in far.drive.snapshot().list("folder-21")]
        assert len(entries) == FILES_IN_EACH
        assert round_trips_since(start) <= 10


async def test_looking_one_path_up_leaves_most_of_the_index_where_it_is(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    async with far_drive(origin) as far:
        await far.drive.snapshot().stat("folder-07/file-07.txt")
        assert blocks_here(far) < far.metadata.length / 4


async def test_who_looks_many_paths_up_waits_for_few_round_trips(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    async with far_drive(origin) as far:
        start = trio.current_time()
        snapshot = far.drive.snapshot()
        for folder in range(FOLDERS):
            for number in range(FILES_IN_EACH):
                await snapshot.stat(f"folder-{folder:02}/file-{number:02}.txt")
        assert round_trips_since(start) < 20


async def test_a_walk_brings_no_content(patient_clock: trio.testing.MockClock, origin: RealDrive) -> None:
    async with far_drive(origin) as far:
        await count_of(far.drive.snapshot())
        content = await far.drive.content()
        assert content.count(0, origin.content.length) == 0


async def test_what_was_walked_is_walked_again_without_asking(
    patient_clock: trio.testing.MockClock, origin: RealDrive
) -> None:
    async with far_drive(origin) as far:
        await count_of(far.drive.snapshot())
        start = trio.current_time()
        assert await count_of(far.drive.snapshot()) == FOLDERS * (FILES_IN_EACH + 1) + 1
        assert round_trips_since(start) == 0
