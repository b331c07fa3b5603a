"""A node helps others through their NATs, and lets nobody use that against a third."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.allowance import PROVEN_SECONDS, Rates
from hyperfs.swarm.dht.datagrams import Datagram, Holepunch, Kind, PeersInput, decode, encode
from hyperfs.swarm.dht.node import DhtNode
from hyperfs.swarm.dht.timers import Timers

ID = b"i" * 32
TOPIC = bytes(range(32))
ASKER = Address("11.0.0.1", 4000)
WANTED = Address("11.0.0.2", 4000)
REFERRER = Address("11.0.0.3", 4000)


class Lone:
    """A persistent node whose datagrams are noted instead of sent."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers = Timers(lambda: self.now)
        self.sent: list[tuple[Datagram, Address, int]] = []
        self.node = DhtNode(self.timers, self._send, id=ID, ephemeral=False, rng=random.Random(1))

    def _send(self, data: bytes, to: Address) -> None:
        datagram = decode(data)
        assert datagram is not None
        self.sent.append((datagram, to, len(data)))

    def holepunch(self, value: Holepunch | None, source: Address = ASKER) -> list[tuple[Datagram, Address, int]]:
        """Return what is sent because a ``_holepunch`` came."""
        before = len(self.sent)
        datagram = Datagram(Kind.QUERY, 9, command="_holepunch", value=None if value is None else value.encode())
        self.node.receive(encode(datagram), source)
        return self.sent[before:]

    def announce(self, source: Address) -> None:
        """Have somebody at ``source`` announce a topic."""
        self.node.receive(encode(Datagram(Kind.QUERY, 1, command="_ping")), source)
        token = self.sent[-1][0].token
        value = PeersInput(0).encode()
        self.node.receive(
            encode(Datagram(Kind.UPDATE, 2, target=TOPIC, token=token, command="peers", value=value)), source
        )

    def pass_time(self, seconds: float) -> None:
        self.now += seconds


def test_it_is_relayed_to_somebody_who_announced_here() -> None:
    lone = Lone()
    lone.announce(WANTED)
    [(relayed, to, _)] = lone.holepunch(Holepunch(to=WANTED))
    assert (to, relayed.rid, relayed.id, relayed.kind) == (WANTED, 9, ID, Kind.QUERY)
    assert Holepunch.decode(relayed.value) == Holepunch(sender=ASKER)


def test_it_is_relayed_to_a_node_of_the_table() -> None:
    lone = Lone()
    lone.node.receive(encode(Datagram(Kind.QUERY, 1, id=bytes(32), command="_ping")), WANTED)
    (ping,) = [sent for sent, _, _ in lone.sent if sent.kind is Kind.QUERY]
    lone.node.receive(encode(Datagram(Kind.RESPONSE, ping.rid, id=bytes(32))), WANTED)
    lone.pass_time(PROVEN_SECONDS + 1)
    [(_, to, _)] = lone.holepunch(Holepunch(to=WANTED))
    assert to == WANTED


def test_who_asks_again_and_again_leaves_room_for_others_who_ask_for_the_same() -> None:
    lone = Lone()
    lone.announce(WANTED)
    for _ in range(10_000):
        lone.pass_time(0.001)
        lone.holepunch(Holepunch(to=WANTED))
    assert [to for _, to, _ in lone.holepunch(Holepunch(to=WANTED), REFERRER)] == [WANTED]


def test_it_is_relayed_to_nobody_whom_this_node_does_not_know() -> None:
    lone = Lone()
    assert lone.holepunch(Holepunch(to=WANTED)) == []
    lone.announce(WANTED)
    lone.pass_time(PROVEN_SECONDS + 1)
    assert lone.holepunch(Holepunch(to=WANTED)) == []


def test_it_is_not_relayed_back() -> None:
    lone = Lone()
    lone.announce(ASKER)
    assert lone.holepunch(Holepunch(to=ASKER)) == []


def test_a_bare_one_is_not_answered() -> None:
    assert Lone().holepunch(None) == []


def test_a_relayed_one_is_answered_to_who_asked_for_it() -> None:
    [(answer, to, _)] = Lone().holepunch(Holepunch(sender=ASKER), REFERRER)
    assert (to, answer.kind, answer.rid, answer.to) == (ASKER, Kind.RESPONSE, 9, ASKER)


@pytest.mark.parametrize(
    "inside",
    [Address("192.168.1.1", 53), Address("10.0.0.1", 1), Address("127.0.0.1", 1), Address("224.0.0.251", 5353)],
)
def test_nobody_outside_has_something_sent_inside(inside: Address) -> None:
    lone = Lone()
    lone.node.receive(encode(Datagram(Kind.QUERY, 1, id=bytes(32), command="_ping")), inside)
    assert lone.holepunch(Holepunch(sender=inside), REFERRER) == []
    assert lone.holepunch(Holepunch(to=inside)) == []


def test_somebody_at_home_may_have_a_neighbour_answer() -> None:
    neighbour, asker = Address("192.168.1.3", 1), Address("192.168.1.2", 1)
    [(_, to, _)] = Lone().holepunch(Holepunch(sender=asker), neighbour)
    assert to == asker


def test_what_one_address_is_sent_for_others_sake_is_bounded_in_rate_and_size() -> None:
    lone = Lone()
    rates = Rates()
    sent = []
    for number in range(2000):
        source = Address(f"11.1.{number >> 8}.{number & 255}", 1)
        sent += lone.holepunch(Holepunch(sender=WANTED), source)
    assert len(sent) <= rates.unproven_host * rates.burst_seconds
    asked = encode(Datagram(Kind.QUERY, 9, command="_holepunch", value=Holepunch(sender=WANTED).encode()))
    assert max(size for _, _, size in sent) <= 5 * len(asked)


def test_who_is_known_here_is_sent_no_more_than_others_at_strangers_word() -> None:
    lone = Lone()
    lone.announce(WANTED)
    rates = Rates()
    sent = []
    for number in range(2000):
        sent += lone.holepunch(Holepunch(to=WANTED), Address(f"11.1.{number >> 8}.{number & 255}", 1))
    assert 0 < len(sent) <= rates.unproven_host * rates.burst_seconds


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_value_is_taken_or_passed_over(value: bytes, address: bytes) -> None:
    lone = Lone()
    lone.announce(WANTED)
    before = len(lone.sent)
    for data in (value, b"\x12" + bytes([len(address)]) + address, b"\x1a" + bytes([len(address)]) + address + value):
        Holepunch.decode(data)
        lone.node.receive(encode(Datagram(Kind.QUERY, 9, command="_holepunch", value=data)), ASKER)
    assert len(lone.sent) <= before + 3


class Punching:
    """A node that punches a hole to ``WANTED``; ``answers`` is what it is told."""

    def __init__(self) -> None:
        self.lone = Lone()
        self.answers: list[Address | None] = []
        self.asked = self.lone.node.holepunch(WANTED, REFERRER, self.answers.append)
        self.rid = self.lone.sent[0][0].rid

    def answer(self, source: Address) -> None:
        self.lone.node.receive(encode(Datagram(Kind.RESPONSE, self.rid, to=ASKER)), source)


def test_whoever_answers_from_another_port_of_that_host_is_reached_there() -> None:
    punching = Punching()
    moved = Address(WANTED.host, 9999)
    punching.answer(moved)
    assert punching.answers == [moved]


def test_an_answer_from_another_host_counts_for_nothing() -> None:
    punching = Punching()
    punching.answer(Address("11.0.0.9", WANTED.port))
    assert punching.answers == []
    punching.answer(WANTED)
    assert punching.answers == [WANTED]


def test_what_is_given_up_is_asked_no_more() -> None:
    punching = Punching()
    punching.lone.node.give_up(punching.asked)
    sent = len(punching.lone.sent)
    while (due := punching.lone.timers.next_at) is not None and due < 20:
        punching.lone.now = due
        punching.lone.timers.run_due()
    assert not [one for one, _, _ in punching.lone.sent[sent:] if one.command == "_holepunch"]
    punching.answer(WANTED)
    assert punching.answers == [None]
