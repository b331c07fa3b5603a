"""One connection of uTP over a line with faults: all bytes arrive, in order; what cannot be is told; nothing grows."""

import random

import pytest

from hyperfs.swarm.utp.congestion import MAX_WINDOW_BYTES
from hyperfs.swarm.utp.connection import PACKET_BYTES, RECEIVE_BYTES, SILENCE_SECONDS, State
from hyperfs.swarm.utp.endpoint import LINGER_SECONDS, UtpLink
from hyperfs.swarm.utp.packets import Packet, PacketType, decode, encode
from tests.support.utp_line import AWAY, HOME, Faults, Line


class Transfer:
    """Bytes that are written at one end, and what was read at the other."""

    def __init__(self, source: UtpLink, target: UtpLink, data: bytes) -> None:
        self.target = target
        self.data = data
        self.read = bytearray()
        source.write(data)
        source.finish()

    def is_over(self) -> bool:
        self.read += self.target.read(1 << 20)
        return self.target.connection.is_complete and len(self.read) >= len(self.data)


@pytest.mark.parametrize("seed", range(40))
def test_every_byte_arrives_in_order_whatever_the_line_does(seed: int) -> None:
    rng = random.Random(seed)
    faults = Faults(
        lost=rng.choice([0, 0.01, 0.05, 0.15]),
        doubled=rng.choice([0, 0.05]),
        delay=rng.choice([0.0005, 0.02, 0.15]),
        jitter=rng.choice([0, 0.001, 0.08]),
        rate=rng.choice([0, 0, 200_000]),
    )
    line = Line(seed, faults)
    home, away = line.connect()
    there = Transfer(home, away, rng.randbytes(rng.choice([0, 1, 1372, 200_000])))
    back = Transfer(away, home, rng.randbytes(rng.choice([0, 1, 5000, 100_000])))
    line.run_until(lambda: all([there.is_over(), back.is_over()]))
    assert there.read == there.data
    assert back.read == back.data


def test_sequence_numbers_run_round() -> None:
    line = Line(faults=Faults(lost=0.001, delay=0.001))
    home, away = line.connect()
    data = random.Random(0).randbytes(1372 * 66_000)
    transfer = Transfer(home, away, data)
    line.run_until(transfer.is_over)
    assert transfer.read == data


def test_a_line_is_filled_and_its_queue_kept_short() -> None:
    rate = 1_000_000.0
    line = Line(faults=Faults(rate=rate, delay=0.03, queue_seconds=2.0))
    home, away = line.connect()
    began = line.now
    transfer = Transfer(home, away, bytes(10_000_000))
    line.run_until(transfer.is_over)
    assert 10_000_000 / (line.now - began) > 0.85 * rate
    assert line.longest_queue < 0.3


def test_a_lost_syn_is_sent_again() -> None:
    line = Line()
    lost: list[bytes] = []

    def first(to: object, data: bytes) -> bool:
        lost.append(data)
        return len(lost) == 1

    line.drop = first
    home, _ = line.connect()
    assert home.connection.state is State.CONNECTED
    assert decode(lost[0])[0] is PacketType.SYN  # type: ignore[index]


def test_an_answer_to_a_syn_that_is_lost_is_given_again() -> None:
    line = Line()
    answers: list[bytes] = []

    def first_answer(to: object, data: bytes) -> bool:
        if to == HOME:
            answers.append(data)
        return to == HOME and len(answers) == 1

    line.drop = first_answer
    line.connect()


def test_who_is_silent_is_given_up() -> None:
    line = Line()
    home, _ = line.connect()
    line.drop = lambda to, data: True
    home.write(b"is anybody there?")
    line.run(SILENCE_SECONDS - 1)
    assert home.connection.state is State.CONNECTED
    line.run(2 * SILENCE_SECONDS)
    assert home.connection.state is State.ENDED
    assert home.connection.problem == "silent for 30 s"
    assert line.home.links == ()


def test_a_connection_that_has_nothing_to_say_stays() -> None:
    line = Line()
    home, away = line.connect()
    line.run(10 * SILENCE_SECONDS)
    away.write(b"hello")
    line.run(1)
    assert home.read(10) == b"hello"


def test_a_reader_who_does_not_read_is_sent_no_more_than_he_takes() -> None:
    line = Line()
    home, away = line.connect()
    data = random.Random(0).randbytes(4 * RECEIVE_BYTES)
    home.write(data)
    line.run(60)
    kept = bytearray(away.read(10 * RECEIVE_BYTES))
    assert RECEIVE_BYTES - PACKET_BYTES <= len(kept) <= RECEIVE_BYTES + PACKET_BYTES
    while len(kept) < len(data):
        line.run_until(lambda: bool(away.connection._received))
        kept += away.read(10 * RECEIVE_BYTES)
    assert kept == data


def test_who_sends_more_than_is_taken_is_not_kept() -> None:
    line = Line()
    home, away = line.connect()
    first = home.connection._next
    for index in range(1, 3000):
        line.away.receive(
            encode(
                Packet(
                    PacketType.DATA,
                    home.connection.send_id,
                    0,
                    0,
                    0,
                    (first + index) & 0xFFFF,
                    home.connection._acknowledged,
                    payload=bytes(4000),
                )
            ),
            HOME,
        )
    assert away.connection._early_bytes <= RECEIVE_BYTES
    assert len(away.connection._early) <= 1000


def test_a_reset_ends_it_at_both_ends() -> None:
    line = Line()
    home, away = line.connect()
    home.abort()
    line.run(1)
    assert away.connection.state is State.ENDED
    assert away.connection.problem == "reset by the other side"
    assert line.away.links == line.home.links == ()


def test_packets_that_acknowledge_what_was_never_sent_are_passed_over() -> None:
    line = Line()
    home, away = line.connect()
    bad = Packet(PacketType.DATA, away.connection.receive_id, 0, 0, 0, home.connection._next, 0, payload=b"forged")
    for offset in (1, 5, 1000, 40_000):
        acknowledged = (away.connection._next - 1 + offset) & 0xFFFF
        line.away.receive(encode(bad._replace(acknowledged=acknowledged)), HOME)
    assert away.read(100) == b""


@pytest.mark.parametrize("seed", range(10))
def test_garbage_with_the_right_id_breaks_nothing(seed: int) -> None:
    rng = random.Random(seed)
    line = Line(seed)
    home, away = line.connect()
    for _ in range(2000):
        packet = Packet(
            rng.choice([PacketType.DATA, PacketType.STATE, PacketType.SYN]),
            away.connection.receive_id,
            rng.getrandbits(32),
            rng.getrandbits(32),
            rng.choice([0, 1, rng.getrandbits(32)]),
            (away.connection._acknowledged + rng.randrange(-5, 2000)) & 0xFFFF,
            (away.connection._next - 1 + rng.randrange(-5, 5)) & 0xFFFF,
            rng.randbytes(4 * rng.randrange(40)),
            rng.randbytes(rng.randrange(50)),
        )
        line.away.receive(encode(packet)[: 20 + rng.randrange(300)], HOME)
        away.connection.read(10_000, line.now)
        if not rng.randrange(10):
            away.write(rng.randbytes(3000))
        line.run(0.001)
    assert away.connection._congestion.window_bytes <= MAX_WINDOW_BYTES
    assert away.connection._flight_bytes >= 0
    assert home.connection.state is not State.SYN_SENT


def test_what_was_written_before_leaving_arrives() -> None:
    line = Line()
    home, away = line.connect()
    home.write(b"farewell")
    home.leave()
    line.run(1)
    assert away.read(100) == b"farewell"
    assert away.connection.is_complete
    away.leave()
    line.run(1)
    assert line.home.links == line.away.links == ()


def test_who_is_left_and_says_nothing_of_it_is_reset() -> None:
    line = Line()
    home, away = line.connect()
    home.leave()
    line.run(LINGER_SECONDS + 1)
    assert line.home.links == ()
    assert away.connection.state is State.ENDED


def test_a_closed_endpoint_ends_its_connections() -> None:
    line = Line()
    _, away = line.connect()
    line.home.close()
    line.run(1)
    assert away.connection.state is State.ENDED
    assert line.home.connect(AWAY, lambda: None) is None
