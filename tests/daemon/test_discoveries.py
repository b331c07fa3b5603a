"""A discovery that is switched on and off, and opened anew, while topics are followed by it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from hyperfs.daemon.discoveries import RETRY_SECONDS, Switched
from hyperfs.swarm.discovery import Discovery, Interest, LookTimer

TOPIC = bytes(32)


class Opened:
    """What a test opens: ``done`` says what came to pass; the first ``failures`` times it cannot be opened."""

    name = "test"

    def __init__(self, *, failures: int = 0) -> None:
        self.done: list[str] = []
        self.failures = failures

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Discovery]:
        if self.failures:
            self.failures -= 1
            raise OSError(1, "not now")
        self.done.append("open")
        yield self
        self.done.append("close")

    async def follow(self, interest: Interest) -> None:
        self.done.append("follow")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            self.done.append("take back")


class Told:
    """An interest, and what it was told of how looks went."""

    def __init__(self) -> None:
        self.looked: list[str | None] = []
        self.interest = Interest(TOPIC, 1, True, lambda found: None, self.looked.append, LookTimer(lambda: False))


async def test_it_is_opened_when_first_something_is_followed() -> None:
    opened, told = Opened(), Told()
    async with trio.open_nursery() as nursery:
        switched = Switched("test", opened.open, nursery, on=True)
        await trio.testing.wait_all_tasks_blocked()
        assert opened.done == []
        nursery.start_soon(switched.follow, told.interest)
        await trio.testing.wait_all_tasks_blocked()
        assert opened.done == ["open", "follow"]
        nursery.cancel_scope.cancel()


async def test_while_it_is_off_nobody_is_asked_and_that_is_told() -> None:
    opened, told = Opened(), Told()
    async with trio.open_nursery() as nursery:
        switched = Switched("test", opened.open, nursery, on=False)
        nursery.start_soon(switched.follow, told.interest)
        await trio.testing.wait_all_tasks_blocked()
        assert (opened.done, told.looked) == ([], [None])
        switched.switch(on=True)
        await trio.testing.wait_all_tasks_blocked()
        assert opened.done == ["open", "follow"]
        switched.switch(on=False)
        await trio.testing.wait_all_tasks_blocked()
        assert opened.done == ["open", "follow", "take back", "close"]
        assert told.looked == [None, None]
        nursery.cancel_scope.cancel()


async def test_it_is_closed_only_after_what_was_announced_by_it_was_taken_back() -> None:
    opened = Opened()
    async with trio.open_nursery() as nursery:
        switched = Switched("test", opened.open, nursery, on=True)
        for told in (Told(), Told()):
            nursery.start_soon(switched.follow, told.interest)
        await trio.testing.wait_all_tasks_blocked()
        switched.reopen()
        await trio.testing.wait_all_tasks_blocked()
        again = ["open", "follow", "follow"]
        assert opened.done == [*again, "take back", "take back", "close", *again]
        nursery.cancel_scope.cancel()


async def test_being_switched_off_and_on_at_once_opens_it_anew() -> None:
    opened, told = Opened(), Told()
    async with trio.open_nursery() as nursery:
        switched = Switched("test", opened.open, nursery, on=True)
        nursery.start_soon(switched.follow, told.interest)
        await trio.testing.wait_all_tasks_blocked()
        switched.switch(on=False)
        switched.switch(on=True)
        await trio.testing.wait_all_tasks_blocked()
        assert opened.done == ["open", "follow", "take back", "close", "open", "follow"]
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_opened_is_told_and_tried_again(patient_clock: trio.testing.MockClock) -> None:
    opened, told = Opened(failures=1), Told()
    async with trio.open_nursery() as nursery:
        switched = Switched("test", opened.open, nursery, on=True)
        nursery.start_soon(switched.follow, told.interest)
        await trio.sleep(RETRY_SECONDS / 2)
        assert (opened.done, told.looked, switched.problem) == ([], ["not now"], "not now")
        await trio.sleep(RETRY_SECONDS)
        assert (opened.done, switched.problem) == (["open", "follow"], None)
        nursery.cancel_scope.cancel()
