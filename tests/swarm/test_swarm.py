"""Peers are accepted and dialled over real sockets, again and again, until nobody wants it any more."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
import trio.testing

from hyperfs.errors import BlockNotAvailable
from hyperfs.replication import Replicator
from hyperfs.swarm import Listening, Swarm, admission
from hyperfs.swarm.dialling import WANTED_DELAY_SECONDS, Dialling
from hyperfs.swarm.routes import TcpRoute, address_name
from tests.support.peers import block, reader, serving, writer

LIMIT_SECONDS = 60
ALONE = "127.0.7.1"
"""An address at which nobody else listens: a port of it that was given back is not another test's meanwhile."""


@asynccontextmanager
async def swarms(*replicators: Replicator) -> AsyncIterator[list[Swarm]]:
    """Run a swarm for each replicator until the block ends."""
    with trio.fail_after(LIMIT_SECONDS):
        async with trio.open_nursery() as nursery:
            yield [Swarm(replicator, nursery) for replicator in replicators]
            nursery.cancel_scope.cancel()


async def until_connected(replicator: Replicator, count: int = 1) -> None:
    while len(replicator.status().peers) != count:
        await replicator.wait_changed()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_a_block_is_fetched_from_a_listener(host: str) -> None:
    mine, theirs = Replicator(), serving(await writer(10))
    core = await reader(mine)
    async with swarms(mine, theirs) as (dialler, listener):
        listening = await listener.listen(host, 0)
        dialler.add_peer(host, listening.port)
        assert await core.get(3) == block(3)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
@pytest.mark.parametrize("dialled", ["127.0.0.1", "::1"])
async def test_all_addresses_are_listened_on_with_one_port(host: str, dialled: str) -> None:
    mine, theirs = Replicator(), Replicator()
    async with swarms(mine, theirs) as (dialler, listener):
        listening = await listener.listen(host, 0)
        dialler.add_peer(dialled, listening.port)
        await until_connected(mine)


async def test_listening_twice_is_listening_once() -> None:
    async with swarms(Replicator()) as (swarm,):
        first = await swarm.listen("127.0.0.1", 0)
        assert await swarm.listen("127.0.0.1", first.port) == first
        assert swarm.listening == (Listening("127.0.0.1", first.port),)


async def test_a_port_in_use_is_an_error() -> None:
    async with swarms(Replicator(), Replicator()) as (one, other):
        listening = await one.listen("127.0.0.1", 0)
        with pytest.raises(OSError, match="in use"):
            await other.listen("127.0.0.1", listening.port)


async def test_connections_outlive_their_listening() -> None:
    mine, theirs = Replicator(), Replicator()
    async with swarms(mine, theirs) as (dialler, listener):
        listening = await listener.listen(ALONE, 0)
        dialler.add_peer(ALONE, listening.port)
        await until_connected(theirs)
        listener.unlisten(ALONE, listening.port)
        await trio.testing.wait_all_tasks_blocked()
        assert listener.listening == ()
        assert len(theirs.status().peers) == 1
        with pytest.raises(OSError, match=r"refused|connect"):
            await trio.open_tcp_stream(ALONE, listening.port)


async def test_those_who_say_nothing_give_way_to_who_wants_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_OF_MACHINE", 8)
    mine, theirs = Replicator(), serving(await writer(10))
    core = await reader(mine)
    async with swarms(mine, theirs) as (dialler, listener):
        listening = await listener.listen("127.0.0.1", 0)
        silent = [await trio.open_tcp_stream("127.0.0.1", listening.port) for _ in range(20)]
        for stream in silent[:12]:
            assert await closed(stream)
        dialler.add_peer("127.0.0.1", listening.port)
        assert await core.get(3) == block(3)
        assert await closed(silent[12])
        late = [await trio.open_tcp_stream("127.0.0.1", listening.port) for _ in range(20)]
        for stream in [*silent[13:], *late[:13]]:
            assert await closed(stream)
        assert await core.get(4) == block(4)
        assert len(theirs.status().peers) == 1
        for stream in silent + late:
            await stream.aclose()


async def closed(stream: trio.SocketStream) -> bool:
    """Return once the other side has closed a stream, after whatever it has sent."""
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        return True
    return True


async def test_a_removed_peer_is_disconnected_and_not_dialled_again() -> None:
    mine, theirs = Replicator(), Replicator()
    async with swarms(mine, theirs) as (dialler, listener):
        listening = await listener.listen("127.0.0.1", 0)
        dialler.add_peer("127.0.0.1", listening.port)
        await until_connected(theirs)
        dialler.remove_peer("127.0.0.1", listening.port)
        await until_connected(theirs, 0)
        assert dialler.peers == ()
        dialler.remove_peer("127.0.0.1", listening.port)


async def test_a_peer_that_comes_later_is_found_by_dialling_on() -> None:
    mine, theirs = Replicator(), Replicator()
    async with swarms(mine, theirs) as (dialler, listener):
        listening = await listener.listen(ALONE, 0)
        listener.unlisten(ALONE, listening.port)
        await trio.testing.wait_all_tasks_blocked()
        dialler.add_peer(ALONE, listening.port)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await listener.listen(ALONE, listening.port)
        await until_connected(mine)


async def test_a_lost_connection_is_made_again() -> None:
    mine, theirs = Replicator(), serving(await writer(10))
    core = await reader(mine)
    async with swarms(mine, theirs) as (dialler, listener):
        listening = await listener.listen("127.0.0.1", 0)
        dialler.add_peer("127.0.0.1", listening.port)
        await core.get(1)
        for link in list(theirs._links):
            await link._stream.aclose()
        assert await core.get(2) == block(2)


async def test_a_connection_from_an_address_that_the_machine_has_no_more_is_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, theirs = Replicator(), Replicator()
    async with swarms(mine, theirs) as (dialler, listener):
        listening = await listener.listen("127.0.0.1", 0)
        dialler.add_peer("127.0.0.1", listening.port)
        await until_connected(mine)
        first = next(iter(mine._links))
        dialler.moved()
        assert not first._scope.cancel_called
        monkeypatch.setattr("hyperfs.swarm.swarm.has_address", lambda family, address: False)
        dialler.moved()
        while first in mine._links:
            await mine.wait_changed()
        await until_connected(mine)


async def test_our_own_address_is_dialled_once() -> None:
    mine = Replicator()
    async with swarms(mine) as (swarm,):
        listening = await swarm.listen("127.0.0.1", 0)
        await Dialling(mine, TcpRoute("127.0.0.1", listening.port)).run()
        assert mine.status().peers == ()


async def test_two_that_dial_each_other_keep_one_connection() -> None:
    one, other = Replicator(), Replicator()
    async with swarms(one, other) as (first, second):
        at_first, at_second = await first.listen("127.0.0.1", 0), await second.listen("127.0.0.1", 0)
        first.add_peer("127.0.0.1", at_second.port)
        second.add_peer("127.0.0.1", at_first.port)
        await until_connected(one)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert (len(one.status().peers), len(other.status().peers)) == (1, 1)


async def test_an_address_that_stays_away_is_one_line_in_the_log(
    patient_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled: list[float] = []

    async def refuse(host: str, port: int) -> trio.SocketStream:
        dialled.append(trio.current_time())
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    with trio.move_on_after(300):
        await Dialling(Replicator(), TcpRoute("away.example", 7)).run()
    gaps = [later - earlier for earlier, later in pairwise(dialled)]
    assert [record.levelno for record in caplog.records if "away.example:7" in record.getMessage()].count(
        logging.WARNING
    ) == 1
    assert gaps[0] <= 0.5
    assert all(15 <= gap <= 30 for gap in gaps[8:])


class Away:
    """An address that refuses all who dial it, and when they did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dialled: list[float] = []
        monkeypatch.setattr(trio, "open_tcp_stream", self._refuse)

    async def _refuse(self, host: str, port: int) -> trio.SocketStream:
        self.dialled.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("refused")


async def test_a_reader_that_waits_has_an_address_dialled_soon(
    patient_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, replicator = Away(monkeypatch), Replicator(alone_timeout_seconds=1000)
    core = await reader(replicator)
    async with trio.open_nursery() as nursery:
        Swarm(replicator, nursery).add_peer("away.example", 7)
        await trio.sleep(300)
        began = trio.current_time()
        nursery.start_soon(core.get, 0)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    since = [time - began for time in away.dialled if time >= began]
    assert since[0] <= WANTED_DELAY_SECONDS
    assert len(since) >= 9


async def test_readers_that_ask_again_and_again_do_not_have_an_address_dialled_as_often(
    patient_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, replicator = Away(monkeypatch), Replicator(alone_timeout_seconds=0)
    core = await reader(replicator)
    async with trio.open_nursery() as nursery:
        Swarm(replicator, nursery).add_peer("away.example", 7)
        for _ in range(100):
            with pytest.raises(BlockNotAvailable):
                await core.get(0)
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert len(away.dialled) <= 12


async def test_a_reader_that_gave_up_has_nothing_dialled_any_more(
    patient_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, replicator = Away(monkeypatch), Replicator(alone_timeout_seconds=1000)
    core = await reader(replicator)
    async with trio.open_nursery() as nursery:
        Swarm(replicator, nursery).add_peer("away.example", 7)
        with trio.move_on_after(60):
            await core.get(0)
        before = len(away.dialled)
        await trio.sleep(120)
        assert len(away.dialled) - before <= 8
        nursery.cancel_scope.cancel()


async def test_what_was_only_found_is_not_dialled_more_often_for_a_reader(
    patient_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, replicator = Away(monkeypatch), Replicator(alone_timeout_seconds=1000)
    core = await reader(replicator)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(core.get, 0)
        await Dialling(replicator, TcpRoute("away.example", 7), attempts=8).run()
        nursery.cancel_scope.cancel()
    assert away.dialled[-1] - away.dialled[0] > 30


async def test_why_an_address_is_not_reached_is_known() -> None:
    async with swarms(Replicator()) as (swarm,):
        swarm.add_peer("127.0.0.1", 1)
        await swarm.wait_tried()
        assert swarm.unreached == {"127.0.0.1:1": "Connection refused"}


async def test_an_address_that_is_reached_again_is_unreached_no_more() -> None:
    mine, theirs = Replicator(), Replicator()
    async with swarms(mine, theirs) as (dialler, listener):
        port = (await listener.listen(ALONE, 0)).port
        listener.unlisten(ALONE, port)
        await trio.testing.wait_all_tasks_blocked()
        dialler.add_peer(ALONE, port)
        await dialler.wait_tried()
        assert dialler.unreached
        await listener.listen(ALONE, port)
        dialler.add_peer(ALONE, port)
        await until_connected(mine)
        assert not dialler.unreached


async def test_a_connection_that_is_not_made_is_given_up(
    patient_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio, "open_tcp_stream", never)
    await Dialling(Replicator(), TcpRoute("silent.example", 7), attempts=1).run()
    assert "no answer in 10 s" in caplog.text


async def test_who_accepts_and_says_nothing_is_given_up(
    patient_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[trio.abc.Stream] = []

    async def accept(host: str, port: int) -> trio.abc.Stream:
        mine, theirs = trio.testing.memory_stream_pair()
        opened.append(theirs)
        return mine

    monkeypatch.setattr(trio, "open_tcp_stream", accept)
    with trio.fail_after(3600):
        await Dialling(Replicator(), TcpRoute("silent.example", 7), attempts=3).run()
    assert len(opened) == 3


async def never(host: str, port: int) -> trio.SocketStream:
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize(("host", "name"), [("a.example", "a.example:1"), ("::1", "[::1]:1"), ("1.2.3.4", "1.2.3.4:1")])
def test_addresses_are_named_as_people_write_them(host: str, name: str) -> None:
    assert address_name(host, 1) == name


@pytest.mark.parametrize("host", ["a..b", "long" * 20])
async def test_a_name_that_no_host_can_have_is_not_reached_as_one_that_nobody_has(host: str) -> None:
    with trio.fail_after(LIMIT_SECONDS):
        async with trio.open_nursery() as nursery:
            swarm = Swarm(Replicator(), nursery)
            swarm.add_peer(host, 7)
            await swarm.wait_tried()
            assert swarm.unreached == {f"{host}:7": "no host can have this name"}
            with pytest.raises(OSError, match="cannot listen there: no host"):
                await swarm.listen(host, 7)
            nursery.cancel_scope.cancel()
