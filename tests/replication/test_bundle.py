"""Several connections to one far peer, dialled as the swarm dials. The clock is a virtual one."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.replication import Replicator
from hyperfs.swarm.dialling import Dialling
from tests.support.peers import far_streams, nursery_to_cancel, reader, serving, writer

ROUND_TRIP = 0.2
RATE = 1e6
"""What one connection brings, in bits a second."""
BLOCK_BYTES = 16 << 10
COUNT = 160
ALONE_SECONDS = COUNT * BLOCK_BYTES * 8 / RATE
"""What one connection takes."""


class FarRoute:
    """A route to ``listener`` on which each connection has a line of its own; ``room`` more are let through."""

    name = "far:1"

    def __init__(self, nursery: trio.Nursery, listener: Replicator, *, room: int = 100) -> None:
        self.opened: list[trio.abc.Stream] = []
        self._nursery = nursery
        self._listener = listener
        self._room = room

    async def open(self) -> trio.abc.Stream:
        """See `hyperfs.swarm.routes.Route`."""
        await trio.sleep(ROUND_TRIP)
        if len(self.opened) >= self._room:
            raise ConnectionRefusedError
        near, far = far_streams(self._nursery, round_trip=ROUND_TRIP, rate=RATE)
        self.opened.append(near)
        name = f"reader:{len(self.opened)}"
        self._nursery.start_soon(lambda: self._listener.run(far, initiator=False, name=name))
        return near


Look = Callable[[FarRoute, Replicator, Replicator], Awaitable[None]]


async def seconds_to_fetch(*, room: int = 100, meanwhile: Look | None = None) -> float:
    """Return how long a core of ``COUNT`` blocks takes; ``meanwhile`` is called in the middle of it."""
    theirs = await writer(0, blocks=[bytes([index % 251]) * BLOCK_BYTES for index in range(COUNT)])
    replicator, server = Replicator(), serving(theirs)
    core: Core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        route = FarRoute(nursery, server, room=room)
        nursery.start_soon(Dialling(replicator, route).run)
        await core.get(0)
        start = trio.current_time()
        async with trio.open_nursery() as fetching:
            fetching.start_soon(core.fetch, [range(COUNT)])
            await core.fetch([range(COUNT // 2)])
            if meanwhile is not None:
                await meanwhile(route, replicator, server)
        return trio.current_time() - start
    raise AssertionError


async def test_several_bring_more_than_one(patient_clock: trio.testing.MockClock) -> None:
    assert 1.6 * await seconds_to_fetch() <= ALONE_SECONDS


async def test_they_are_shown_as_one_peer(patient_clock: trio.testing.MockClock) -> None:
    async def look(route: FarRoute, replicator: Replicator, server: Replicator) -> None:
        assert len(route.opened) > 1
        assert replicator.peer_count == 1
        (status,) = replicator.peer_statuses()
        assert status.downloaded_bytes >= COUNT // 2 * BLOCK_BYTES
        assert [one.peers for one in replicator.core_statuses()] == [1]
        # each goes by a key of its own: whoever closes doubles closes none of them
        keys = [one.remote_key for one in server.peer_statuses()]
        assert len(set(keys)) == len(keys) > 1

    await seconds_to_fetch(meanwhile=look)


async def test_when_one_ends_the_others_bring_what_it_owed(patient_clock: trio.testing.MockClock) -> None:
    async def break_one(route: FarRoute, replicator: Replicator, server: Replicator) -> None:
        await route.opened[1].aclose()

    async def break_first(route: FarRoute, replicator: Replicator, server: Replicator) -> None:
        await route.opened[0].aclose()

    assert await seconds_to_fetch(meanwhile=break_one) < ALONE_SECONDS
    assert await seconds_to_fetch(meanwhile=break_first) < ALONE_SECONDS


async def test_a_peer_that_lets_no_more_in_is_not_asked_again(patient_clock: trio.testing.MockClock) -> None:
    async def look(route: FarRoute, replicator: Replicator, server: Replicator) -> None:
        assert len(route.opened) == 1

    assert await seconds_to_fetch(room=1, meanwhile=look) == pytest.approx(ALONE_SECONDS, rel=0.2)


async def test_those_that_are_not_needed_any_more_are_closed(patient_clock: trio.testing.MockClock) -> None:
    async def look(route: FarRoute, replicator: Replicator, server: Replicator) -> None:
        assert server.peer_count > 1
        await trio.sleep(45)
        assert server.peer_count == 1

    await seconds_to_fetch(meanwhile=look)
