"""Reading waits as long as blocks keep coming, and gives up when none does."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from hyperfs.core.reader import Priority, Run
from hyperfs.drive.snapshot import OpenFile
from hyperfs.mount.files import AGAIN_SECONDS, LEFT_SECONDS, Handle, OpenFiles
from hyperfs.mount.waiting import TimedOut, Waits
from tests.support.memory_core import MemoryCore

BLOCK_BYTES = 1000
TIMEOUT_SECONDS = 20.0


class SlowCore(MemoryCore):
    """A core whose missing blocks come one at a time, ``seconds`` apart, while somebody waits for them."""

    def __init__(self, blocks: int, *, seconds: float, come: int) -> None:
        super().__init__(bytes(32))
        self.seconds = seconds
        self.blocks = [None] * blocks
        self.come = come
        self.ahead_of: list[tuple[int, int]] = []
        self.cancelled = 0
        self.came = trio.Event()

    async def bring(self) -> None:
        for index in range(self.come):
            await trio.sleep(self.seconds)
            self.blocks[index] = bytes(BLOCK_BYTES)
            self.came.set()
            self.came = trio.Event()

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        while None in self.blocks:
            await self.came.wait()
        return bytes(size)

    async def ahead(self, run: Run, position: int, size: int) -> None:
        self.ahead_of.append((position, size))
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled += 1


@asynccontextmanager
async def opened(core: SlowCore) -> AsyncIterator[tuple[OpenFiles, int]]:
    async with trio.open_nursery() as nursery:
        files = OpenFiles(nursery, Waits(), TIMEOUT_SECONDS)
        run = Run(range(len(core.blocks)), 0, len(core.blocks) * BLOCK_BYTES)
        nursery.start_soon(core.bring)
        yield files, files.add(Handle(5, OpenFile(core, run), "folder/film", 7))
        nursery.cancel_scope.cancel()


async def read(files: OpenFiles, handle: int, position: int, size: int) -> bytes:
    opened = files[handle]
    assert opened.file is not None
    return await files.read(opened, opened.file, position, size)


async def test_a_read_goes_on_while_blocks_keep_coming(patient_clock: None) -> None:
    async with opened(SlowCore(5, seconds=15, come=5)) as (files, handle):
        assert len(await read(files, handle, 0, 5000)) == 5000
    assert trio.current_time() > 3 * TIMEOUT_SECONDS


async def test_a_read_is_given_up_once_none_comes(patient_clock: None, caplog: pytest.LogCaptureFixture) -> None:
    start = trio.current_time()
    async with opened(SlowCore(5, seconds=1, come=2)) as (files, handle):
        with pytest.raises(TimedOut), caplog.at_level(logging.WARNING):
            await read(files, handle, 0, 5000)
    assert trio.current_time() - start <= 2 * TIMEOUT_SECONDS + 2
    assert "folder/film" in caplog.text
    assert "block 2 of core 00000000" in caplog.text


async def test_what_was_just_waited_for_in_vain_is_not_waited_for_as_long_again(patient_clock: None) -> None:
    async with opened(SlowCore(5, seconds=1, come=0)) as (files, handle):
        with pytest.raises(TimedOut):
            await read(files, handle, 0, 5000)
        start = trio.current_time()
        with pytest.raises(TimedOut):
            await read(files, handle, 1000, 1000)
        assert trio.current_time() - start <= AGAIN_SECONDS


async def test_a_later_try_waits_its_full_time(patient_clock: None) -> None:
    async with opened(SlowCore(5, seconds=1, come=0)) as (files, handle):
        with pytest.raises(TimedOut):
            await read(files, handle, 0, 5000)
        await trio.sleep(AGAIN_SECONDS)
        start = trio.current_time()
        with pytest.raises(TimedOut):
            await read(files, handle, 0, 5000)
        assert trio.current_time() - start >= TIMEOUT_SECONDS


async def test_a_flush_ends_what_is_fetched_ahead(patient_clock: None) -> None:
    core = SlowCore(5000, seconds=0, come=0)
    async with opened(core) as (files, handle):
        core.blocks[:100] = [bytes(BLOCK_BYTES)] * 100
        for position in (0, 128 * 1024):
            with trio.move_on_after(1):
                await read(files, handle, position, 128 * 1024)
        assert core.ahead_of == [(256 * 1024, 128 * 1024)]
        files[handle].demote()
        await trio.testing.wait_all_tasks_blocked()
        assert core.cancelled == 1


async def ahead_of_many_reads(core: SlowCore, files: OpenFiles, handle: int) -> None:
    """Read on until something is fetched ahead several times."""
    core.blocks[:1000] = [bytes(BLOCK_BYTES)] * 1000
    for position in range(0, 1 << 19, 1 << 17):
        with trio.move_on_after(1):
            await read(files, handle, position, 1 << 17)
    assert len(core.ahead_of) > 1
    assert not core.cancelled


async def test_a_read_elsewhere_ends_all_that_is_fetched_ahead(patient_clock: None) -> None:
    core = SlowCore(50_000, seconds=0, come=0)
    async with opened(core) as (files, handle):
        await ahead_of_many_reads(core, files, handle)
        with trio.move_on_after(1):
            await read(files, handle, 40_000_000, 1 << 17)
        assert core.cancelled == len(core.ahead_of)


async def test_another_version_ends_all_that_is_fetched_ahead_of_the_one_before(patient_clock: None) -> None:
    core = SlowCore(50_000, seconds=0, come=0)
    async with opened(core) as (files, handle):
        await ahead_of_many_reads(core, files, handle)
        files[handle].adopt(OpenFile(core, Run(range(50_000), 0, 50_000_000)))
        await trio.testing.wait_all_tasks_blocked()
        assert not core.cancelled  # it is the same one
        files[handle].adopt(OpenFile(core, Run(range(40_000), 0, 40_000_000)))
        await trio.testing.wait_all_tasks_blocked()
        assert core.cancelled == len(core.ahead_of)


async def test_the_end_of_a_file_is_read_without_waiting(patient_clock: None) -> None:
    async with opened(SlowCore(2, seconds=1, come=0)) as (files, handle):
        assert await read(files, handle, 2000, 100) == b""


async def test_a_released_handle_is_gone(patient_clock: None) -> None:
    async with opened(SlowCore(2, seconds=1, come=0)) as (files, handle):
        assert [opened.number for opened in files.of_inode(5)] == [5]
        files.release(handle)
        assert list(files.of_inode(5)) == []
        with pytest.raises(KeyError):
            files[handle]


class ClosingCore(SlowCore):
    """A core of which a file is closed as soon as it is read, before anything else has its turn."""

    def close_at_once(self) -> None:
        """Nothing yet."""

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        self.close_at_once()
        return bytes(size)


async def test_what_was_planned_for_a_file_that_was_closed_meanwhile_is_not_waited_for(patient_clock: None) -> None:
    core = ClosingCore(5000, seconds=0, come=0)
    async with opened(core) as (files, handle):
        await read(files, handle, 0, 128 * 1024)
        core.close_at_once = lambda: files.release(handle)  # type: ignore[method-assign,assignment,return-value]
        await read(files, handle, 128 * 1024, 128 * 1024)
        await trio.testing.wait_all_tasks_blocked()
        assert core.ahead_of == []


class SilentCore(SlowCore):
    """A core of which nothing comes; it notes where, and how urgently, it is read."""

    def __init__(self) -> None:
        super().__init__(10_000, seconds=1.0, come=0)
        self.reads: list[tuple[int, Priority]] = []

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        self.reads.append((position, priority))
        return await super().read(run, position, size, priority=priority)


async def test_reads_in_which_somebody_read_on_are_put_off_once_he_reads_elsewhere(
    autojump_clock: trio.testing.MockClock,
) -> None:
    core = SilentCore()
    async with opened(core) as (files, number), trio.open_nursery() as nursery:
        handle = files[number]
        assert handle.file is not None

        async def begin(position: int) -> None:
            assert handle.file is not None
            nursery.start_soon(files.read, handle, handle.file, position, 1000)
            await trio.testing.wait_all_tasks_blocked()

        for position in (0, 1000, 2000, 9_000_000):
            await begin(position)
        assert [position for position, _ in core.reads] == [0, 1000, 2000, 9_000_000]
        await trio.sleep(LEFT_SECONDS + 0.1)
        assert sorted(core.reads[4:]) == [(1000, Priority.BACKGROUND), (2000, Priority.BACKGROUND)]
        nursery.cancel_scope.cancel()
