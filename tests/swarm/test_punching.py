"""Of TCP and a punched uTP the first that opens is kept, and nothing of the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.service import DhtService, open_dht
from hyperfs.swarm.punching import PunchedRoute, Ways
from hyperfs.swarm.utp.endpoint import UtpEndpoint
from hyperfs.swarm.utp.stream import UtpStream

LOCALHOST = "127.0.0.1"
REFERRER = Address(LOCALHOST, 9)
LIMIT_SECONDS = 60


class Puncher:
    """Says from where the other side answered, when the test says so."""

    def __init__(self, utp: UtpEndpoint) -> None:
        self.utp = utp
        self.asked: list[tuple[Address, Address]] = []
        self.answered = trio.Event()
        self.answer: Address | None = None

    async def holepunch(self, to: Address, referrer: Address) -> Address | None:
        self.asked.append((to, referrer))
        await self.answered.wait()
        return self.answer


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Puncher, DhtService]]:
    """Yield a puncher, and somebody who takes connections by uTP."""
    with trio.fail_after(LIMIT_SECONDS):
        async with open_dht(LOCALHOST, bootstrap=()) as ours, open_dht(LOCALHOST, bootstrap=()) as theirs:
            theirs.utp.on_accept = lambda link: None
            yield Puncher(ours.utp), theirs


async def test_where_tcp_opens_nobody_is_troubled() -> None:
    async with two() as (puncher, _), trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host=LOCALHOST)
        address = Address(*listener.socket.getsockname()[:2])
        nursery.start_soon(trio.serve_listeners, _hold, [listener])
        stream = await PunchedRoute(address, REFERRER, puncher).open()
        assert isinstance(stream, trio.SocketStream)
        assert puncher.asked == []
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_utp_is_kept_when_tcp_is_refused_to_where_the_answer_came_from() -> None:
    async with two() as (puncher, theirs):
        puncher.answer = theirs.address
        puncher.answered.set()
        stream = await PunchedRoute(Address(LOCALHOST, 9), REFERRER, puncher).open()
        assert isinstance(stream, UtpStream)
        assert stream.address == theirs.address
        await stream.aclose()


async def test_who_told_us_himself_is_reached_without_punching() -> None:
    async with two() as (puncher, theirs):
        stream = await PunchedRoute(theirs.address, None, puncher).open()
        assert isinstance(stream, UtpStream)
        assert puncher.asked == []
        await stream.aclose()


async def test_without_any_way_it_is_said_what_tcp_met_with() -> None:
    async with two() as (puncher, theirs):
        theirs.utp.on_accept = None
        puncher.answer = theirs.address
        puncher.answered.set()
        with pytest.raises(OSError, match="all attempts to connect"):
            await PunchedRoute(Address(LOCALHOST, 9), REFERRER, puncher).open()


async def test_cancelled_it_leaves_nothing() -> None:
    async with two() as (puncher, _):
        puncher.answer = Address("127.0.0.2", 9)  # nobody
        puncher.answered.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(PunchedRoute(Address(LOCALHOST, 9), REFERRER, puncher).open)
            while not puncher.utp.links:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert puncher.utp.links == ()


async def test_of_several_ways_the_others_are_given_up_when_one_opens() -> None:
    ways = Ways()
    ours, theirs = trio.testing.memory_stream_pair()
    given_up = trio.Event()

    async def never() -> trio.abc.Stream:
        try:
            await trio.sleep_forever()
        finally:
            given_up.set()

    async def at_once() -> trio.abc.Stream:
        return ours

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ways.take, 0, never, nursery.cancel_scope)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ways.take, 1, at_once, nursery.cancel_scope)
    assert given_up.is_set()
    assert ways.opened() is ours
    await theirs.aclose()


async def test_of_two_that_open_at_once_one_is_closed() -> None:
    ways = Ways()
    pairs = [trio.testing.memory_stream_pair() for _ in range(2)]

    async with trio.open_nursery() as nursery:
        for number, (ours, _) in enumerate(pairs):
            nursery.start_soon(ways.take, number, partial(_open, ours), nursery.cancel_scope)
    for ours, theirs in pairs:
        if ours is not ways.opened():
            assert await theirs.receive_some() == b""


def test_routes_to_one_address_are_one() -> None:
    def route(port: int, referrer: Address | None) -> PunchedRoute:
        return PunchedRoute(Address(LOCALHOST, port), referrer, Puncher.__new__(Puncher))

    assert route(1, REFERRER) == route(1, None)
    assert hash(route(1, REFERRER)) == hash(route(1, None))
    assert route(1, None) != route(2, None)


async def _open(stream: trio.abc.Stream) -> trio.abc.Stream:
    return stream


async def _hold(stream: trio.abc.Stream) -> None:
    await stream.receive_some(1)
