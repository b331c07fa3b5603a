"""Several peers that have the same: how fast they are together, and what one of them costs that is far, dead or lies.

The lines and the clock are made up.
"""

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.protocol.events import RequestReceived
from hyperfs.replication import EndReason, Replicator
from tests.support.peers import far_streams, nursery_to_cancel, reader, scripted, serving, writer

BLOCK_BYTES = 16 << 10
COUNT = 400
RATE = 8e6
"""Of one server's line, in bits a second."""
NEAR = 0.02
ALONE_SECONDS = COUNT * BLOCK_BYTES * 8 / RATE


class Servers:
    """A reader's replicator, and the servers that it is connected to."""

    def __init__(self, nursery: trio.Nursery, theirs: Core) -> None:
        self.replicator = Replicator()
        self.scopes: list[trio.CancelScope] = []
        self._nursery = nursery
        self._theirs = theirs

    def connect(self, *, round_trip: float = NEAR, rate: float = RATE) -> None:
        """Connect to one more server."""
        near, far = far_streams(self._nursery, round_trip=round_trip, rate=rate)
        server, number = serving(self._theirs), len(self.scopes)
        scope = trio.CancelScope()
        self.scopes.append(scope)

        async def run() -> None:
            with scope:
                await server.run(far, initiator=False, name="reader:1")

        self._nursery.start_soon(run)
        self._nursery.start_soon(lambda: self.replicator.run(near, initiator=True, name=f"server:{number}"))


async def content() -> Core:
    """Return the core that all servers have."""
    return await writer(0, blocks=[bytes([index % 251]) * BLOCK_BYTES for index in range(COUNT)])


async def seconds_of(core: Core) -> float:
    """Return how long all blocks but the first take, from when the first is there."""
    await core.get(0)
    await trio.sleep(1)
    start = trio.current_time()
    await core.fetch([range(COUNT)])
    return trio.current_time() - start


async def test_four_are_almost_four_times_as_fast_as_one(patient_clock: trio.testing.MockClock) -> None:
    async with nursery_to_cancel() as nursery:
        servers = Servers(nursery, await content())
        core = await reader(servers.replicator)
        for _ in range(4):
            servers.connect()
        assert await seconds_of(core) <= ALONE_SECONDS / 3.4


@pytest.mark.parametrize(("round_trip", "rate"), [(0.3, RATE), (0.3, RATE / 50), (1.0, RATE / 10)])
async def test_a_far_one_beside_a_near_one_costs_nothing(
    round_trip: float, rate: float, patient_clock: trio.testing.MockClock
) -> None:
    async with nursery_to_cancel() as nursery:
        servers = Servers(nursery, await content())
        core = await reader(servers.replicator)
        servers.connect()
        servers.connect(round_trip=round_trip, rate=rate)
        assert await seconds_of(core) <= ALONE_SECONDS + 2 * NEAR


@pytest.mark.parametrize("dies", [False, True])
async def test_one_that_stalls_or_dies_midway_costs_less_than_two_seconds(
    dies: bool, patient_clock: trio.testing.MockClock
) -> None:
    async with nursery_to_cancel() as nursery:
        servers = Servers(nursery, await content())
        core = await reader(servers.replicator)
        for _ in range(4):
            servers.connect()

        async def stall() -> None:
            await core.fetch([range(COUNT // 4)])
            servers.scopes[1].cancel()  # nobody reads its stream's other end from then on, and nothing ends
            if dies:
                servers.replicator.disconnect("server:1")

        nursery.start_soon(stall)
        assert await seconds_of(core) <= (1 / 4 * 1 / 4 + 3 / 4 * 1 / 3) * ALONE_SECONDS + 2


async def test_one_that_serves_garbage_is_dropped_and_costs_nothing(patient_clock: trio.testing.MockClock) -> None:
    async with nursery_to_cancel() as nursery:
        theirs = await content()
        servers = Servers(nursery, theirs)
        core = await reader(servers.replicator)
        servers.connect()
        liar = scripted(nursery, servers.replicator)
        channel = await liar.open()
        await liar.announce(channel, COUNT)

        async def lie() -> None:
            request = await liar.next(RequestReceived)
            proof = await theirs.proof(request.index, digest=request.digest)
            channel.send_data(request.index, b"garbage" * 100, proof.nodes, proof.signature)
            await liar.send()

        nursery.start_soon(lie)
        assert await seconds_of(core) <= 1.05 * ALONE_SECONDS + 2 * NEAR
        assert liar.ending is not None
        assert liar.ending.reason is EndReason.MISBEHAVED
