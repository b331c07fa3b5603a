"""Our uTP and libutp's are one protocol: each dials the other, and every byte arrives, in both directions."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.service import DhtService, open_dht
from hyperfs.swarm.utp.endpoint import UtpLink
from hyperfs.swarm.utp.stream import UtpStream, connect
from tests.support.reference import ReferencePeer, reference_peer

LOCALHOST = "127.0.0.1"
LIMIT_SECONDS = 240
SIZES = [1, 1372, 1373, 100_000, 5_000_000]


@asynccontextmanager
async def both() -> AsyncIterator[tuple[ReferencePeer, DhtService]]:
    with trio.fail_after(LIMIT_SECONDS):
        async with reference_peer() as peer, open_dht(LOCALHOST, bootstrap=()) as service:
            yield peer, service


async def read_exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await stream.receive_some(size - len(data))
    return bytes(data)


@pytest.mark.parametrize("size", SIZES)
async def test_we_dial_them(size: int) -> None:
    data = random.Random(size).randbytes(size)
    async with both() as (peer, service):
        port = (await peer.call("utp.listen"))["port"]
        async with await connect(service.utp, Address(LOCALHOST, port)) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            assert await read_exactly(stream, size) == data
            await stream.send_eof()
            assert await stream.receive_some() == b""


@pytest.mark.parametrize("size", SIZES)
async def test_they_dial_us(size: int) -> None:
    async with both() as (peer, service), trio.open_nursery() as nursery:

        async def echo(link: UtpLink) -> None:
            async with UtpStream(link) as stream:
                async for data in stream:
                    await stream.send_all(data)

        service.utp.on_accept = lambda link: nursery.start_soon(echo, link)
        done = await peer.call("utp.exchange", port=service.address.port, size=size)
        assert done["sent"] == done["received"]
        nursery.cancel_scope.cancel()


async def test_who_accepts_nobody_refuses_them() -> None:
    async with both() as (peer, service):
        with pytest.raises(Exception, match="ECONN"):
            await peer.call("utp.exchange", port=service.address.port, size=1)


async def test_they_end_it_without_a_word_when_we_reset_it() -> None:
    async with both() as (peer, service):
        port = (await peer.call("utp.listen"))["port"]
        stream = await connect(service.utp, Address(LOCALHOST, port))
        await stream.send_all(b"hello")
        assert await read_exactly(stream, 5) == b"hello"
        service.utp.links[0].abort()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()
        await peer.call("utp.connections", count=0)
