"""Looking for garbage leaves out what has outlived one look, and all is looked at once in a while."""

import gc
import weakref

import trio
import trio.testing
from trio.testing import MockClock

from hyperfs.garbage import collect_all_when_idle, collecting_little

OLDEST = 2


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_outlived_a_look_is_not_looked_at_again() -> None:
    with collecting_little():
        many = [[] for _ in range(10_000)]  # type: ignore[var-annotated]
        gc.collect()
        assert len(gc.get_objects()) < len(many)
        assert gc.get_freeze_count() >= len(many)


def test_what_is_new_is_collected() -> None:
    with collecting_little():
        cycle = Cycle()
        gone = weakref.ref(cycle)
        del cycle
        gc.collect()
        assert gone() is None


def test_each_look_is_at_few_objects() -> None:
    looked_at: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == OLDEST:
            looked_at.append(len(gc.get_objects()))

    with collecting_little():
        gc.callbacks.append(look)
        try:
            many = [[] for _ in range(100_000)]  # type: ignore[var-annotated]
        finally:
            gc.callbacks.remove(look)
    assert len(looked_at) > 4
    assert max(looked_at) < len(many) / 5


async def test_what_was_left_out_is_collected_once_there_are_few_objects(patient_clock: MockClock) -> None:
    gone = trio.Event()
    with collecting_little():
        cycle = Cycle()
        reference = weakref.ref(cycle, lambda _: gone.set())
        gc.collect()
        del cycle
        gc.collect()
        assert reference() is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_all_when_idle)
            await trio.testing.wait_all_tasks_blocked()
            many = [object() for _ in range(400_000)]
            with trio.move_on_after(2000):
                await gone.wait()
            assert reference() is not None
            many.clear()
            with trio.fail_after(20):
                await gone.wait()
            nursery.cancel_scope.cancel()


def test_it_ends() -> None:
    before = gc.get_threshold(), len(gc.callbacks)
    with collecting_little():
        pass
    assert (gc.get_threshold(), len(gc.callbacks)) == before
    assert gc.get_freeze_count() == 0
