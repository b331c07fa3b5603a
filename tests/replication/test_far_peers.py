"""Far peers are asked for much at a time, and few round trips are waited for. The clock is a virtual one."""

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.replication import Replicator
from tests.support.peers import join_far, reader, serving, writer

ROUND_TRIP = 0.2


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
