"""What is fetched ahead in one file is asked for in order, and stopped all at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from hyperfs.core.reader import Run
from hyperfs.drive.snapshot import OpenFile
from hyperfs.errors import BlockNotAvailable
from hyperfs.mount.reading_ahead import MAX_READAHEADS, Places, ReadingAhead
from tests.support.memory_core import MemoryCore

RUN = Run(range(1000), 0, 1_000_000)


class AskedCore(MemoryCore):
    """A core that notes what is asked for ahead, brings none of it, and notes what is taken back."""

    def __init__(self) -> None:
        super().__init__(bytes(32))
        self.asked: list[tuple[int, int]] = []
        self.taken_back: list[tuple[int, int]] = []
        self.gives_up = trio.Event()

    async def ahead(self, run: Run, position: int, size: int) -> None:
        self.asked.append((position, size))
        try:
            await self.gives_up.wait()
        except trio.Cancelled:
            self.taken_back.append((position, size))
            raise
        raise BlockNotAvailable("nobody has it")


@asynccontextmanager
async def reading(core: AskedCore, places: Places | None = None) -> AsyncIterator[tuple[ReadingAhead, OpenFile]]:
    async with trio.open_nursery() as nursery:
        yield ReadingAhead(nursery, places or Places(), "film"), OpenFile(core, RUN)
        nursery.cancel_scope.cancel()


async def test_what_is_planned_in_one_turn_is_one_question() -> None:
    core = AskedCore()
    async with reading(core) as (ahead, file):
        for position in (1000, 2000, 5000):
            assert ahead.fetch(file, position, 1000)
        await trio.testing.wait_all_tasks_blocked()
        assert core.asked == [(1000, 5000)]


async def test_what_is_planned_later_is_asked_beside_what_is_under_way() -> None:
    core = AskedCore()
    async with reading(core) as (ahead, file):
        for position in (1000, 2000, 3000):
            ahead.fetch(file, position, 1000)
            await trio.testing.wait_all_tasks_blocked()
        assert core.asked == [(1000, 1000), (2000, 1000), (3000, 1000)]
        assert core.taken_back == []


async def test_stopping_takes_back_all_of_it_and_asks_for_nothing_that_was_only_planned() -> None:
    core = AskedCore()
    async with reading(core) as (ahead, file):
        for position in (1000, 2000, 3000):
            ahead.fetch(file, position, 1000)
            await trio.testing.wait_all_tasks_blocked()
        ahead.fetch(file, 4000, 1000)
        ahead.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(core.taken_back) == core.asked == [(1000, 1000), (2000, 1000), (3000, 1000)]


async def test_what_is_planned_right_after_stopping_is_asked_for_and_nothing_else() -> None:
    core = AskedCore()
    async with reading(core) as (ahead, file):
        ahead.fetch(file, 1000, 1000)
        ahead.stop()
        ahead.fetch(file, 500_000, 1000)
        await trio.testing.wait_all_tasks_blocked()
        assert core.asked == [(500_000, 1000)]
        assert core.taken_back == []
        ahead.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert core.taken_back == [(500_000, 1000)]


async def test_a_reader_has_one_place_however_much_is_under_way_and_leaves_it_once_nothing_is() -> None:
    core, places = AskedCore(), Places()
    for _ in range(MAX_READAHEADS - 1):
        places.take()
    async with reading(core, places) as (ahead, file), reading(core, places) as (other, other_file):
        ahead.fetch(file, 1000, 1000)
        await trio.testing.wait_all_tasks_blocked()
        assert ahead.fetch(file, 2000, 1000)
        assert not other.fetch(other_file, 3000, 1000)
        await trio.testing.wait_all_tasks_blocked()
        core.gives_up.set()
        await trio.testing.wait_all_tasks_blocked()
        assert other.fetch(other_file, 3000, 1000)
