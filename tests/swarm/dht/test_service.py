"""A node on a real socket: what it is asked it answers, what it announced it takes back, whatever floods it."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import pytest
import trio
import trio.testing

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht import service as service_module
from hyperfs.swarm.dht.datagrams import Datagram, Kind, NodeAddress, PeersInput, encode, encode_nodes
from hyperfs.swarm.dht.service import (
    FLOOD_A_SECOND,
    GATHER_DATAGRAMS,
    GATHER_SECONDS,
    DhtFailed,
    DhtService,
    Flood,
    FoundPeer,
    open_dht,
    resolve,
)
from hyperfs.swarm.dht.walk import WalkReport

LOCALHOST = "127.0.0.1"
TOPIC = bytes(range(32))
LIMIT_SECONDS = 60


@asynccontextmanager
async def network(count: int) -> AsyncIterator[list[DhtService]]:
    """Run persistent nodes that know each other."""
    with trio.fail_after(LIMIT_SECONDS):
        async with AsyncExitStack() as stack:
            services: list[DhtService] = []
            for _ in range(count):
                known = [services[0].address] if services else []
                services.append(await stack.enter_async_context(open_dht(LOCALHOST, bootstrap=known, ephemeral=False)))
                await services[-1].join()
            yield services


async def found(service: DhtService) -> set[Address]:
    return {peer.address async for peer in service.lookup(TOPIC)}


async def test_what_is_kept_announced_is_taken_back_when_that_ends() -> None:
    async with network(3) as (first, second, third):
        async with trio.open_nursery() as nursery:
            announced: list[FoundPeer] = []

            async def keep() -> None:
                await second.keep_announced(TOPIC, port=4000, found=announced.append)

            nursery.start_soon(keep)
            while await found(third) != {Address(LOCALHOST, 4000)}:
                continue
            nursery.cancel_scope.cancel()
        assert await found(first) == set()


async def test_ways_are_kept_open_from_those_who_keep_what_is_announced() -> None:
    async with network(3) as (first, second, third):
        async with trio.open_nursery() as nursery:
            announced = trio.Event()

            async def keep() -> None:
                await second.keep_announced(TOPIC, port=0, found=lambda _: None, walked=lambda _: announced.set())

            nursery.start_soon(keep)
            await announced.wait()
            assert set(second.ways.addresses) == {first.address, third.address}
            nursery.cancel_scope.cancel()
        assert second.ways.addresses == []


async def test_who_announces_learns_of_who_announced_at_the_same_moment() -> None:
    async with network(3) as (first, second, third):

        def announce_as_third(report: WalkReport) -> None:
            first.node.announcements.update(TOPIC, PeersInput(5000), third.address)

        async with trio.open_nursery() as nursery:
            learned = trio.Event()

            def note(peer: FoundPeer) -> None:
                assert peer.address == Address(LOCALHOST, 5000)
                learned.set()

            async def keep() -> None:
                await second.keep_announced(TOPIC, port=4000, found=note, walked=announce_as_third)

            nursery.start_soon(keep)
            await learned.wait()
            nursery.cancel_scope.cancel()


async def test_who_looks_is_told_of_what_is_announced_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "LOOK_SECONDS", (0.01, 0.02))
    async with network(2) as (first, second), trio.open_nursery() as nursery:
        seen = trio.Event()

        async def look() -> None:
            await first.keep_looking(TOPIC, found=lambda peer: seen.set())

        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        async for _ in second.announce(TOPIC, port=4000):
            continue
        await seen.wait()
        nursery.cancel_scope.cancel()


async def test_a_network_that_does_not_answer_is_said_so(patient_clock: trio.testing.MockClock) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((LOCALHOST, 0))
        async with open_dht(LOCALHOST, bootstrap=[silent.getsockname()]) as service:
            with pytest.raises(DhtFailed, match="none of 1 nodes of the DHT answered"):
                await found(service)


async def test_a_name_that_cannot_be_looked_up_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert await resolve([("no-such-host.invalid", 1), ("a..b", 1), (LOCALHOST, 2)]) == [Address(LOCALHOST, 2)]
    assert "cannot find the bootstrap node no-such-host.invalid" in caplog.text


async def test_a_port_that_is_taken_is_named() -> None:
    async with network(1) as (service,):
        with pytest.raises(OSError, match=f"cannot listen there: .*{service.address}"):
            async with open_dht(LOCALHOST, service.address.port):
                raise AssertionError("it opened")


async def test_what_fails_inside_comes_out_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with open_dht(LOCALHOST, bootstrap=[]):
            raise ValueError("mine")


NODE = NodeAddress(bytes(32), Address("127.0.0.9", 9))
FLOODS = {
    "questions": Datagram(Kind.QUERY, 1, id=bytes(32), target=TOPIC, command="_find_node"),
    "questions about peers": Datagram(Kind.QUERY, 1, target=TOPIC, command="peers", value=b""),
    "answers": Datagram(Kind.RESPONSE, 1, id=bytes(32), closer=encode_nodes([NODE] * 20), token=bytes(32)),
    "announcements": Datagram(Kind.UPDATE, 1, target=TOPIC, command="peers", value=b"", token=bytes(32)),
}


@pytest.mark.parametrize(
    ("flood", "hosts"),
    [("questions", 1), ("questions", 5), ("questions about peers", 5), ("answers", 1), ("announcements", 1)],
)
async def test_a_flooded_node_keeps_serving(flood: str, hosts: int) -> None:
    async with network(2) as (first, second), trio.open_nursery() as nursery:
        data = encode(FLOODS[flood])
        sent = 0

        async def pour() -> None:
            nonlocal sent
            with ExitStack() as stack:
                sources = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(hosts)]
                for number, source in enumerate(sources):
                    source.bind((f"127.0.1.{number + 1}", 0))
                while True:
                    for _ in range(20):
                        sources[sent % hosts].sendto(data, first.address)
                        sent += 1
                    await trio.lowlevel.checkpoint()

        nursery.start_soon(pour)
        async for _ in second.announce(TOPIC, port=4000):
            continue
        while sent < 10_000:
            assert await found(second) == {Address(LOCALHOST, 4000)}
        nursery.cancel_scope.cancel()
        assert (first.node.refused > 0) == flood.startswith("questions")
        assert [contact.address for contact in first.node.table] == [second.address]
        assert len(first.node.announcements) == 1


@pytest.mark.parametrize("size", [0, 15, 65])
async def test_a_salt_of_a_size_that_is_not_allowed_is_refused(size: int) -> None:
    async with network(1) as (service,):
        with pytest.raises(ValueError, match=f"a salt of {size} bytes, where 16 to 64 are allowed"):
            await service.get_mutable(bytes(32), salt=bytes(size))


async def test_a_value_that_is_too_long_is_refused() -> None:
    async with network(1) as (service,):
        with pytest.raises(ValueError, match="a value of 1001 bytes, where 1000 are allowed"):
            await service.put(bytes(1001))


async def test_a_node_finds_what_it_keeps_itself() -> None:
    async with network(2) as (first, second):
        async for _ in second.announce(TOPIC, port=4000):
            continue
        target = await second.put(b"value")
        assert await found(first) == {Address(LOCALHOST, 4000)}
        assert await first.get(target) == b"value"


def test_many_datagrams_in_a_second_are_a_flood_until_a_second_later() -> None:
    flood = Flood()
    for count in range(FLOOD_A_SECOND):
        flood.note(7 + count / FLOOD_A_SECOND)
    pauses = [flood.pause_seconds(now) for now in (7.99, 8.5, 9.1, 100.0)]
    assert pauses == [GATHER_SECONDS, GATHER_SECONDS, 0, 0]


def test_fewer_are_none() -> None:
    flood = Flood()
    for count in range(10 * FLOOD_A_SECOND):
        flood.note(count / (FLOOD_A_SECOND - 1))
    assert flood.pause_seconds(10.0) == 0


def test_the_more_there_are_the_shorter_they_gather() -> None:
    flood = Flood()
    for _ in range(1000 * GATHER_DATAGRAMS):
        flood.note(1.5)
    assert flood.pause_seconds(1.5) == 0.001
