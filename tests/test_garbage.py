"""When Python's garbage collector may stop everything."""

import gc
import weakref
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from hyperfs.garbage import collect_when_idle, keep_pauses_short


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_young_cycles_are_collected_as_ever() -> None:
    keep_pauses_short()
    young = weakref.ref(Cycle())
    kept = [Cycle() for _ in range(20_000)]
    assert kept
    assert young() is None


async def test_old_cycles_are_collected_while_there_are_few_objects(autojump_clock: MockClock) -> None:
    keep_pauses_short()
    cycle = Cycle()
    gc.collect()  # it is old then
    gone = trio.Event()
    reference = weakref.ref(cycle, lambda _: gone.set())
    del cycle
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect_when_idle)
        await trio.testing.wait_all_tasks_blocked()
        many = [object() for _ in range(400_000)]
        with trio.move_on_after(1000):
            await gone.wait()
        assert reference() is not None
        many.clear()
        with trio.fail_after(10):
            await gone.wait()
        nursery.cancel_scope.cancel()
