"""A machine that comes to be elsewhere in the network is told of that once, whatever made it so."""

import socket
from dataclasses import replace

import pytest
import trio
import trio.testing

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.interfaces import Interface, has_address
from hyperfs.swarm.whereabouts import LOOK_SECONDS, SLEPT_SECONDS, Whereabouts, tell_moves, whereabouts

CABLE = Interface(2, is_loopback=False, host="192.168.1.7")
RADIO = Interface(3, is_loopback=False, host="10.0.0.7")
PUBLIC = Address("203.0.113.7", 3282)
HOME = Whereabouts(frozenset({CABLE}), PUBLIC, 100.0)


@pytest.mark.parametrize(
    ("now", "is_elsewhere"),
    [
        (HOME, False),
        (replace(HOME, interfaces=frozenset({CABLE, RADIO})), True),
        (replace(HOME, interfaces=frozenset({replace(CABLE, host="192.168.1.8")})), True),
        (replace(HOME, interfaces=frozenset()), False),
        (replace(HOME, public=Address("203.0.113.8", 3282)), True),
        (replace(HOME, public=None), False),
        (replace(HOME, slept_seconds=100.0 + SLEPT_SECONDS), True),
        (replace(HOME, slept_seconds=101.0), False),
    ],
)
def test_what_makes_announcements_worthless_is_a_move(now: Whereabouts, is_elsewhere: bool) -> None:
    assert now.is_elsewhere(HOME) == is_elsewhere


async def test_a_move_is_told_once_and_so_is_a_public_address_that_was_unknown_meanwhile(
    patient_clock: trio.testing.MockClock,
) -> None:
    stands, told = HOME, list[float]()
    away = replace(HOME, interfaces=frozenset())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_moves, lambda: stands, lambda: told.append(trio.current_time()))
        for now, moves in (
            (HOME, 0),
            (away, 0),
            (replace(HOME, public=None), 1),
            (HOME, 1),
            (replace(HOME, public=None), 1),
            (replace(HOME, public=Address("203.0.113.9", 1)), 2),
        ):
            stands = now
            await trio.sleep(10 * LOOK_SECONDS)
            assert len(told) == moves
        nursery.cancel_scope.cancel()


async def test_a_machine_that_cannot_be_looked_at_is_where_it_was(patient_clock: trio.testing.MockClock) -> None:
    told: list[float] = []
    looks = iter([HOME, OSError("too many open files"), HOME, replace(HOME, public=Address("203.0.113.9", 1))])

    def look() -> Whereabouts:
        now = next(looks, HOME)
        if isinstance(now, OSError):
            raise now
        return now

    with trio.move_on_after(3.5 * LOOK_SECONDS):
        await tell_moves(look, lambda: told.append(trio.current_time()))
    assert len(told) == 1


def test_loopback_is_no_whereabouts_and_a_machine_is_where_it_was() -> None:
    now = whereabouts(None)
    assert not any(interface.is_loopback for interface in now.interfaces)
    assert not whereabouts(None).is_elsewhere(now)


@pytest.mark.parametrize(
    ("family", "address", "has"),
    [
        (socket.AF_INET, ("127.0.0.1", 80), True),
        (socket.AF_INET, ("192.0.2.1", 80), False),
        (socket.AF_INET6, ("::1", 80, 0, 0), True),
        (socket.AF_INET6, ("2001:db8::1", 80, 0, 0), False),
    ],
)
def test_a_machine_knows_its_addresses(family: int, address: tuple[object, ...], has: bool) -> None:
    assert has_address(family, address) == has
