"""Two processes' worth of swarms find each other by a DHT of their own, and fetch."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from hyperfs.replication import Follow, Replicator
from hyperfs.swarm import Swarm
from hyperfs.swarm.dht.discovery import DhtDiscovery
from hyperfs.swarm.dht.service import DhtService, open_dht
from tests.support.peers import block, reader, serving, writer

HERE = "127.0.0.1"


@asynccontextmanager
async def in_dht(replicator: Replicator, bootstrap: DhtService) -> AsyncIterator[Swarm]:
    async with open_dht(HERE, bootstrap=[bootstrap.address]) as dht, trio.open_nursery() as nursery:
        yield Swarm(replicator, nursery, discoveries=[DhtDiscovery(dht)])
        nursery.cancel_scope.cancel()


async def test_who_announces_is_found_and_fetched_from() -> None:
    mine, theirs = Replicator(), serving(await writer(10))
    core = await reader(mine, follow=Follow.LENGTH)
    with trio.fail_after(60):
        async with (
            open_dht(HERE, bootstrap=[], ephemeral=False) as first,
            in_dht(theirs, first) as listener,
            in_dht(mine, first) as looker,
        ):
            await listener.listen(HERE, 0)
            listener.join(core.discovery_key, looks=False, announces=True)
            looker.join(core.discovery_key, looks=True, announces=False)
            assert await core.get(3) == block(3)


async def test_who_announces_later_is_found_because_somebody_waits() -> None:
    mine, theirs = Replicator(), serving(await writer(10))
    core = await reader(mine, follow=Follow.LENGTH)
    with trio.fail_after(60):
        async with (
            open_dht(HERE, bootstrap=[], ephemeral=False) as first,
            in_dht(theirs, first) as listener,
            in_dht(mine, first) as looker,
            trio.open_nursery() as nursery,
        ):
            looker.join(core.discovery_key, looks=True, announces=False)
            fetched = trio.Event()

            async def fetch() -> None:
                await core.get(3)
                fetched.set()

            nursery.start_soon(fetch)
            await trio.testing.wait_all_tasks_blocked(0.1)
            assert not fetched.is_set()
            await listener.listen(HERE, 0)
            listener.join(core.discovery_key, looks=False, announces=True)
            await fetched.wait()
