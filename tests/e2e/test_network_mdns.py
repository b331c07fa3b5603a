"""Neighbours are found by multicast DNS on every network that a host is on, whenever it comes to be on it."""

from collections.abc import Iterator

import pytest

from tests.support.mdns_process import mdns_process
from tests.support.network import Network, network

TOPIC = bytes(range(32))


@pytest.fixture
def switch() -> Iterator[Network]:
    with network() as made:
        yield made


def test_neighbours_on_two_networks_are_found_and_find_us(switch: Network) -> None:
    between, left, right = (switch.namespace([]) for _ in range(3))
    ours_left, theirs_left = switch.cable(between, left)
    ours_right, theirs_right = switch.cable(between, right)
    with (
        mdns_process(TOPIC, 4001, wrapper=left.wrapper) as first,
        mdns_process(TOPIC, 4002, wrapper=right.wrapper) as second,
        mdns_process(TOPIC, 4003, wrapper=between.wrapper) as ours,
    ):
        assert first.next_found() == f"{ours_left}:4003"
        assert second.next_found() == f"{ours_right}:4003"
        assert {ours.next_found(), ours.next_found()} == {f"{theirs_left}:4001", f"{theirs_right}:4002"}


@pytest.mark.parametrize("who", ["who looks", "who announces"])
def test_a_network_that_comes_later_is_looked_at_then(switch: Network, who: str) -> None:
    there, later = switch.namespace([]), switch.namespace([])
    looker, announcer = (later, there) if who == "who looks" else (there, later)
    switch.cable(there, switch.namespace([]))  # somebody else is on a network already
    with (
        mdns_process(TOPIC, wrapper=looker.wrapper) as looking,
        mdns_process(TOPIC, 4001, looks=False, wrapper=announcer.wrapper),
    ):
        _, address = switch.cable(looker, announcer)
        assert looking.next_found() == f"{address}:4001"


def test_on_a_network_without_ipv4_nobody_is_found_and_nothing_breaks(switch: Network) -> None:
    announcer, looker = switch.host(0), switch.host(0)
    with (
        mdns_process(TOPIC, wrapper=looker.wrapper) as looking,
        mdns_process(TOPIC, 4001, looks=False, wrapper=announcer.wrapper),
    ):
        for host, address in ((looker, "12.0.0.1/24"), (announcer, "12.0.0.2/24")):
            switch.give(host, address)
        assert looking.next_found() == "12.0.0.2:4001"
