"""What is read and written of staged bytes waits for the disk in threads, and nobody else waits along."""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from hyperfs.mount.staging.extents import Content, Extent, Frozen
from hyperfs.mount.staging.files import SyncedNames
from hyperfs.mount.staging.segments import LARGE_BYTES, SLOW_SECONDS, SLOW_THREAD_SECONDS, Segments
from tests.support.staging_disk import StagingDisk

LARGE = bytes(range(256)) * (LARGE_BYTES // 256)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[StagingDisk]:
    disk = StagingDisk(tmp_path)
    with disk.installed():
        yield disk


class Clock:
    """A clock that runs on by ``step`` seconds at each look."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def segments(disk: StagingDisk, clock: Clock) -> Iterator[Segments]:
    segments = Segments(disk.path, SyncedNames(disk.path), clock=clock)
    yield segments
    segments.close()


class Gate:
    """Holds up what the disk is asked for until it is opened, and notes in which thread that was."""

    def __init__(self, disk: StagingDisk, *calls: str) -> None:
        self.opened = threading.Event()
        self.threads: list[threading.Thread] = []
        self._loop = threading.current_thread()
        self._calls = calls
        disk.before = self._wait

    def _wait(self, call: str, path: Path | None) -> None:
        if call in self._calls:
            self.threads.append(threading.current_thread())
            if threading.current_thread() is not self._loop:
                self.opened.wait(60)

    @property
    def in_loop(self) -> list[bool]:
        return [thread is self._loop for thread in self.threads]


async def write(content: Content, segments: Segments, data: bytes, position: int = 0) -> None:
    content.lay(await content.put(position, data, segments))


async def while_held_up(gate: Gate, work: Callable[[], object], done: Callable[[], object]) -> None:
    """Run ``work``, and once the disk holds it up, ``done``."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)  # type: ignore[arg-type]
        while not gate.threads:
            await trio.lowlevel.checkpoint()
        await done()  # type: ignore[misc]
        gate.opened.set()


async def test_a_large_write_waits_in_a_thread_and_others_go_on(disk: StagingDisk, segments: Segments) -> None:
    slow = Content(None, 0)
    gate = Gate(disk, "write_at")

    async def meanwhile() -> None:
        assert await slow.read(0, 1) == b""
        other = segments.make()
        assert await segments.append(other, b"small") == 0
        assert await other.read(0, 5) == b"small"

    await while_held_up(gate, lambda: write(slow, segments, LARGE), meanwhile)
    assert gate.in_loop == [False, True]
    assert await slow.read(0, len(LARGE)) == LARGE


async def test_small_writes_wait_in_threads_from_a_slow_one_to_a_quick_one(
    disk: StagingDisk, segments: Segments, clock: Clock
) -> None:
    content = Content(None, 0)
    gate = Gate(disk, "write_at")
    gate.opened.set()
    for step in (0.0, 2 * SLOW_SECONDS, 2 * SLOW_THREAD_SECONDS, 0.0, 0.0):
        clock.step = step
        await write(content, segments, b"small", content.size)
    assert gate.in_loop == [True, True, False, False, True]
    assert await content.read(0, 100) == b"small" * 5


async def test_a_thread_that_waited_for_its_turn_of_the_interpreter_does_not_make_the_disk_slow(
    disk: StagingDisk, segments: Segments, clock: Clock
) -> None:
    content = Content(None, 0)
    gate = Gate(disk, "write_at")
    gate.opened.set()
    turn = 2 * sys.getswitchinterval()
    for step in (2 * SLOW_SECONDS, turn, 0.0):
        clock.step = step
        await write(content, segments, b"small", content.size)
    assert gate.in_loop == [True, False, True]


async def test_what_a_file_system_would_wait_for_is_finished_in_a_thread(disk: StagingDisk, segments: Segments) -> None:
    content = Content(None, 0)
    disk.verdict = lambda call, path: BlockingIOError() if call == "pwritev" else None
    gate = Gate(disk, "write_at")
    gate.opened.set()
    await write(content, segments, b"small")
    assert gate.in_loop == [False]
    assert await content.read(0, 5) == b"small"


async def test_what_is_not_in_memory_is_read_in_a_thread_and_is_there_until_it_was(
    disk: StagingDisk, segments: Segments
) -> None:
    content = Content(None, 0)
    await write(content, segments, LARGE)
    segments.begin_anew()
    disk.verdict = lambda call, path: BlockingIOError() if call == "preadv" else None
    gate = Gate(disk, "pread")
    found: list[bytes] = []

    async def read() -> None:
        found.append(await content.read(0, len(LARGE)))

    async def drop() -> None:
        content.drop()
        segments.delete(segments.idle())

    await while_held_up(gate, read, drop)
    assert found == [LARGE]
    segments.delete(segments.idle())
    assert segments.idle() == []


@pytest.mark.parametrize("change", ["frozen", "cut off", "replaced"])
async def test_what_replaces_bytes_that_are_not_the_files_any_more_lies_elsewhere(
    disk: StagingDisk, segments: Segments, change: str
) -> None:
    content = Content(None, 0)
    await write(content, segments, LARGE)
    new = bytes(len(LARGE))
    gate = Gate(disk, "write_at")
    frozen: list[Frozen] = []

    async def meanwhile() -> None:
        if change == "frozen":
            frozen.append(content.freeze())
        else:
            content.truncate(0)
            if change == "replaced":
                other = segments.make()
                content.lay(Extent(0, 1, other, await segments.append(other, b"a")))

    await while_held_up(gate, lambda: write(content, segments, new), meanwhile)
    assert await content.read(0, len(new)) == new
    assert [extent.end - extent.start for extent in content.extents] == [len(new)]


async def test_a_write_that_failed_gives_its_place_to_the_next_one(disk: StagingDisk, segments: Segments) -> None:
    segment = segments.make()
    disk.verdict = lambda call, path: OSError(5, "broken") if call in ("write_at", "pwritev") else None
    with pytest.raises(OSError, match="broken"):
        await segments.append(segment, b"lost")
    disk.verdict = lambda call, path: None
    assert await segments.append(segment, b"kept") == 0
    assert (segment.references, segments.writing_bytes) == (0, 0)
