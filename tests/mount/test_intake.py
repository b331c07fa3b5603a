"""Requests that come one after the other are taken without a turn of trio's loop for each."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pyfuse3
import pytest
import trio
import trio.testing

from hyperfs.mount.intake import SPIN_SECONDS, TURN_SECONDS, WAIT, Turns

LATER = 100
MANY = 200


class Requests:
    """A pipe that can be read while a request is there, and pyfuse3's way to wait for that."""

    def __init__(self) -> None:
        self.now = 1.0
        self.waited = 0
        self.waiting = 0
        self.ended = False
        self.is_missed = False
        """Whether who waits next hears of no request."""
        self.reader, self._writer = os.pipe()
        self._lock = trio.Lock()

    async def wait(self) -> bool:
        self.waited += 1
        if self.ended:
            return False
        if self.is_missed:
            self.is_missed = False
            await trio.sleep_forever()
        self.waiting += 1
        try:
            async with self._lock:
                await trio.lowlevel.wait_readable(self.reader)
        finally:
            self.waiting -= 1
        return True

    def come(self) -> None:
        os.write(self._writer, b"r")

    def take(self) -> None:
        os.read(self.reader, 1)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)


@pytest.fixture
def requests() -> Iterator[Requests]:
    requests = Requests()
    yield requests
    requests.close()


@asynccontextmanager
async def another_waiting(turns: Turns, requests: Requests) -> AsyncIterator[None]:
    """Have another task wait in the loop, which hears of nothing."""
    requests.is_missed = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.wait)
        await trio.testing.wait_all_tasks_blocked()
        requests.waited = 0
        yield
        nursery.cancel_scope.cancel()


def test_pyfuse3_has_what_is_replaced() -> None:
    assert callable(getattr(pyfuse3, WAIT))


async def test_the_next_request_takes_no_turn_of_the_loop(requests: Requests) -> None:
    turns = Turns(requests.reader, requests.wait, lambda: requests.now)
    async with another_waiting(turns, requests):
        for _ in range(5):
            requests.come()
            assert await turns.wait()
            requests.take()
        assert requests.waited == 0


async def test_who_is_alone_waits_in_the_loop(requests: Requests) -> None:
    turns = Turns(requests.reader, requests.wait, lambda: requests.now)
    for count in range(1, 5):
        requests.come()
        assert await turns.wait()
        requests.take()
        assert requests.waited == count


async def test_pyfuse3_starts_few_tasks_for_requests_that_come_one_after_the_other(requests: Requests) -> None:
    turns = Turns(requests.reader, requests.wait, lambda: requests.now)
    taken = started = 0

    async def take_requests(nursery: trio.Nursery) -> None:  # as pyfuse3 does
        nonlocal taken, started
        started += 1
        while await turns.wait():
            requests.take()
            if not requests.waiting:
                nursery.start_soon(take_requests, nursery)
            taken += 1
            if taken == MANY:
                nursery.cancel_scope.cancel()
                return
            requests.come()

    async with trio.open_nursery() as nursery:
        requests.come()
        nursery.start_soon(take_requests, nursery)
    assert taken == MANY
    assert started < MANY / 10


async def test_a_request_that_comes_a_little_later_takes_none_either(requests: Requests) -> None:
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        if looks == LATER:
            requests.come()
        return 1.0 + looks * SPIN_SECONDS / 1000

    turns = Turns(requests.reader, requests.wait, clock)
    async with another_waiting(turns, requests):
        requests.come()
        assert await turns.wait()
        requests.take()
        assert await turns.wait()
        assert looks == LATER
        assert requests.waited == 0


async def test_for_one_that_does_not_come_others_have_their_turn(requests: Requests) -> None:
    turns = Turns(requests.reader, requests.wait, lambda: requests.now)
    async with another_waiting(turns, requests), trio.open_nursery() as nursery:
        requests.come()
        assert await turns.wait()
        requests.take()
        requests.now += TURN_SECONDS
        nursery.start_soon(turns.wait)
        await trio.testing.wait_all_tasks_blocked()
        requests.come()


async def test_others_have_their_turn_after_a_while(requests: Requests) -> None:
    turns = Turns(requests.reader, requests.wait, lambda: requests.now)
    others = []

    async def other() -> None:
        others.append(requests.now)

    async with another_waiting(turns, requests), trio.open_nursery() as nursery:
        requests.come()
        assert await turns.wait()
        nursery.start_soon(other)
        assert await turns.wait()
        assert not others
        for _ in range(2):
            requests.now += TURN_SECONDS
            assert await turns.wait()
        assert others


async def test_a_request_that_another_has_read_is_not_there(requests: Requests) -> None:
    turns = Turns(requests.reader, requests.wait, lambda: requests.now)
    answered = []

    async def read() -> None:
        assert await turns.wait()
        requests.take()
        answered.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        requests.come()
        await trio.testing.wait_all_tasks_blocked()
        assert len(answered) == 1
        requests.come()


async def test_it_ends_when_pyfuse3_says_so(requests: Requests) -> None:
    requests.ended = True
    assert not await Turns(requests.reader, requests.wait, lambda: requests.now).wait()
