"""The rates of all connections together. The clock is a virtual one."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from hyperfs.replication import Replicator
from hyperfs.replication.limits import SMALL_BYTES, Limits, RateLimit
from tests.support.peers import join_far, nursery_to_cancel, reader, serving, writer

BLOCK_BYTES = 16 << 10
COUNT = 200
RATE = COUNT * BLOCK_BYTES // 10
"""By which all blocks take ten seconds."""


Use = Callable[[int, str, bool], Awaitable[float]]


async def seconds_to_fetch(replicator: Replicator, server: Replicator) -> float:
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        join_far(nursery, replicator, server, round_trip=0.05)
        await core.get(0)
        start = trio.current_time()
        await core.fetch([range(COUNT)])
        return trio.current_time() - start
    raise AssertionError


async def served() -> Replicator:
    return serving(await writer(0, blocks=[bytes([index % 251]) * BLOCK_BYTES for index in range(COUNT)]))


async def test_what_is_sent_keeps_to_its_limit(patient_clock: trio.testing.MockClock) -> None:
    server = await served()
    server.limits.up.rate = RATE
    assert await seconds_to_fetch(Replicator(), server) == pytest.approx(10, rel=0.05)


async def test_what_is_received_keeps_to_its_limit(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator()
    replicator.limits.down.rate = RATE
    assert await seconds_to_fetch(replicator, await served()) == pytest.approx(10, rel=0.05)


async def test_several_have_equal_shares_of_it(patient_clock: trio.testing.MockClock) -> None:
    server = await served()
    server.limits.up.rate = 4 * RATE
    seconds = []

    async def fetch() -> None:
        seconds.append(await seconds_to_fetch(Replicator(), server))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(fetch)
    assert seconds == pytest.approx([10] * 4, rel=0.1)


async def test_no_limit_lets_go_who_waits(patient_clock: trio.testing.MockClock) -> None:
    limit = RateLimit()
    limit.rate = 1
    await limit.take(SMALL_BYTES + 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limit.take, SMALL_BYTES + 1)
        await trio.testing.wait_all_tasks_blocked()
        limit.rate = 0
    assert trio.current_time() < 1


async def test_small_pieces_do_not_wait_and_count(patient_clock: trio.testing.MockClock) -> None:
    limit = RateLimit()
    limit.rate = 8 * SMALL_BYTES
    await limit.take(SMALL_BYTES + 1)
    assert await limit.take(SMALL_BYTES) == 0
    assert await limit.take(SMALL_BYTES + 1) == pytest.approx(2 / 8, rel=0.1)


async def test_nothing_but_small_pieces_keeps_to_the_limit_too(patient_clock: trio.testing.MockClock) -> None:
    limit = RateLimit()
    limit.rate = 100_000
    for _ in range(1000):
        await limit.take(1000)
    assert trio.current_time() == pytest.approx(10, rel=0.05)


async def test_hosts_have_equal_shares_of_it_however_many_connections_they_have(
    patient_clock: trio.testing.MockClock,
) -> None:
    limit = RateLimit()
    limit.rate = RATE
    taken = dict.fromkeys(("one", "many"), 0)

    async def take_without_end(host: str) -> None:
        while True:
            await limit.take(BLOCK_BYTES, host)
            taken[host] += BLOCK_BYTES

    async with trio.open_nursery() as nursery:
        for host in ("many",) * 8 + ("one",):
            nursery.start_soon(take_without_end, host)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert taken["one"] == pytest.approx(taken["many"], rel=0.05)
    assert sum(taken.values()) == pytest.approx(10 * RATE, rel=0.05)


async def test_what_a_limit_adds_makes_no_peer_a_far_one(patient_clock: trio.testing.MockClock) -> None:
    replicator = Replicator()
    replicator.limits.down.rate = RATE
    await replicator.limits.received(2 * RATE, "busy", by_stranger=False)
    async with nursery_to_cancel() as nursery:
        start = trio.current_time()
        join_far(nursery, replicator, await served(), round_trip=0.005)
        await replicator.wait_changed()
        [link] = replicator._links
        assert trio.current_time() - start > 0.5
        assert link.handshake_seconds == pytest.approx(0.005, rel=0.1)


def _sending(limits: Limits) -> Use:
    return lambda size, host, strange: limits.sending(size, host, to_stranger=strange)


def _received(limits: Limits) -> Use:
    return lambda size, host, strange: limits.received(size, host, by_stranger=strange)


@pytest.mark.parametrize("use", [_sending, _received])
async def test_strangers_leave_nearly_all_of_the_limit_to_who_knows_a_key(
    use: Callable[[Limits], Use], patient_clock: trio.testing.MockClock
) -> None:
    limits = Limits()
    limits.up.rate = limits.down.rate = RATE

    async def send_without_end() -> None:
        while True:
            await use(limits)(30_000, "strange", True)

    async with trio.open_nursery() as nursery:
        for _ in range(24):
            nursery.start_soon(send_without_end)
        await trio.sleep(10)
        start = trio.current_time()
        for _ in range(COUNT):
            await use(limits)(BLOCK_BYTES, "known", False)
        assert trio.current_time() - start < 12
        nursery.cancel_scope.cancel()
