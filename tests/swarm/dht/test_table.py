"""The table knows neighbours better than strangers, and finds the nearest to anything."""

import random

from hypothesis import given
from hypothesis import strategies as st

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.table import BUCKET_NODES, RoutingTable

OWN = bytes(32)
US = Address("192.0.2.1", 1)


def an_id(number: int) -> bytes:
    return number.to_bytes(32, "big")


def place(number: int) -> Address:
    return Address("10.0.0.1", number + 1)


def filled(ids: list[int]) -> RoutingTable:
    table = RoutingTable(OWN)
    for number, node_id in enumerate(ids):
        table.heard(an_id(node_id), place(number), 0.0, None)
    return table


@given(st.sets(st.integers(1, 2**256 - 1), max_size=60), st.integers(0, 2**256 - 1), st.integers(1, 30))
def test_the_nearest_are_those_with_the_least_distance(ids: set[int], target: int, most: int) -> None:
    table = filled(sorted(ids))
    expected = sorted((contact.number for contact in table), key=lambda number: number ^ target)[:most]
    assert [contact.number for contact in table.closest(an_id(target), most)] == expected


def test_a_full_bucket_names_its_oldest_instead_of_taking_one_more_up() -> None:
    far = [2**255 + number for number in range(BUCKET_NODES + 1)]
    table = filled(far[:-1])
    table.heard(an_id(far[0]), place(0), 1.0, None)
    oldest = table.heard(an_id(far[-1]), place(99), 2.0, None)
    assert [contact.number for contact in oldest] == [*far[1:-1], far[0]]
    assert table.get(an_id(far[-1])) is None


def test_neighbours_are_all_known_where_strangers_are_not() -> None:
    rng = random.Random(1)
    strangers = [2**255 + rng.getrandbits(200) for _ in range(100)]
    neighbours = list(range(1, 21))
    table = filled(strangers + neighbours)
    assert len(table) == BUCKET_NODES + len(neighbours)


def test_who_was_heard_of_last_comes_last() -> None:
    table = filled([5, 6, 7])
    table.heard(an_id(5), place(0), 1.0, US)
    assert [contact.number for contact in table] == [6, 7, 5]
    assert [contact.number for contact in table.latest(2)] == [5, 7]


def test_where_somebody_sees_us_is_kept_until_he_says_something_else() -> None:
    table = filled([5])
    table.heard(an_id(5), place(0), 1.0, US)
    table.heard(an_id(5), place(0), 2.0, None)
    contact = table.get(an_id(5))
    assert contact is not None
    assert (contact.sees_us_at, contact.heard_at) == (US, 2.0)


def test_our_own_id_is_no_contact() -> None:
    table = filled([0, 1])
    assert [contact.number for contact in table] == [1]
    table.remove(an_id(1))
    table.remove(an_id(1))
    assert len(table) == 0
