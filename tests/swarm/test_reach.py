"""Nobody makes us dial where he could not be himself."""

import pytest

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.interfaces import interfaces
from hyperfs.swarm.reach import Scope, may_dial, scope_of

PUBLIC = "93.184.216.34"
PRIVATE = "192.168.1.7"
LOOPBACK = "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        (PUBLIC, Scope.INTERNET),
        ("10.0.0.1", Scope.NETWORK),
        ("172.16.0.1", Scope.NETWORK),
        (PRIVATE, Scope.NETWORK),
        ("169.254.1.1", Scope.NETWORK),
        ("100.64.0.1", Scope.NETWORK),
        (LOOPBACK, Scope.MACHINE),
        ("127.8.8.8", Scope.MACHINE),
        ("0.0.0.0", Scope.NOWHERE),
        ("224.0.0.251", Scope.NOWHERE),
        ("239.1.1.1", Scope.NOWHERE),
        ("255.255.255.255", Scope.NOWHERE),
    ],
)
def test_an_address_has_a_scope(host: str, scope: Scope) -> None:
    assert scope_of(host) is scope


@pytest.mark.parametrize(
    ("host", "told_by", "dialled"),
    [
        (PUBLIC, PUBLIC, True),
        (PRIVATE, PUBLIC, False),
        (LOOPBACK, PUBLIC, False),
        (PUBLIC, PRIVATE, True),
        (PRIVATE, PRIVATE, True),
        (LOOPBACK, PRIVATE, False),
        (LOOPBACK, LOOPBACK, True),
        (PRIVATE, None, True),
        ("224.0.0.251", LOOPBACK, False),
        ("0.0.0.0", None, False),
    ],
)
def test_a_teller_tells_of_what_is_at_least_as_far_as_he_is(host: str, told_by: str | None, dialled: bool) -> None:
    assert may_dial(Address(host, 3282), told_by=told_by, own=()) == dialled


def test_our_own_address_and_port_0_are_not_dialled() -> None:
    here = Address(PUBLIC, 3282)
    assert not may_dial(here, told_by=PUBLIC, own={here})
    assert may_dial(Address(PUBLIC, 3283), told_by=PUBLIC, own={here})
    assert not may_dial(Address(PUBLIC, 0), told_by=PUBLIC, own=())


def test_the_loopback_interface_is_known_for_what_it_is() -> None:
    assert [interface.host for interface in interfaces() if interface.is_loopback] == [LOOPBACK]
