"""uTP connections keep the promises of trio's streams."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.service import DhtService, open_dht
from hyperfs.swarm.utp.endpoint import UtpLink
from hyperfs.swarm.utp.stream import UtpStream, connect

LOCALHOST = "127.0.0.1"
LIMIT_SECONDS = 60


@asynccontextmanager
async def two() -> AsyncIterator[tuple[DhtService, DhtService]]:
    with trio.fail_after(LIMIT_SECONDS):
        async with open_dht(LOCALHOST, bootstrap=()) as first, open_dht(LOCALHOST, bootstrap=()) as second:
            yield first, second


async def pair(first: DhtService, second: DhtService) -> tuple[UtpStream, UtpStream]:
    send, receive = trio.open_memory_channel[UtpLink](1)
    second.utp.on_accept = send.send_nowait
    stream = await connect(first.utp, second.address)
    await stream.send_all(b"!")
    accepted = UtpStream(await receive.receive())
    assert await accepted.receive_some(1) == b"!"
    return stream, accepted


async def test_it_is_a_stream_of_trios() -> None:
    async with two() as (first, second):

        async def make() -> tuple[UtpStream, UtpStream]:
            return await pair(first, second)

        await trio.testing.check_half_closeable_stream(make, None)


async def test_dialling_may_be_cancelled_and_leaves_nothing() -> None:
    async with two() as (first, _):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connect, first.utp, Address(LOCALHOST, 9))
                await trio.testing.wait_all_tasks_blocked()
                assert len(first.utp.links) == 1
                scope.cancel()
        assert first.utp.links == ()


async def test_a_service_that_ends_ends_its_connections() -> None:
    async with open_dht(LOCALHOST, bootstrap=()) as first:
        async with open_dht(LOCALHOST, bootstrap=()) as second:
            ours, theirs = await pair(first, second)
        with pytest.raises(trio.BrokenResourceError):
            await theirs.receive_some()
        with trio.fail_after(LIMIT_SECONDS), pytest.raises(trio.BrokenResourceError):
            await ours.receive_some()
        await ours.aclose()
        await theirs.aclose()


async def test_who_is_refused_is_told() -> None:
    async with two() as (first, second):
        with pytest.raises(OSError, match="refused"):
            await connect(first.utp, second.address)
