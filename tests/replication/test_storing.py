"""Answers on their way to the disk: what goes on at one time, in which order, and how much of it."""

import threading
from types import SimpleNamespace

import pytest
import trio

from hyperfs.core.proofs import Received
from hyperfs.crypto import leaf_hash
from hyperfs.replication.memory import Memory
from hyperfs.replication.meter import Meter
from hyperfs.replication.pace import Account, Pace
from hyperfs.replication.storing import MAX_UNSTORED_BYTES, Storing
from tests.support.clocks import settled

LARGE = 300_000


class SlowDisk:
    """An exchange whose disk writes nothing before it is told to; notes what it was given."""

    def __init__(self) -> None:
        self.core = SimpleNamespace(format=SimpleNamespace(leaf_hash=self._leaf_hash))
        self.writes = trio.Semaphore(0)
        self.asking = self
        self.taken: list[list[Received]] = []
        self.refilled = 0
        self.hashed: list[bytes] = []
        self.threads: set[int] = set()

    def _leaf_hash(self, value: bytes) -> bytes:
        self.threads.add(threading.get_ident())
        self.hashed.append(value)
        return leaf_hash(value)

    async def take(self, peer: object, answers: list[tuple[Received, None]]) -> None:
        self.taken.append([received for received, _ in answers])
        await self.writes.acquire()

    def refill(self, peer: object) -> None:
        self.refilled += 1


class AnsweringPeer:
    """Who answers, as far as storing wants to know."""

    is_open = True

    def __init__(self, exchange: SlowDisk) -> None:
        self.exchange = exchange
        self.requests = SimpleNamespace(unsure=False)
        self.window = SimpleNamespace(answered=lambda *arguments: None)


@pytest.fixture
def disk() -> SlowDisk:
    return SlowDisk()


@pytest.fixture
def peer(disk: SlowDisk) -> AnsweringPeer:
    return AnsweringPeer(disk)


@pytest.fixture
async def storing(nursery: trio.Nursery) -> Storing:
    storing = Storing(Meter(), Account(Pace()), Memory(), lambda peer, error: None)
    nursery.start_soon(storing.hash)
    nursery.start_soon(storing.store)
    return storing


async def arrive(storing: Storing, peer: AnsweringPeer, *indexes: int, size: int = LARGE) -> None:
    for index in indexes:
        storing.answers_of(peer).append((block(index, size), None))
    storing.add(size * len(indexes))
    await storing.wait_room()


def block(index: int, size: int = LARGE) -> Received:
    return Received(index, bytes([index]) * size, (), None)


async def test_blocks_are_hashed_while_those_before_them_are_written(
    storing: Storing, peer: AnsweringPeer, disk: SlowDisk
) -> None:
    for index in range(2):
        await arrive(storing, peer, index)
        await settled()
    assert (len(disk.hashed), len(disk.taken)) == (2, 1)


async def test_blocks_are_written_in_the_order_in_which_they_came(
    storing: Storing, peer: AnsweringPeer, disk: SlowDisk
) -> None:
    for index in range(3):
        await arrive(storing, peer, index)
        disk.writes.release()
    disk.writes.release()
    await storing.finish()
    assert [received.index for taken in disk.taken for received in taken] == [0, 1, 2]


async def test_large_blocks_come_to_the_core_with_their_hash(
    storing: Storing, peer: AnsweringPeer, disk: SlowDisk
) -> None:
    disk.writes.release()
    await arrive(storing, peer, 7)
    await storing.finish()
    assert disk.taken == [[block(7)._replace(leaf=leaf_hash(block(7).value or b""))]]


async def test_large_blocks_are_hashed_outside_of_the_loop(
    storing: Storing, peer: AnsweringPeer, disk: SlowDisk
) -> None:
    disk.writes.release()
    await arrive(storing, peer, 7)
    await storing.finish()
    assert threading.get_ident() not in disk.threads


async def test_small_blocks_take_no_thread(storing: Storing, peer: AnsweringPeer, disk: SlowDisk) -> None:
    disk.writes.release()
    await arrive(storing, peer, 0, 1, 2, size=100)
    await storing.finish()
    assert not disk.threads


async def test_more_is_asked_for_once_blocks_are_written(storing: Storing, peer: AnsweringPeer, disk: SlowDisk) -> None:
    await arrive(storing, peer, 0, size=100)
    await settled()
    before = disk.refilled
    disk.writes.release()
    await storing.finish()
    assert (before, disk.refilled) == (0, 1)


async def test_a_slow_disk_holds_up_who_receives(storing: Storing, peer: AnsweringPeer, nursery: trio.Nursery) -> None:
    received: list[int] = []

    async def receive() -> None:
        for index in range(100):
            await arrive(storing, peer, index, size=MAX_UNSTORED_BYTES // 4)
            received.append(index)

    nursery.start_soon(receive)
    await settled()
    assert len(received) <= 3 * 5


async def test_what_was_not_written_at_the_end_is_told(storing: Storing, peer: AnsweringPeer) -> None:
    flights = [SimpleNamespace(asked_at=0.0, delivered_at_asking=0) for _ in range(3)]
    for index, flight in enumerate(flights):
        storing.answers_of(peer).append((block(index, 10), flight))
        storing.add(10)
        await settled()
    assert [flight for _, flights in storing.unstored() for flight in flights] == flights
