"""What discoveries find is dialled, within bounds, once, and for as long as it is wanted; what is announced follows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
import trio.testing

from hyperfs.replication import Follow, Replicator
from hyperfs.swarm import Swarm
from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dialler import ATTEMPTS
from hyperfs.swarm.dialling import CONNECT_SECONDS
from hyperfs.swarm.discovery import Found, Interest, LookTimer
from hyperfs.swarm.routes import TcpRoute
from hyperfs.swarm.topics import (
    ALONE_SECONDS,
    FIRST_LOOK_SECONDS,
    MAX_WAITING,
    MAX_WAITING_OF_HOST,
    TARGET,
    TARGET_OF_HOST,
    TopicStatus,
)
from tests.support.peers import reader, serving, writer

TOPIC = bytes(32)
OTHER = bytes(range(32))
HERE = "127.0.0.1"


class Scripted:
    """A discovery that a test finds with; ``followed`` are the interests that are followed now."""

    name = "script"

    def __init__(self) -> None:
        self.followed: list[Interest] = []

    async def follow(self, interest: Interest) -> None:
        self.followed.append(interest)
        try:
            await trio.sleep_forever()
        finally:
            self.followed.remove(interest)

    def find(self, *addresses: Address, told_by: str | None = HERE) -> None:
        for interest in self.followed:
            for address in addresses:
                interest.found(Found(TcpRoute(*address), address, told_by))

    @property
    def announced(self) -> dict[bytes, int | None]:
        return {interest.topic: interest.port for interest in self.followed}


@asynccontextmanager
async def following(replicator: Replicator, discovery: Scripted) -> AsyncIterator[Swarm]:
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            yield Swarm(replicator, nursery, discoveries=[discovery])
            nursery.cancel_scope.cancel()


class Silent:
    """Everybody who is dialled lets us wait; ``dialled`` says who."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dialled: list[tuple[str, int]] = []
        monkeypatch.setattr(trio, "open_tcp_stream", self._open)

    async def _open(self, host: str, port: int) -> trio.SocketStream:
        self.dialled.append((host, port))
        await trio.sleep_forever()
        raise AssertionError


def places(first: int, count: int) -> list[Address]:
    return [Address(HERE, first + number) for number in range(count)]


def hosts(count: int) -> list[Address]:
    """Return one address at each of so many hosts."""
    return [Address(f"127.1.{number // 250}.{number % 250 + 1}", 1) for number in range(count)]


async def test_what_is_found_is_dialled_and_fetched_from() -> None:
    mine, theirs, discovery = Replicator(), serving(await writer(10)), Scripted()
    core = await reader(mine, follow=Follow.LENGTH)
    async with following(theirs, Scripted()) as listener, following(mine, discovery) as swarm:
        listening = await listener.listen(HERE, 0)
        swarm.join(core.discovery_key, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        discovery.find(Address(HERE, listening.port))
        await core.wait_longer(9)
        swarm.leave(core.discovery_key)
        assert swarm.peers == ()
        while mine.status().peers:
            await mine.wait_changed()


async def test_no_more_are_dialled_and_wait_than_a_topic_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    Silent(monkeypatch)
    discovery = Scripted()
    async with following(Replicator(), discovery) as swarm:
        swarm.join(TOPIC, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        discovery.find(*hosts(10 * MAX_WAITING))
        assert len(swarm.peers) == TARGET
        assert len(swarm._topics[TOPIC]._waiting) == MAX_WAITING


async def test_one_host_has_its_share_of_those_who_are_dialled_and_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, discovery = Silent(monkeypatch), Scripted()
    async with following(Replicator(), discovery) as swarm:
        swarm.join(TOPIC, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        discovery.find(*places(1, 10 * MAX_WAITING))
        assert len(swarm.peers) == TARGET_OF_HOST
        assert len(swarm._topics[TOPIC]._waiting) == MAX_WAITING_OF_HOST
        discovery.find(*hosts(1))
        await trio.testing.wait_all_tasks_blocked()
        assert tuple(hosts(1)[0]) in silent.dialled


async def test_who_is_given_up_makes_room_for_who_waits(
    patient_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, discovery = Silent(monkeypatch), Scripted()
    async with trio.open_nursery() as nursery:
        swarm = Swarm(Replicator(), nursery, discoveries=[discovery])
        swarm.join(TOPIC, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        found = [*hosts(TARGET), *places(1, TARGET_OF_HOST + 5)]
        discovery.find(*found)
        await trio.sleep(3600)
        assert {silent.dialled.count(tuple(place)) for place in found} == {ATTEMPTS}
        assert swarm.peers == ()
        nursery.cancel_scope.cancel()


async def test_who_is_found_twice_is_dialled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    silent, discovery = Silent(monkeypatch), Scripted()
    async with following(Replicator(), discovery) as swarm:
        for topic in (TOPIC, OTHER):
            swarm.join(topic, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        discovery.find(*places(1, 1), *places(1, 1))
        await trio.testing.wait_all_tasks_blocked()
        assert silent.dialled == [(HERE, 1)]
        swarm.leave(TOPIC)
        assert swarm.peers == ("127.0.0.1:1",)
        swarm.leave(OTHER)
        assert swarm.peers == ()


async def test_who_was_named_stays_when_he_is_no_longer_found_and_the_other_way_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Silent(monkeypatch)
    discovery = Scripted()
    async with following(Replicator(), discovery) as swarm:
        swarm.join(TOPIC, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        discovery.find(*places(1, 2))
        swarm.add_peer(HERE, 1)
        swarm.leave(TOPIC)
        assert swarm.peers == ("127.0.0.1:1",)
        swarm.remove_peer(HERE, 1)
        assert swarm.peers == ()


async def test_what_nobody_could_tell_of_is_not_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    Silent(monkeypatch)
    discovery = Scripted()
    async with following(Replicator(), discovery) as swarm:
        swarm.join(TOPIC, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        discovery.find(*places(1, 3), Address("192.168.1.1", 3282), told_by="93.184.216.34")
        assert swarm.peers == ()


async def test_our_own_address_is_not_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    discovery = Scripted()
    async with following(Replicator(), discovery) as swarm:
        listening = await swarm.listen(HERE, 0)
        swarm.join(TOPIC, looks=True, announces=True)
        await trio.testing.wait_all_tasks_blocked()
        discovery.find(Address(HERE, listening.port))
        assert swarm.peers == ()


async def test_a_route_that_turns_out_to_lead_to_ourselves_is_dialled_once() -> None:
    mine, discovery = Replicator(), Scripted()
    async with following(mine, discovery) as swarm:
        listening = await swarm.listen(HERE, 0)
        swarm.join(TOPIC, looks=True, announces=True)
        await trio.testing.wait_all_tasks_blocked()
        elsewhere = Address("127.0.0.1", listening.port)
        found = Found(TcpRoute("localhost", listening.port), elsewhere._replace(host="127.0.0.9"), HERE)
        for _ in range(3):
            for interest in discovery.followed:
                interest.found(found)
            while swarm.peers:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert list(swarm._dialler._own) == [found.route]


async def test_the_port_that_is_announced_is_the_one_that_is_listened_on() -> None:
    discovery = Scripted()
    async with following(Replicator(), discovery) as swarm:
        swarm.join(TOPIC, looks=False, announces=True)
        await trio.testing.wait_all_tasks_blocked()
        assert discovery.announced == {}
        first = await swarm.listen(HERE, 0)
        await trio.testing.wait_all_tasks_blocked()
        assert discovery.announced == {TOPIC: first.port}
        second = await swarm.listen(HERE, 0)
        swarm.unlisten(HERE, first.port)
        await trio.testing.wait_all_tasks_blocked()
        assert discovery.announced == {TOPIC: second.port}
        swarm.unlisten(HERE, second.port)
        await trio.testing.wait_all_tasks_blocked()
        assert discovery.announced == {}


async def test_who_only_looks_announces_nothing() -> None:
    discovery = Scripted()
    async with following(Replicator(), discovery) as swarm:
        await swarm.listen(HERE, 0)
        swarm.join(TOPIC, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        assert discovery.announced == {TOPIC: None}
        assert swarm.topics == {TOPIC: TopicStatus(looks=True, port=None, found=0, looked={})}


async def test_a_reader_that_waits_has_discoveries_look_again(patient_clock: trio.testing.MockClock) -> None:
    mine, discovery = Replicator(alone_timeout_seconds=1000), Scripted()
    core = await reader(mine)
    looked: list[float] = []

    async def look(timer: LookTimer) -> None:
        while True:
            looked.append(trio.current_time())
            await timer.pause(300, least_seconds=5)

    async with trio.open_nursery() as nursery:
        swarm = Swarm(mine, nursery, discoveries=[discovery])
        swarm.join(core.discovery_key, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(look, discovery.followed[0].timer)
        await trio.sleep(100)
        before = len(looked)
        with trio.move_on_after(1):
            await core.get(0)
        assert (before, len(looked)) == (1, 2)
        nursery.cancel_scope.cancel()


class Looking(Scripted):
    """A discovery that finds ``who`` each time that it looks; ``looked`` says when that was."""

    def __init__(self, *who: Address) -> None:
        super().__init__()
        self.who = who
        self.looked: list[float] = []

    async def follow(self, interest: Interest) -> None:
        self.followed.append(interest)
        while True:
            self.looked.append(trio.current_time())
            self.find(*self.who)
            await interest.timer.pause(10_000, least_seconds=2)


async def test_when_all_who_were_found_are_given_up_others_are_looked_for_at_once_and_then_ever_more_seldom(
    patient_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    Silent(monkeypatch)
    discovery = Looking(*places(1, 2))
    async with trio.open_nursery() as nursery:
        Swarm(Replicator(), nursery, discoveries=[discovery]).join(TOPIC, looks=True, announces=False)
        await trio.sleep(5000)
        nursery.cancel_scope.cancel()
    between = [later - earlier for earlier, later in pairwise(discovery.looked)]
    assert between[0] < 2 * ATTEMPTS * CONNECT_SECONDS
    assert between[6:] == pytest.approx([ALONE_SECONDS[1]] * len(between[6:]))
    assert len(between) > 12


async def test_who_moved_looks_again_also_when_that_is_only_over_soon(
    patient_clock: trio.testing.MockClock,
) -> None:
    discoveries = [Looking(), Looking()]
    async with trio.open_nursery() as nursery:
        swarm = Swarm(Replicator(), nursery, discoveries=discoveries)
        swarm.join(TOPIC, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        swarm.moved()
        await trio.sleep(100)
        swarm.moved()
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    began = discoveries[0].looked[0]
    for discovery in discoveries:
        assert [seconds - began for seconds in discovery.looked] == pytest.approx([0, 2, 100], abs=0.1)


class Announcing(Scripted):
    """A discovery that says what it does, and takes back what it announced only when ``may_end`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.may_end = trio.Event()

    async def follow(self, interest: Interest) -> None:
        self.done.append(f"announce {interest.port}")
        try:
            await super().follow(interest)
        finally:
            with trio.CancelScope(shield=True):
                await self.may_end.wait()
            self.done.append(f"take back {interest.port}")


async def test_what_was_announced_is_taken_back_before_it_is_announced_anew() -> None:
    discovery = Announcing()
    async with following(Replicator(), discovery) as swarm:
        port = (await swarm.listen(HERE, 0)).port
        swarm.join(TOPIC, looks=True, announces=True)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            swarm.leave(TOPIC)
            swarm.join(TOPIC, looks=True, announces=True)
            await trio.testing.wait_all_tasks_blocked()
        assert discovery.done == [f"announce {port}"]
        discovery.may_end.set()
        await trio.testing.wait_all_tasks_blocked()
        assert discovery.done == [f"announce {port}", f"take back {port}", f"announce {port}"]


async def test_who_was_found_stays_connected_when_it_is_announced_another_way() -> None:
    mine, theirs, discovery = Replicator(), serving(await writer(10)), Scripted()
    core = await reader(mine, follow=Follow.LENGTH)
    async with following(theirs, Scripted()) as listener, following(mine, discovery) as swarm:
        listening = await listener.listen(HERE, 0)
        swarm.join(core.discovery_key, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        discovery.find(Address(HERE, listening.port))
        await core.wait_longer(9)
        connected = mine.status().peers[0].name
        await swarm.listen(HERE, 0)
        swarm.join(core.discovery_key, looks=True, announces=True)
        await trio.testing.wait_all_tasks_blocked()
        assert [peer.name for peer in mine.status().peers] == [connected]
        assert swarm.peers == (connected,)


async def test_leaving_all_returns_when_all_is_taken_back() -> None:
    discovery = Announcing()
    async with following(Replicator(), discovery) as swarm:
        port = (await swarm.listen(HERE, 0)).port
        swarm.join(TOPIC, looks=False, announces=True)
        await trio.testing.wait_all_tasks_blocked()
        discovery.may_end.set()
        await swarm.leave_all()
        assert discovery.done == [f"announce {port}", f"take back {port}"]
        assert swarm.topics == {}


async def test_the_first_look_is_over_when_every_discovery_has_looked_or_is_off(
    patient_clock: trio.testing.MockClock,
) -> None:
    discovery = Scripted()
    async with trio.open_nursery() as nursery:
        swarm = Swarm(Replicator(), nursery, discoveries=[discovery])
        swarm.join(TOPIC, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        assert swarm.is_looking
        discovery.followed[0].looked("3 of 3 nodes answered")
        await swarm.wait_looked()
        await swarm.wait_found(TOPIC)
        assert trio.current_time() < FIRST_LOOK_SECONDS
        assert swarm.topics[TOPIC].looked == {"script": "3 of 3 nodes answered"}
        swarm.join(OTHER, looks=True, announces=False)
        await trio.testing.wait_all_tasks_blocked()
        discovery.followed[1].looked(None)
        await swarm.wait_found(OTHER)
        assert swarm.topics[OTHER].looked == {}
        assert not swarm.is_looking
        nursery.cancel_scope.cancel()


async def test_the_first_look_of_a_discovery_that_does_not_answer_has_an_end(
    patient_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        swarm = Swarm(Replicator(), nursery, discoveries=[Scripted()])
        swarm.join(TOPIC, looks=True, announces=False)
        before = trio.current_time()
        await swarm.wait_found(TOPIC)
        assert trio.current_time() - before == pytest.approx(FIRST_LOOK_SECONDS)
        assert swarm.topics[TOPIC].looked == {"script": "nobody has answered yet"}
        nursery.cancel_scope.cancel()
