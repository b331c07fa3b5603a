"""How long the operations of a mount wait."""

import pytest
import trio
from trio.testing import MockClock

from hyperfs.errors import BlockNotAvailable
from hyperfs.mount.waiting import TimedOut, Waits


async def test_a_wait_ends_when_nothing_comes(patient_clock: MockClock) -> None:
    with pytest.raises(TimedOut, match="a/b: nothing came for 5 seconds"), Waits().limit(5, "a/b", busy=1):
        await trio.sleep(6)


async def test_a_wait_in_which_something_comes_goes_on(patient_clock: MockClock) -> None:
    with Waits().limit(5, "a/b", busy=1) as limit:
        for _ in range(10):
            await trio.sleep(4)
            limit.progressed()


async def test_a_wait_ends_when_nothing_more_comes(patient_clock: MockClock) -> None:
    async def wait() -> None:
        with Waits().limit(5, "a/b", busy=1) as limit:
            await trio.sleep(4)
            limit.progressed()
            await trio.sleep_forever()

    began = trio.current_time()
    with pytest.raises(TimedOut):
        await wait()
    assert trio.current_time() - began == 9


async def test_progress_does_not_keep_a_mount_from_ending(patient_clock: MockClock) -> None:
    waits = Waits()

    async def wait() -> None:
        with waits.limit(5, "a/b", busy=1) as limit:
            waits.close()
            limit.progressed()
            await trio.sleep_forever()

    with pytest.raises(BlockNotAvailable, match="is being ended"):
        await wait()
