"""Connections that bring nothing leave the time to those that bring what was asked for. The clock is a virtual one."""

import trio
import trio.testing

from hyperfs.replication.pace import Account, Pace

STEP_SECONDS = 0.001
TALKERS = 8


class Working:
    """Tasks that work at one pace, a millisecond at a time, and how long each did."""

    def __init__(self, clock: trio.testing.MockClock) -> None:
        self.pace = Pace()
        self.seconds = {True: 0.0, False: 0.0}
        self._clock = clock

    async def work(self, *, useful: bool, seconds: float = 1000.0) -> None:
        """Work for so long, as one connection."""
        account = Account(self.pace)
        done = 0.0
        while done < seconds:
            if not useful:
                await account.admitted()
            self._clock.jump(STEP_SECONDS)
            done += STEP_SECONDS
            self.seconds[useful] += STEP_SECONDS
            await account.worked(STEP_SECONDS, useful=useful)


async def test_eight_that_talk_take_less_than_a_fifth_of_what_one_that_brings_takes(
    mock_clock: trio.testing.MockClock,
) -> None:
    working = Working(mock_clock)
    async with trio.open_nursery() as nursery:
        for _ in range(TALKERS):
            nursery.start_soon(lambda: working.work(useful=False))
        await working.work(useful=True, seconds=10)
        nursery.cancel_scope.cancel()
    assert 0 < working.seconds[False] <= 10 / 5


async def test_who_talks_is_not_held_up_where_nothing_is_brought(mock_clock: trio.testing.MockClock) -> None:
    working = Working(mock_clock)
    await working.work(useful=True, seconds=1)
    account = Account(working.pace)
    await account.worked(1.0, useful=False)
    mock_clock.jump(1)
    began_at = trio.current_time()
    await account.admitted()
    assert trio.current_time() == began_at


async def test_who_talks_is_held_up_as_soon_as_something_is_brought(patient_clock: trio.testing.MockClock) -> None:
    working = Working(patient_clock)
    account = Account(working.pace)
    await account.worked(1.0, useful=False)
    await working.work(useful=True, seconds=2 * STEP_SECONDS)
    await account.admitted()
    assert account.take_waited() > 0


async def test_who_brings_more_than_he_talks_is_not_held_up(mock_clock: trio.testing.MockClock) -> None:
    working = Working(mock_clock)
    account = Account(working.pace)
    await account.worked(2.0, useful=True)
    await account.worked(1.0, useful=False)
    await working.work(useful=True, seconds=1)
    began_at = trio.current_time()
    await account.admitted()
    assert trio.current_time() == began_at
    assert account.take_waited() == 0


async def test_how_long_somebody_was_kept_waiting_is_known(patient_clock: trio.testing.MockClock) -> None:
    working = Working(patient_clock)
    account = Account(working.pace)
    await account.worked(1.0, useful=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: working.work(useful=True))
        await trio.sleep(1)
        await account.worked(1.0, useful=False)
        began_at = trio.current_time()
        await account.admitted()
        assert account.take_waited() == trio.current_time() - began_at > 0
        assert account.take_waited() == 0
        nursery.cancel_scope.cancel()
