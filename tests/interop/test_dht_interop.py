"""Our nodes and the reference's are one DHT: each finds, and keeps, what the other announced, and stored."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from hyperfs.crypto import key_pair
from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.requests import Asked
from hyperfs.swarm.dht.service import DhtService, open_dht
from tests.support.reference import ReferencePeer, reference_peer

LOCALHOST = "127.0.0.1"
TOPIC = bytes(range(32))
VALUE = b"a small value"
SALT = b"sixteen bytes..."
LIMIT_SECONDS = 240


class Mixed:
    """A network of two of their nodes and two of ours, all of which know each other; ``bootstrap`` is theirs."""

    def __init__(self, peer: ReferencePeer, theirs: list[Any], ours: list[DhtService]) -> None:
        self.peer = peer
        self.theirs = theirs
        self.ours = ours

    async def call(self, method: str, **params: Any) -> Any:
        """Have their first node do something."""
        return await self.peer.call(f"dht.{method}", node=self.theirs[0]["node"], **params)


@asynccontextmanager
async def mixed() -> AsyncIterator[Mixed]:
    with trio.fail_after(LIMIT_SECONDS):
        async with reference_peer() as peer, AsyncExitStack() as stack:
            first = await peer.call("dht.start")
            bootstrap = [(LOCALHOST, first["port"])]
            second = await peer.call("dht.start", bootstrap=[f"{LOCALHOST}:{first['port']}"])
            ours = []
            for _ in range(2):
                service = await stack.enter_async_context(open_dht(LOCALHOST, bootstrap=bootstrap, ephemeral=False))
                await service.join()
                ours.append(service)
            yield Mixed(peer, [first, second], ours)


async def found(service: DhtService, topic: bytes = TOPIC) -> set[Address]:
    return {peer.address async for peer in service.lookup(topic)}


async def announced(service: DhtService, topic: bytes, port: int) -> None:
    async for _ in service.announce(topic, port=port):
        continue


async def test_what_they_announce_we_find() -> None:
    async with mixed() as network:
        await network.call("announce", topic=TOPIC.hex(), port=4001)
        assert await found(network.ours[0]) == {Address(LOCALHOST, 4001)}


async def test_what_we_announce_they_find() -> None:
    async with mixed() as network:
        await announced(network.ours[0], TOPIC, 4002)
        assert (await network.call("lookup", topic=TOPIC.hex()))["peers"] == ["127.0.0.1:4002"]


async def test_without_a_port_the_socket_is_what_is_announced() -> None:
    async with mixed() as network:
        await announced(network.ours[0], TOPIC, 0)
        port = network.ours[0].address.port
        assert (await network.call("lookup", topic=TOPIC.hex()))["peers"] == [f"127.0.0.1:{port}"]


async def test_what_is_taken_back_nobody_finds() -> None:
    async with mixed() as network:
        await announced(network.ours[0], TOPIC, 4003)
        await network.call("announce", topic=TOPIC.hex(), port=4004)
        await network.ours[0].unannounce(TOPIC, port=4003)
        await network.call("unannounce", topic=TOPIC.hex(), port=4004)
        assert (await network.call("lookup", topic=TOPIC.hex()))["peers"] == []
        assert await found(network.ours[1]) == set()


async def test_they_take_us_into_their_table() -> None:
    async with mixed() as network:
        known = (await network.call("known"))["nodes"]
        assert {f"127.0.0.1:{service.address.port}" for service in network.ours} <= set(known)


async def test_an_ephemeral_node_is_in_nobodys_table() -> None:
    async with mixed() as network:
        first = (LOCALHOST, network.theirs[0]["port"])
        async with open_dht(LOCALHOST, bootstrap=[first]) as service:
            await service.join()
            assert len(service.node.table) == 4
            assert f"127.0.0.1:{service.address.port}" not in (await network.call("known"))["nodes"]
            assert all(len(other.node.table) == 3 for other in network.ours)


async def test_we_are_pinged_and_ping() -> None:
    async with mixed() as network:
        pong = await network.call("ping", port=network.ours[0].address.port)
        assert pong == {"host": LOCALHOST, "port": network.theirs[0]["port"]}
        answered = trio.Event()
        asked = Asked(Address(LOCALHOST, network.theirs[1]["port"]), bytes.fromhex(network.theirs[1]["id"]))
        network.ours[0].node.ping(asked, lambda answer: answered.set() if answer is not None else None)
        await answered.wait()


@pytest.mark.parametrize("way", ["they punch through us", "we punch through them"])
async def test_a_third_opens_the_way(way: str) -> None:
    async with mixed() as network:
        if way == "they punch through us":
            target, referrer = network.theirs[1]["port"], network.ours[0].address.port
            await network.call("holepunch", port=target, referrer=referrer)
        else:
            target, referrer = network.ours[1].address, Address(LOCALHOST, network.theirs[0]["port"])
            assert await network.ours[0].holepunch(target, referrer)


async def test_values_go_both_ways() -> None:
    async with mixed() as network:
        assert (
            await network.ours[0].get(bytes.fromhex((await network.call("put", value=VALUE.hex()))["target"])) == VALUE
        )
        target = await network.ours[0].put(VALUE[::-1])
        assert (await network.call("get", target=target.hex()))["value"] == VALUE[::-1].hex()


@pytest.mark.parametrize("salt", [None, SALT])
async def test_values_of_a_key_go_both_ways(salt: bytes | None) -> None:
    pair = key_pair(bytes(32))
    salted = {} if salt is None else {"salt": salt.hex()}
    async with mixed() as network:
        await network.ours[0].put_mutable(pair, VALUE, seq=1, salt=salt)
        theirs = await network.call("getMutable", publicKey=pair.public.hex(), **salted)
        assert theirs == {"value": VALUE.hex(), "seq": 1}
        keys = {"publicKey": pair.public.hex(), "secretKey": pair.secret.hex()}
        await network.call("putMutable", value=VALUE[::-1].hex(), seq=2, **keys, **salted)
        ours = await network.ours[1].get_mutable(pair.public, salt=salt)
        assert ours is not None
        assert (ours.seq, ours.value) == (2, VALUE[::-1])
