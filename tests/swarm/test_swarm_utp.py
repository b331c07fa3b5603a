"""Connections by uTP are accepted as those by TCP are, and only while peers are listened for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from hyperfs.replication import Replicator
from hyperfs.swarm.dht.service import DhtService, open_dht
from hyperfs.swarm.swarm import Swarm
from hyperfs.swarm.utp.stream import UtpStream, connect

LOCALHOST = "127.0.0.1"
LIMIT_SECONDS = 60


class Place:
    """A replicator, its swarm, and the socket by which uTP goes."""

    def __init__(self, dht: DhtService, nursery: trio.Nursery) -> None:
        self.dht = dht
        self.replicator = Replicator()
        self.swarm = Swarm(self.replicator, nursery)
        dht.utp.on_accept = self.swarm.accept

    async def until_connected(self) -> None:
        """Wait until a handshake is done."""
        while not self.replicator.status().peers:
            await self.replicator.wait_changed()


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Place, Place, trio.Nursery]]:
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            open_dht(LOCALHOST, bootstrap=()) as first,
            open_dht(LOCALHOST, bootstrap=()) as second,
            trio.open_nursery() as nursery,
        ):
            yield Place(first, nursery), Place(second, nursery), nursery
            nursery.cancel_scope.cancel()


async def test_who_dials_by_utp_is_accepted() -> None:
    async with two() as (ours, theirs, nursery):
        await theirs.swarm.listen(LOCALHOST, 0)
        stream = await connect(ours.dht.utp, theirs.dht.address)

        async def run() -> None:
            await ours.replicator.run(stream, initiator=True, name="theirs", is_tcp=False)

        nursery.start_soon(run)
        await ours.until_connected()
        await theirs.until_connected()
        assert [peer.initiator for peer in theirs.replicator.status().peers] == [False]


async def test_who_listens_for_nobody_takes_nobody_by_utp() -> None:
    async with two() as (ours, theirs, _):
        stream = await connect(ours.dht.utp, theirs.dht.address)
        await stream.send_all(b"hello")
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()


async def test_who_misbehaves_by_utp_is_dropped() -> None:
    async with two() as (ours, theirs, _):
        await theirs.swarm.listen(LOCALHOST, 0)
        stream = await connect(ours.dht.utp, theirs.dht.address)
        await stream.send_all(b"\xff" * 100)
        assert await _ended(stream)


async def _ended(stream: UtpStream) -> bool:
    """Read until the other side has ended it."""
    async with stream:
        try:
            while await stream.receive_some():
                continue
        except trio.BrokenResourceError:
            return True
        return True
