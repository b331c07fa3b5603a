"""Who is at the other end of a connection, and which of two connections to it stays."""

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.replication import EndReason, Replicator
from hyperfs.storage import MemoryDirectory
from tests.support.clocks import settled
from tests.support.peers import join, serving, writer


async def test_a_connection_to_oneself_is_recognised(nursery: trio.Nursery) -> None:
    replicator = Replicator()
    joined = join(nursery, replicator, replicator)
    await joined.over.wait()
    assert joined.dialler_ending is not None
    assert joined.dialler_ending.reason is EndReason.SELF


@pytest.mark.parametrize("smaller_dials_first", [True, False])
async def test_of_two_connections_the_one_that_the_smaller_key_dialled_stays(
    nursery: trio.Nursery, smaller_dials_first: bool
) -> None:
    smaller, larger = sorted((Replicator(), Replicator()), key=lambda replicator: replicator.public_key)
    pairs = [(smaller, larger), (larger, smaller)]
    if not smaller_dials_first:
        pairs.reverse()
    joined = {}
    for dialler, listener in pairs:
        joined[dialler] = join(nursery, dialler, listener)
        await settled()
    await joined[larger].over.wait()
    ending = joined[larger].dialler_ending
    assert ending is not None
    assert ending.reason is EndReason.DOUBLE
    assert not joined[smaller].over.is_set()


@pytest.mark.parametrize("tcp_first", [True, False])
@pytest.mark.parametrize("smaller_dials_tcp", [True, False])
async def test_of_tcp_and_utp_tcp_stays_whoever_dialled_it(
    nursery: trio.Nursery, smaller_dials_tcp: bool, tcp_first: bool
) -> None:
    smaller, larger = sorted((Replicator(), Replicator()), key=lambda replicator: replicator.public_key)
    by_tcp, by_utp = (smaller, larger) if smaller_dials_tcp else (larger, smaller)
    dialled = [(by_tcp, by_utp, True), (by_utp, by_tcp, False)]
    joined = {}
    for dialler, listener, is_tcp in dialled if tcp_first else reversed(dialled):
        joined[is_tcp] = join(nursery, dialler, listener, is_tcp=is_tcp)
        await settled()
    await joined[False].over.wait()
    ending = joined[False].dialler_ending
    assert ending is not None
    assert ending.reason is EndReason.DOUBLE
    assert not joined[True].over.is_set()


async def test_of_two_connections_dialled_by_one_side_the_older_stays(nursery: trio.Nursery) -> None:
    dialler, listener = Replicator(), Replicator()
    first = join(nursery, dialler, listener)
    await settled()
    second = join(nursery, dialler, listener)
    await second.over.wait()
    assert not first.over.is_set()


async def test_an_unknown_core_is_refused(nursery: trio.Nursery) -> None:
    replicator = serving(await writer(3))
    other = Replicator()
    core = await Core.open(MemoryDirectory(), key=key_pair(bytes(32)).public, source=other)
    other.add_core(core)
    join(nursery, other, replicator)
    await settled()
    assert other.status().cores[0].peers == 0
    assert len(other.status().peers) == 1


async def test_room_is_made_by_strangers_first_and_then_by_the_newest_of_a_crowd(nursery: trio.Nursery) -> None:
    core = await writer(1)
    listener = serving(core)
    older = join(nursery, serving(core), listener, accepted="crowd:1")
    await settled()
    newer = join(nursery, serving(core), listener, accepted="crowd:2")
    stranger = join(nursery, Replicator(), listener, accepted="stranger:1")
    await settled()
    everybody = {"crowd:1", "crowd:2", "stranger:1"}
    assert listener.make_room(everybody, {"crowd:1", "crowd:2"})
    await stranger.over.wait()
    assert not listener.can_make_room(everybody, {"elsewhere:1"})
    assert listener.make_room(everybody, {"crowd:1", "crowd:2"})
    await newer.over.wait()
    assert not older.over.is_set()
