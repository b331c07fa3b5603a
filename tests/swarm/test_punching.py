"""Of TCP and a punched uTP the first that opens is kept, and nothing of the other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.service import DhtService, open_dht
from hyperfs.swarm.punching import PunchedRoute
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
        self.cancelled = False
        self.answered = trio.Event()
        self.answer: Address | None = None

    async def holepunch(self, to: Address, referrer: Address) -> Address | None:
        self.asked.append((to, referrer))
        try:
            await self.answered.wait()
        except trio.Cancelled:
            self.cancelled = True
            raise
        return self.answer


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Puncher, DhtService]]:
    """Yield a puncher, and somebody who takes connections by uTP."""
    with trio.fail_after(LIMIT_SECONDS):
        async with open_dht(LOCALHOST, bootstrap=()) as ours, open_dht(LOCALHOST, bootstrap=()) as theirs:
            theirs.utp.on_accept = lambda link: None
            yield Puncher(ours.utp), theirs


async def test_tcp_is_kept_when_it_opens_first_and_the_punching_is_given_up() -> None:
    async with two() as (puncher, _), trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host=LOCALHOST)
        address = Address(*listener.socket.getsockname()[:2])
        nursery.start_soon(trio.serve_listeners, _hold, [listener])
        stream = await PunchedRoute(address, REFERRER, puncher).open()
        assert isinstance(stream, trio.SocketStream)
        assert puncher.asked == [(address, REFERRER)]
        assert puncher.cancelled
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
    async with two() as (puncher, _):
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


def test_routes_to_one_address_are_one() -> None:
    def route(port: int, referrer: Address | None) -> PunchedRoute:
        return PunchedRoute(Address(LOCALHOST, port), referrer, Puncher.__new__(Puncher))

    assert route(1, REFERRER) == route(1, None)
    assert hash(route(1, REFERRER)) == hash(route(1, None))
    assert route(1, None) != route(2, None)


async def _hold(stream: trio.abc.Stream) -> None:
    await stream.receive_some(1)
