"""One network may not take all connections, nor come back under ever new keys."""

from contextlib import ExitStack

import pytest
import trio
import trio.testing

from hyperfs.replication.bans import BAN_SECONDS
from hyperfs.swarm.admission import (
    MAX_ACCEPTED,
    MAX_OF_MACHINE,
    MAX_OF_NETWORK,
    MAX_OFFENCES,
    Admission,
    network_of,
)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", None),
        ("::1", None),
        ("somewhere", None),
    ],
)
def test_the_network_of_a_host(host: str, network: str | None) -> None:
    assert network_of(host) == network


async def test_one_network_has_its_share_of_the_connections() -> None:
    admission = Admission()
    with ExitStack() as connections:
        for number in range(MAX_OF_NETWORK):
            connections.enter_context(admission.admitted(f"2001:db8::{number:x}", str(number)))
        assert admission.refusal("2001:db8::ffff") is not None
        assert admission.refusal("2001:db8:0:1::1") is None
    assert admission.refusal("2001:db8::ffff") is None


async def test_connections_of_one_name_are_counted_each() -> None:
    admission = Admission()
    with ExitStack() as connections:
        for _ in range(MAX_OF_NETWORK - 1):
            connections.enter_context(admission.admitted("192.0.2.7", "192.0.2.7:1"))
        assert admission.refusal("192.0.2.7") is None
        with admission.admitted("192.0.2.7", "192.0.2.7:1"):
            assert admission.refusal("192.0.2.7") is not None
        assert admission.refusal("192.0.2.7") is None


async def test_there_is_an_end_to_all_connections_together() -> None:
    admission = Admission()
    with ExitStack() as connections:
        for number in range(MAX_ACCEPTED):
            connections.enter_context(admission.admitted(f"192.0.{number // 100}.{number % 100 + 1}", str(number)))
        assert admission.refusal("198.51.100.1") is not None
        assert admission.refusal("127.0.0.1") is not None


async def test_where_all_places_are_taken_who_has_several_gives_one_to_who_has_none() -> None:
    admission = Admission()
    with ExitStack() as connections:
        for number in range(2):
            connections.enter_context(admission.admitted("198.51.100.7", f"crowd {number}"))
        for number in range(MAX_ACCEPTED - 2):
            connections.enter_context(admission.admitted(f"192.0.{number // 100}.{number % 100 + 1}", str(number)))
        refusal = admission.refusal("203.0.113.1")
        assert refusal is not None
        assert list(refusal.crowd) == ["crowd 0", "crowd 1"]
        again = admission.refusal("192.0.0.1")
        assert again is not None
        assert list(again.crowd) == []


async def test_a_network_where_peers_misbehave_again_and_again_is_refused_for_a_while(
    patient_clock: trio.testing.MockClock,
) -> None:
    admission = Admission()
    for _ in range(MAX_OFFENCES):
        assert admission.refusal("192.0.2.7") is None
        admission.note_offence("192.0.2.7")
    assert admission.refusal("192.0.2.7") is not None
    assert admission.refusal("192.0.2.8") is None
    await trio.sleep(BAN_SECONDS)
    assert admission.refusal("192.0.2.7") is None


async def test_this_machine_is_not_banned_for_what_comes_through_a_tunnel() -> None:
    admission = Admission()
    for _ in range(10):
        admission.note_offence("127.0.0.1")
    assert admission.refusal("127.0.0.1") is None


async def test_this_machine_leaves_room_for_others() -> None:
    admission = Admission()
    with ExitStack() as connections:
        for number in range(MAX_OF_MACHINE):
            assert admission.refusal("127.0.0.1") is None
            connections.enter_context(admission.admitted("127.0.0.1", str(number)))
        assert admission.refusal("::1") is not None
        assert admission.refusal("192.0.2.7") is None
