"""Who may begin a connection: strangers cost little, are sent little, and are handed on once they receive."""

import random

import pytest

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.utp.connection import MAX_GUESSES, State
from hyperfs.swarm.utp.endpoint import (
    MAX_ACCEPTED,
    MAX_CONNECTIONS,
    MAX_OF_HOST,
    MAX_UNPROVEN,
    MAX_UNPROVEN_OF_HOST,
    UNPROVEN_SECONDS,
    UtpLink,
)
from hyperfs.swarm.utp.packets import Packet, PacketType, decode, encode
from tests.support.utp_line import AWAY, HOME, Line


def syn(number: int) -> bytes:
    return encode(Packet(PacketType.SYN, number, 0, 0, 1 << 20, 1, 0))


def stranger(number: int) -> Address:
    return Address(f"10.1.{number >> 8}.{number & 255}", 1000)


def alone() -> Line:
    """Return a line on which nothing arrives but what a test hands over."""
    line = Line()
    line.drop = lambda to, data: True
    line.away.on_accept = lambda link: None
    return line


def answers(line: Line, data: bytes, source: Address) -> list[Packet]:
    """Have ``away`` take a datagram from ``source``; return what it sends there at once."""
    line.sent.clear()
    line.away.receive(data, source)
    sent = [decode(answer) for to, answer in line.sent if to == source]
    return [packet for packet in sent if packet is not None]


def going_on(number: int, acknowledged: int) -> bytes:
    """Return the first DATA of who began with ``syn(number)``."""
    return encode(Packet(PacketType.DATA, number + 1, 0, 0, 1 << 20, 2, acknowledged, payload=b"hello"))


def connect_from(line: Line, source: Address, number: int = 7) -> Packet:
    """Begin a connection from ``source``, and go on when that is answered; return the answer."""
    line.run(1.0)  # so that there is an answer left
    (answer,) = answers(line, syn(number), source)
    if answer.kind is PacketType.STATE:
        line.away.receive(going_on(number, answer.sequence - 1 & 0xFFFF), source)
    return answer


def test_a_syn_is_answered_by_as_much_and_handed_to_nobody() -> None:
    line = Line()
    accepted: list[UtpLink] = []
    line.away.on_accept = accepted.append
    line.away.receive(syn(7), HOME)
    assert accepted == []
    assert [(to, len(data)) for to, data in line.sent] == [(HOME, 20)]
    answer = decode(line.sent[0][1])
    assert answer is not None
    assert (answer.kind, answer.connection_id, answer.acknowledged) == (PacketType.STATE, 7, 1)


def test_who_begins_and_does_not_go_on_is_forgotten() -> None:
    line = Line()
    line.away.on_accept = lambda link: None
    line.away.receive(syn(7), HOME)
    line.run(UNPROVEN_SECONDS + 1)
    assert line.away.links == ()


def test_of_many_who_only_begin_few_are_kept_and_a_newcomer_gets_through() -> None:
    line = alone()
    for number in range(2 * MAX_UNPROVEN):
        line.run(0.008)
        line.away.receive(syn(7), stranger(number))
    assert len(line.away.links) == MAX_UNPROVEN
    assert line.away.links[-1].address == stranger(2 * MAX_UNPROVEN - 1)


def test_who_begins_again_and_again_takes_nobody_elses_place_nor_answer() -> None:
    line = alone()
    line.away.receive(syn(7), stranger(1))
    for number in range(10_000):
        line.run(0.001)
        line.away.receive(syn(number), HOME._replace(port=1 + number))
    assert sum(link.address.host == HOME.host for link in line.away.links) <= MAX_UNPROVEN_OF_HOST
    assert line.away.links[0].address == stranger(1)
    assert [answer.kind for answer in answers(line, syn(7), stranger(2))] == [PacketType.STATE]


def test_who_guesses_what_he_was_answered_is_forgotten_after_a_few_tries() -> None:
    line = alone()
    accepted: list[UtpLink] = []
    line.away.on_accept = accepted.append
    (answer,) = answers(line, syn(7), HOME)
    right = answer.sequence - 1
    for wrong in range(1, MAX_GUESSES + 1):
        assert answers(line, going_on(7, right - wrong & 0xFFFF), HOME) == []
    assert answers(line, going_on(7, right & 0xFFFF), HOME) == []
    assert accepted == []
    assert line.away.links == ()


def test_who_goes_on_is_accepted() -> None:
    line = alone()
    accepted: list[UtpLink] = []
    line.away.on_accept = accepted.append
    connect_from(line, HOME)
    assert [link.read(10) for link in accepted] == [b"hello"]


def test_who_is_not_admitted_is_refused_at_once_and_nothing_is_kept() -> None:
    line = alone()
    line.away.admits = lambda address: address != HOME
    assert [(answer.kind, answer.acknowledged) for answer in answers(line, syn(7), HOME)] == [(PacketType.RESET, 1)]
    assert line.away.links == ()
    assert [answer.kind for answer in answers(line, syn(7), stranger(1))] == [PacketType.STATE]


def test_a_host_has_its_share_of_the_connections_and_others_get_through() -> None:
    line = alone()
    for number in range(MAX_OF_HOST):
        assert connect_from(line, HOME._replace(port=1 + number)).kind is PacketType.STATE
    assert connect_from(line, HOME._replace(port=9999)).kind is PacketType.RESET
    assert connect_from(line, stranger(1)).kind is PacketType.STATE
    assert len(line.away.links) == MAX_OF_HOST + 1


def test_what_is_only_left_gives_way_when_all_places_are_taken() -> None:
    line = alone()
    line.away.on_accept = lambda link: link.leave()
    line.run(1.0)
    for number in range(MAX_ACCEPTED + 10):
        assert answers(line, syn(7), stranger(number))[0].kind is PacketType.STATE
        connection = line.away.links[-1].connection
        line.away.receive(
            encode(Packet(PacketType.FIN, 8, 0, 0, 1 << 20, 2, connection._next - 1 & 0xFFFF)), stranger(number)
        )
        line.now += 0.006
    assert len(line.away.links) == MAX_ACCEPTED
    assert line.away.links[0].address == stranger(10)


def test_others_leave_room_for_whom_we_dial() -> None:
    line = alone()
    line.run(1.0)
    for number in range(MAX_ACCEPTED):
        (answer,) = answers(line, syn(7), stranger(number))
        line.away.receive(going_on(7, answer.sequence - 1 & 0xFFFF), stranger(number))
        line.now += 0.006
    line.now += 1.0
    assert [answer.kind for answer in answers(line, syn(7), HOME)] == [PacketType.RESET]
    for _ in range(MAX_CONNECTIONS - MAX_ACCEPTED):
        assert line.away.connect(HOME, lambda: None) is not None
    assert line.away.connect(HOME, lambda: None) is None


class Bits(random.Random):
    """Gives the same number each time."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def getrandbits(self, k: int) -> int:
        return self.number


@pytest.mark.parametrize("below", [-2, -1, 0, 1, 2])
def test_two_that_dial_each_other_with_neighbouring_numbers_both_get_through(below: int) -> None:
    line = Line()
    first, _ = line.connect()
    begun: list[UtpLink] = []
    line.home.on_accept = begun.append
    line.away._random = Bits(first.connection.receive_id - below)
    link = line.away.connect(HOME, lambda: None)
    assert link is not None
    link.write(b"hello")
    line.run(1.0)
    assert [one.read(100) for one in begun] == [b"hello"]
    first.write(b"still here")
    line.run(1.0)
    assert first.connection.is_delivered


def test_what_strangers_are_sent_is_bounded_whatever_they_send() -> None:
    line = Line()
    line.away.on_accept = lambda link: None
    rng = random.Random(1)
    for number in range(5000):
        kind = rng.choice([PacketType.SYN, PacketType.DATA, PacketType.STATE, PacketType.FIN, PacketType.RESET])
        line.away.receive(encode(Packet(kind, number, 0, 0, 0, 1, 1)), stranger(number))
    assert len(line.sent) <= 400
    assert all(len(data) == 20 for _, data in line.sent)


def test_one_syn_again_and_again_is_answered_at_a_bounded_rate() -> None:
    line = Line()
    line.away.on_accept = lambda link: None
    for _ in range(5000):
        line.away.receive(syn(7), HOME)
    assert len(line.sent) <= 400


def test_without_anybody_to_take_them_connections_are_refused() -> None:
    line = Line()
    line.away.receive(syn(7), HOME)
    refusal = decode(line.sent[0][1])
    assert refusal is not None
    assert (refusal.kind, refusal.connection_id) == (PacketType.RESET, 7)


def test_a_reset_is_answered_by_nothing() -> None:
    line = Line()
    line.away.receive(encode(Packet(PacketType.RESET, 7, 0, 0, 0, 1, 1)), HOME)
    assert line.sent == []


def test_a_packet_from_another_address_does_not_belong() -> None:
    line = Line()
    home, away = line.connect()
    forged = Packet(
        PacketType.DATA, home.connection.send_id, 0, 0, 0, home.connection._next, home.connection._acknowledged
    )
    line.away.receive(encode(forged._replace(payload=b"forged")), stranger(1))
    line.away.receive(encode(forged._replace(kind=PacketType.RESET)), stranger(1))
    assert away.read(100) == b""
    assert line.away.holds(away)


@pytest.mark.parametrize("far", [2, 100, 30_000, -5, -30_000])
def test_a_reset_that_names_nothing_that_was_sent_ends_nothing(far: int) -> None:
    line = Line()
    home, away = line.connect()
    for connection_id in (away.connection.receive_id, away.connection.send_id):
        named = away.connection._next - 1 + far & 0xFFFF
        line.away.receive(encode(Packet(PacketType.RESET, connection_id, 0, 0, 0, 1, named)), HOME)
    assert away.connection.state is State.CONNECTED
    home.write(b"still here")
    line.run(1)
    assert away.read(100) == b"still here"


def test_a_reset_that_names_no_syn_of_ours_refuses_nothing() -> None:
    line = Line()
    line.drop = lambda to, data: True
    link = line.home.connect(AWAY, lambda: None)
    assert link is not None
    one = link.connection
    line.home.receive(encode(Packet(PacketType.RESET, one.receive_id, 0, 0, 0, 1, one._next + 7 & 0xFFFF)), AWAY)
    assert one.state is State.SYN_SENT
    line.home.receive(encode(Packet(PacketType.RESET, one.receive_id, 0, 0, 0, 1, one._next - 1 & 0xFFFF)), AWAY)
    assert (one.state, one.problem) == (State.ENDED, "refused")


def test_what_nobody_sent_does_not_cut_off_what_is_on_its_way() -> None:
    line = Line()
    home, away = line.connect()
    away.write(b"last words")
    away.leave()
    forged = Packet(PacketType.DATA, away.connection.receive_id, 0, 0, 0, 5, away.connection._next + 9 & 0xFFFF)
    line.away.receive(encode(forged._replace(payload=b"forged")), HOME)
    line.run(1)
    assert home.read(100) == b"last words"
    assert home.connection.is_complete


def test_what_was_under_way_when_we_reset_is_not_reset_again() -> None:
    line = Line()
    home, away = line.connect()
    away.write(b"under way")
    home.abort()
    line.sent.clear()
    line.run(1)
    assert line.sent == []
