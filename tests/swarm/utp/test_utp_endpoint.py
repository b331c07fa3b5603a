"""Who may begin a connection: strangers cost little, are sent little, and are handed on once they receive."""

import random

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.utp.endpoint import MAX_UNPROVEN, UNPROVEN_SECONDS, UtpLink
from hyperfs.swarm.utp.packets import Packet, PacketType, decode, encode
from tests.support.utp_line import HOME, Line


def syn(number: int) -> bytes:
    return encode(Packet(PacketType.SYN, number, 0, 0, 1 << 20, 1, 0))


def stranger(number: int) -> Address:
    return Address(f"10.1.{number >> 8}.{number & 255}", 1000)


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
    line = Line()
    line.away.on_accept = lambda link: None
    for number in range(300):
        line.away.receive(syn(7), stranger(number))
    assert len(line.away.links) == MAX_UNPROVEN
    assert line.away.links[-1].address == stranger(299)


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


def test_what_was_under_way_when_we_reset_is_not_reset_again() -> None:
    line = Line()
    home, away = line.connect()
    away.write(b"under way")
    home.abort()
    line.sent.clear()
    line.run(1)
    assert line.sent == []
