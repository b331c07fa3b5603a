"""Who reaches whom through which NATs: every pair of them, ours and the reference's.

docs/nat.md has what comes out as a table. Each peer is on a host of its own; whoever announces only announces, and
whoever looks only looks, so that one side alone dials.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import pytest
import trio

from tests.support.dht_process import dht_process
from tests.support.network import Nat, Network, network
from tests.support.reference import ReferencePeer, reference_peer
from tests.support.swarm_process import swarm_process

PORT = 49737
NODES = 4
LIMIT_SECONDS = 300
"""Only ends what hangs."""
BLOCK_BYTES = 50_000
PLACES: list[Nat | None] = [None, *Nat]
"""Where a peer can be; None is behind no NAT."""
UNREACHABLE = {
    (Nat.PORT_RESTRICTED, Nat.SYMMETRIC),
    (Nat.SYMMETRIC, Nat.PORT_RESTRICTED),
    (Nat.SYMMETRIC, Nat.SYMMETRIC),
}
"""Who is behind the first cannot dial who is behind the second."""

Kind = Callable[..., AbstractAsyncContextManager[ReferencePeer]]
"""What runs a peer: `swarm_process` ours, `reference_peer` the reference's."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer that does what is asked of it by ``call``, behind a NAT or none, and the host that others see."""

    call: Callable[..., Awaitable[Any]]
    nat: Nat | None
    seen_as: str


class Places:
    """A DHT of persistent nodes, and hosts with and without NATs."""

    def __init__(self, switch: Network, stack: AsyncExitStack, bootstrap: list[str]) -> None:
        self._switch = switch
        self._stack = stack
        self._bootstrap = bootstrap
        self._processes: list[ReferencePeer] = []
        self._numbers = count(1)

    def next_number(self) -> int:
        """Return another number each time."""
        return next(self._numbers)

    async def run(self, kind: Kind, nats: Sequence[Nat | None]) -> list[Peer]:
        """Run a peer on a host of its own behind each of ``nats``."""
        peers = [await self._peer(kind, nat) for nat in nats]
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(partial(peer.call, "swarm.start", bootstrap=self._bootstrap, port=PORT))
        return peers

    def kill(self) -> None:
        """End all peers at once: each would tell nodes that are gone what it takes back, and wait for their answers."""
        for process in self._processes:
            process.kill()

    async def _peer(self, kind: Kind, nat: Nat | None) -> Peer:
        home = None if nat is None else self._switch.home(nat)
        host = self._switch.host() if home is None else home.host()
        process = await self._stack.enter_async_context(kind(wrapper=host.wrapper))
        self._processes.append(process)
        return Peer(process.call, nat, host.address if home is None else home.address)


@asynccontextmanager
async def places() -> AsyncIterator[Places]:
    with trio.fail_after(LIMIT_SECONDS), network() as switch:
        async with AsyncExitStack() as stack:
            first = switch.host(NODES)
            nodes = await stack.enter_async_context(dht_process(wrapper=first.wrapper))
            bootstrap = [f"{first.address}:{PORT}"]
            for address in first.addresses:
                known = bootstrap if address != first.address else []
                await nodes.call("dht.start", bootstrap=known, ephemeral=False, host=address, port=PORT)
            there = Places(switch, stack, bootstrap)
            yield there
            there.kill()


@dataclass(frozen=True, slots=True)
class Announced:
    """A core of one block, and who has it."""

    peer: Peer
    key: str
    topic: str


async def announce(peer: Peer, number: int, announced: list[Announced]) -> None:
    """Have a peer announce a core of its own; returns once that stands."""
    core = await peer.call("core.open", seed=number.to_bytes(32, "big").hex())
    await peer.call("core.append", core=core["key"], count=1, size=BLOCK_BYTES)
    await peer.call("swarm.join", topic=core["discoveryKey"], announce=True, lookup=False)
    announced.append(Announced(peer, core["key"], core["discoveryKey"]))


async def all_announce(there: Places, kind: Kind, nats: Sequence[Nat | None]) -> list[Announced]:
    """Have peers announce, one behind each of ``nats``."""
    announced: list[Announced] = []
    peers = await there.run(kind, nats)
    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(announce, peer, there.next_number(), announced)
    return announced


async def fetch(peer: Peer, announced: Sequence[Announced]) -> None:
    """Have a peer look for the cores of all whom it can reach, and fetch them."""
    reached = [one for one in announced if (peer.nat, one.peer.nat) not in UNREACHABLE]
    async with trio.open_nursery() as nursery:
        for one in reached:
            nursery.start_soon(fetch_one, peer, one)
    connections = (await peer.call("swarm.status"))["connections"]
    by_utp = [one for one in reached if one.peer.nat is not None]
    assert [connection["type"] for connection in connections].count("utp") >= len(by_utp)


async def fetch_one(peer: Peer, one: Announced) -> None:
    await peer.call("core.open", key=one.key)
    await peer.call("swarm.join", topic=one.topic, announce=False, lookup=True)
    await peer.call("core.get", core=one.key, index=0, timeout_seconds=LIMIT_SECONDS)


async def look_in_vain(peer: Peer, announced: Sequence[Announced]) -> None:
    """Have a peer of ours look for the core of one whom it cannot reach, if there is one."""
    for one in announced:
        if (peer.nat, one.peer.nat) in UNREACHABLE:
            await peer.call("core.open", key=one.key)
            await peer.call("swarm.join", topic=one.topic, announce=False, lookup=True)
            problems = (await peer.call("swarm.problems", topic=one.topic))["problems"]
            assert one.peer.seen_as in {address.partition(":")[0] for address in problems}
            return


@pytest.mark.parametrize("kind", [swarm_process, reference_peer])
async def test_ours_reach(kind: Kind) -> None:
    async with places() as there:
        announced = await all_announce(there, kind, PLACES)
        peers = await there.run(swarm_process, PLACES)
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(fetch, peer, announced)
                nursery.start_soon(look_in_vain, peer, announced)


async def test_the_references_reach_ours() -> None:
    nats = [None, Nat.FULL_CONE, Nat.PORT_RESTRICTED]
    async with places() as there:
        announced = await all_announce(there, swarm_process, nats)
        peers = await there.run(reference_peer, nats)
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(fetch, peer, announced)
