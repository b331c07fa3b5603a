"""Who reaches whom through which NATs: every pair of them, ours and the reference's.

docs/nat.md has what comes out as a table. Each peer is on a host of its own; whoever announces only announces, and
whoever looks only looks, so that one side alone dials.
"""

from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from tests.support.dht_process import dht_process
from tests.support.network import Nat, Network, NetworkHost, network
from tests.support.reference import ReferencePeer, reference_peer
from tests.support.swarm_process import swarm_process

PORT = 49737
NODES = 4
LIMIT_SECONDS = 90
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


class Places:
    """A DHT of persistent nodes, and hosts with and without NATs."""

    def __init__(self, switch: Network, stack: AsyncExitStack, bootstrap: list[str]) -> None:
        self._switch = switch
        self._stack = stack
        self._bootstrap = bootstrap

    async def run(self, kind: Kind, nats: Sequence[Nat | None]) -> list[ReferencePeer]:
        """Run a peer on a host of its own behind each of ``nats``."""
        processes = [await self._stack.enter_async_context(kind(wrapper=self._host(nat).wrapper)) for nat in nats]
        async with trio.open_nursery() as nursery:
            for process in processes:
                nursery.start_soon(partial(process.call, "swarm.start", bootstrap=self._bootstrap, port=PORT))
        return processes

    async def announced(self, kind: Kind, nat: Nat | None) -> dict[str, Any]:
        """Have a peer announce a core of one block; returns once that stands."""
        [peer] = await self.run(kind, [nat])
        core: dict[str, Any] = await peer.call("core.open", seed=bytes(32).hex())
        await peer.call("core.append", core=core["key"], count=1, size=BLOCK_BYTES)
        await peer.call("swarm.join", topic=core["discoveryKey"], announce=True, lookup=False)
        return core

    def _host(self, nat: Nat | None) -> NetworkHost:
        return self._switch.host() if nat is None else self._switch.home(nat).host()


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
            yield Places(switch, stack, bootstrap)


async def look(peer: ReferencePeer, core: dict[str, Any]) -> None:
    """Have a peer look for a core, once."""
    await peer.call("core.open", key=core["key"])
    await peer.call("swarm.join", topic=core["discoveryKey"], announce=False, lookup=True)


async def fetch(peer: ReferencePeer, core: dict[str, Any], transports: Container[str]) -> None:
    """Have a peer look for a core and fetch its block, by one of ``transports``."""
    await look(peer, core)
    await peer.call("core.get", core=core["key"], index=0, timeout_seconds=LIMIT_SECONDS)
    [connection] = (await peer.call("swarm.status"))["connections"]
    assert connection["type"] in transports


async def look_in_vain(peer: ReferencePeer, core: dict[str, Any]) -> None:
    """Have a peer of ours look for a core, and dial who has it without success."""
    await look(peer, core)
    assert (await peer.call("swarm.problems", topic=core["discoveryKey"]))["problems"]


async def all_look(theirs: Kind, announcer: Nat | None, ours: Kind, lookers: Sequence[Nat | None]) -> None:
    """Have peers of one kind behind each of ``lookers`` fetch what one of another kind behind ``announcer`` has."""
    transports = ("tcp", "utp") if announcer is None else ("utp",)
    async with places() as there:
        core = await there.announced(theirs, announcer)
        peers = await there.run(ours, lookers)
        async with trio.open_nursery() as nursery:
            for looker, peer in zip(lookers, peers, strict=True):
                if (looker, announcer) in UNREACHABLE:
                    nursery.start_soon(look_in_vain, peer, core)
                else:
                    nursery.start_soon(fetch, peer, core, transports)


@pytest.mark.parametrize("announcer", PLACES)
async def test_ours_reach_ours(announcer: Nat | None) -> None:
    await all_look(swarm_process, announcer, swarm_process, PLACES)


@pytest.mark.parametrize("announcer", PLACES)
async def test_ours_reach_the_references(announcer: Nat | None) -> None:
    await all_look(reference_peer, announcer, swarm_process, PLACES)


@pytest.mark.parametrize("announcer", [None, Nat.FULL_CONE, Nat.PORT_RESTRICTED])
async def test_the_references_reach_ours(announcer: Nat | None) -> None:
    await all_look(swarm_process, announcer, reference_peer, [None, Nat.FULL_CONE, Nat.PORT_RESTRICTED])
