"""Connections by uTP are accepted as those by TCP are, and only while peers are listened for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from hyperfs.protocol.connection import Connection
from hyperfs.replication import Replicator
from hyperfs.swarm.addresses import Address
from hyperfs.swarm.admission import MAX_OFFENCES
from hyperfs.swarm.dht.service import DhtService, open_dht
from hyperfs.swarm.dht.timers import Timers
from hyperfs.swarm.swarm import Swarm
from hyperfs.swarm.utp.endpoint import UtpEndpoint
from hyperfs.swarm.utp.packets import Packet, PacketType, decode, encode
from hyperfs.swarm.utp.stream import UtpStream, connect

LOCALHOST = "127.0.0.1"
NEAR = Address("198.51.100.1", 1)
FAR = Address("192.0.2.7", 2)
LIMIT_SECONDS = 60


class Place:
    """A replicator, its swarm, and the socket by which uTP goes."""

    def __init__(self, dht: DhtService, nursery: trio.Nursery) -> None:
        self.dht = dht
        self.replicator = Replicator()
        self.swarm = Swarm(self.replicator, nursery)
        dht.utp.on_accept, dht.utp.admits = self.swarm.accept, self.swarm.admits

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
        with pytest.raises(ConnectionRefusedError):
            await connect(ours.dht.utp, theirs.dht.address)


async def test_who_misbehaves_by_utp_is_dropped() -> None:
    async with two() as (ours, theirs, _):
        await theirs.swarm.listen(LOCALHOST, 0)
        stream = await connect(ours.dht.utp, theirs.dht.address)
        await stream.send_all(b"\xff" * 100)
        assert await _ended(stream)


class Wire:
    """A swarm that is reached by uTP, and whoever else: datagrams of `FAR`'s address, which are all carried at once.

    What is sent to `FAR` is taken by ``far``, and also kept, for somebody who guesses well.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.replicator = Replicator()
        self.swarm = Swarm(self.replicator, nursery)
        timers = Timers(trio.current_time)
        self.sent: list[Packet] = []
        self.near = UtpEndpoint(timers, self._to_far)
        self.near.on_accept, self.near.admits = self.swarm.accept, self.swarm.admits
        self.far = UtpEndpoint(timers, lambda data, to: self._carry(self.near, data, FAR))
        self._nursery = nursery

    def _to_far(self, data: bytes, to: Address) -> None:
        packet = decode(data)
        assert packet is not None
        self.sent.append(packet)
        self._carry(self.far, data, NEAR)

    def _carry(self, endpoint: UtpEndpoint, data: bytes, source: Address) -> None:
        async def carry() -> None:
            endpoint.receive(data, source)
            endpoint.flush()

        self._nursery.start_soon(carry)

    async def until_ended(self) -> None:
        """Wait until no connection is up."""
        while self.replicator._links:
            await self.replicator.wait_changed()


@asynccontextmanager
async def wire() -> AsyncIterator[Wire]:
    with trio.fail_after(LIMIT_SECONDS):
        async with trio.open_nursery() as nursery:
            made = Wire(nursery)
            await made.swarm.listen(LOCALHOST, 0)
            yield made
            nursery.cancel_scope.cancel()


async def test_nobody_is_banned_for_what_is_said_with_his_address_before_a_handshake(
    patient_clock: trio.testing.MockClock,
) -> None:
    async with wire() as made:
        for number in range(2 * MAX_OFFENCES):
            made.near.receive(encode(Packet(PacketType.SYN, 2 * number, 0, 0, 1 << 20, 1, 0)), FAR)
            guessed = made.sent[-1].sequence - 1 & 0xFFFF
            data = Packet(PacketType.DATA, 2 * number + 1, 0, 0, 1 << 20, 2, guessed, payload=b"\xff" * 100)
            made.near.receive(encode(data), FAR)
            await trio.testing.wait_all_tasks_blocked()
            await made.until_ended()
        assert made.swarm.admits(FAR)


async def test_who_shakes_hands_by_utp_and_misbehaves_is_banned(patient_clock: trio.testing.MockClock) -> None:
    async with wire() as made:
        for _ in range(MAX_OFFENCES):
            assert made.swarm.admits(FAR)
            stream = await connect(made.far, NEAR)
            await misbehave(stream, made.replicator)
            await made.until_ended()
        assert not made.swarm.admits(FAR)
        with pytest.raises(ConnectionRefusedError):
            await connect(made.far, NEAR)


async def misbehave(stream: UtpStream, replicator: Replicator) -> None:
    """Do the handshake, and say nonsense to ``replicator`` then."""
    protocol = Connection(initiator=True)
    while not protocol.is_ready:
        await stream.send_all(protocol.take_output())
        protocol.receive(await stream.receive_some())
    await stream.send_all(protocol.take_output())
    while not replicator.peer_count:
        await replicator.wait_changed()
    await stream.send_all(bytes(20_000))  # which deciphers to anything but frames
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
