"""Far peers are asked for much at a time, and few round trips are waited for. The clock is a virtual one."""

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.replication import Replicator
from hyperfs.replication.watch import KEEP_ALIVE_SECONDS
from tests.support.peers import join, join_far, reader, serving, writer

ROUND_TRIP = 0.2
ROUNDED = 6.4
"""From here to `KEEP_ALIVE_SECONDS` later it is less than those, as floats are rounded."""
MANY_STEPS = 10_000


class Steps(trio.abc.Instrument):
    """Ends ``scope`` once tasks have had many turns."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self._count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count += 1
        if self._count == MANY_STEPS:
            self._scope.cancel()


async def seconds_to_fetch(count: int, ranges: list[range]) -> float:
    """Return how long it took from being connected to having all of ``ranges`` of a core of ``count`` blocks."""
    theirs = await writer(count)
    replicator = Replicator()
    core: Core = await reader(replicator)
    async with trio.open_nursery() as nursery:
        join_far(nursery, replicator, serving(theirs), round_trip=ROUND_TRIP)
        await core.get(0)
        start = trio.current_time()
        await core.fetch(ranges)
        seconds = trio.current_time() - start
        nursery.cancel_scope.cancel()
    return seconds


async def test_a_block_takes_one_round_trip(patient_clock: trio.testing.MockClock) -> None:
    assert await seconds_to_fetch(100, [range(50, 51)]) == pytest.approx(ROUND_TRIP)


async def test_blocks_here_and_there_take_one_round_trip_together(patient_clock: trio.testing.MockClock) -> None:
    assert await seconds_to_fetch(100, [range(index, index + 1) for index in range(1, 40, 3)]) == pytest.approx(
        ROUND_TRIP
    )


async def test_a_long_run_takes_a_few_round_trips(patient_clock: trio.testing.MockClock) -> None:
    # at 16 requests a round trip, as without measuring, it would be 250 of them
    assert await seconds_to_fetch(4000, [range(4000)]) <= 14 * ROUND_TRIP


async def test_a_connection_on_which_nothing_happens_does_nothing_whenever_it_began(
    patient_clock: trio.testing.MockClock,
) -> None:
    await trio.sleep_until(trio.current_time() + ROUNDED)
    assert trio.current_time() + KEEP_ALIVE_SECONDS - trio.current_time() < KEEP_ALIVE_SECONDS
    theirs = await writer(1)
    async with trio.open_nursery() as nursery:
        join(nursery, Replicator(), serving(theirs))
        steps = Steps(nursery.cancel_scope)
        trio.lowlevel.add_instrument(steps)
        try:
            await trio.sleep(3 * KEEP_ALIVE_SECONDS)
        finally:
            trio.lowlevel.remove_instrument(steps)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(ROUNDED + 3 * KEEP_ALIVE_SECONDS)
