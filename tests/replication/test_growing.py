"""How long a core is comes from its peers: asked for, or as it grows."""

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.protocol.events import RequestReceived
from hyperfs.replication import Follow, Replicator
from hyperfs.replication.exchange import AWAITED_SECONDS
from tests.support.clocks import settled
from tests.support.peers import join, reader, scripted, serving, writer


async def test_update_learns_the_newest_length_and_no_block(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    join(nursery, replicator, serving(await writer(77)))
    await settled()
    await core.update()
    assert core.length == 77
    assert core.count(0, 77) == 0


async def test_update_returns_when_nobody_is_there() -> None:
    core = await reader(Replicator())
    await core.update()
    assert core.length == 0


async def test_update_returns_when_the_peer_has_not_got_the_core(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    join(nursery, replicator, Replicator())
    await settled()
    await core.update()
    assert core.length == 0


@pytest.mark.parametrize(("follow", "blocks"), [(Follow.LENGTH, 0), (Follow.NEWEST, 1)])
async def test_appends_are_followed(nursery: trio.Nursery, follow: Follow, blocks: int) -> None:
    theirs = await writer(5)
    replicator = Replicator()
    core = await reader(replicator, follow=follow)
    join(nursery, replicator, serving(theirs))
    await core.wait_longer(4)
    await theirs.append([b"one more"])
    await theirs.sync()
    await core.wait_longer(5)
    assert core.count(5, 6) == blocks


async def test_content_is_not_followed(nursery: trio.Nursery) -> None:
    theirs = await writer(5)
    replicator = Replicator()
    core = await reader(replicator, follow=Follow.NOTHING)
    join(nursery, replicator, serving(theirs))
    await core.get(4)
    await theirs.append([b"one more"])
    await theirs.sync()
    await settled()
    assert core.length == 5


async def test_update_returns_whatever_a_peer_claims_and_takes_back(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    await peer.announce(channel, 0)
    channel.send_have(0, 1 << 32)
    await peer.send()

    async def refuse() -> None:
        while True:
            channel.send_unhave((await peer.next(RequestReceived)).index)
            await peer.send()

    await settled()
    nursery.start_soon(refuse)
    await core.update()
    assert core.length == 0


async def test_who_waits_for_a_core_to_grow_is_a_reason_to_look_for_peers_but_not_for_ever(
    core: Core, replicator: Replicator, nursery: trio.Nursery, patient_clock: trio.testing.MockClock
) -> None:
    joined = join(nursery, replicator, serving(await writer(3)))
    await core.fetch([range(3)])
    nursery.start_soon(core.wait_longer, 3)
    await settled()
    wanted = [replicator.wanted]
    joined.cut()
    await joined.over.wait()
    wanted.append(replicator.wanted)
    await trio.sleep(AWAITED_SECONDS)
    assert [*wanted, replicator.wanted] == [False, True, False]


async def test_who_seeks_is_a_reason_to_look_for_peers(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    exchange = replicator.exchange_of(core.discovery_key)
    assert exchange is not None
    with trio.CancelScope() as seeking:
        async with trio.open_nursery() as inner:
            inner.start_soon(exchange.seeks.seek, 5, range(10))
            await settled()
            assert replicator.wanted
            seeking.cancel()
    assert not replicator.wanted
