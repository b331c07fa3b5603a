"""Requests are sent again, given up, held back, and answered only by who was asked."""

import random

import pytest

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.datagrams import Datagram, Holepunch, Kind
from hyperfs.swarm.dht.requests import MAX_A_SECOND, MAX_IN_FLIGHT, Asked, Requests
from hyperfs.swarm.dht.timers import Timers

HERE = Address("10.0.0.1", 1)
ELSEWHERE = Address("10.0.0.1", 2)
REFERRER = Address("10.0.0.9", 9)
PING = Datagram(Kind.QUERY, 0, command="_ping")


class Line:
    """Requests whose datagrams are noted with their time. ``answers`` is what callers were told."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 0.0
        self.timers = Timers(lambda: self.now)
        self.sent: list[tuple[float, Datagram, Address]] = []
        self.answers: list[Datagram | None] = []
        self.requests = Requests(self.timers, self._send, random.Random(seed))

    def _send(self, datagram: Datagram, to: Address) -> None:
        self.sent.append((self.now, datagram, to))

    def ask(self, asked: Asked | None = None, *, datagram: Datagram = PING, urgent: bool = False) -> None:
        self.requests.ask(datagram, asked or Asked(HERE), self.answers.append, urgent=urgent)

    def answer(self, at: int = -1, *, source: Address = HERE) -> Datagram:
        """Answer what was sent as the ``at``-th."""
        answer = Datagram(Kind.RESPONSE, self.sent[at][1].rid)
        self.requests.answered(answer, source)
        return answer

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.timers.next_at) is not None and due <= end:
            self.now = due
            self.timers.run_due()
        self.now = end


@pytest.mark.parametrize("seed", range(20))
def test_a_silent_node_is_asked_three_times_and_given_up(seed: int) -> None:
    line = Line(seed)
    line.ask()
    line.run(6.7)
    assert line.answers == []
    first, second, third = [at for at, _, _ in line.sent]
    assert first == 0.0
    assert 1.5 <= second <= 2.25
    assert third == pytest.approx(second + 2.25)
    line.run(0.9)
    assert line.answers == [None]
    assert len(line.sent) == 3


def test_an_answer_ends_the_request() -> None:
    line = Line()
    line.ask()
    answer = line.answer()
    line.run(60)
    assert line.answers == [answer]
    assert len(line.sent) == 1


def test_an_answer_from_elsewhere_is_none() -> None:
    line = Line()
    line.ask()
    line.answer(source=ELSEWHERE)
    assert line.answers == []


def test_an_answer_that_comes_twice_counts_once() -> None:
    line = Line()
    line.ask()
    line.answer(0)
    line.answer(0)
    assert len(line.answers) == 1


def test_who_is_silent_is_asked_through_his_referrer_after_half_a_second() -> None:
    line = Line()
    line.ask(Asked(HERE, referrer=REFERRER))
    line.run(0.6)
    at, punch, to = line.sent[1]
    assert (at, to, punch.command) == (0.5, REFERRER, "_holepunch")
    assert punch.value == Holepunch(to=HERE).encode()


def test_each_further_attempt_goes_through_the_referrer_too() -> None:
    line = Line()
    line.ask(Asked(HERE, referrer=REFERRER))
    line.run(60)
    assert [to for _, _, to in line.sent] == [HERE, REFERRER, HERE, REFERRER, HERE, REFERRER]


def test_a_holepunch_goes_to_both_at_once_under_one_number() -> None:
    line = Line()
    line.ask(Asked(HERE, referrer=REFERRER), datagram=Datagram(Kind.QUERY, 0, command="_holepunch"))
    (_, bare, first), (_, relayed, second) = line.sent
    assert (first, second) == (HERE, REFERRER)
    assert bare.rid == relayed.rid
    assert bare.value is None


def test_while_many_are_in_flight_and_were_sent_others_wait() -> None:
    line = Line()
    for _ in range(MAX_A_SECOND + 5):
        line.ask()
    assert len(line.sent) == MAX_A_SECOND
    line.ask(urgent=True)
    assert len(line.sent) == MAX_A_SECOND + 1
    line.run(1.1)
    assert len(line.sent) >= MAX_A_SECOND + 6


def test_few_in_flight_are_never_held_back() -> None:
    line = Line()
    for _ in range(10 * MAX_A_SECOND):
        line.ask()
        line.answer()
    assert len(line.answers) == 10 * MAX_A_SECOND
    assert line.requests.in_flight < MAX_IN_FLIGHT


def test_whoever_is_silent_counts_as_in_flight_for_two_seconds_at_most() -> None:
    line = Line()
    for _ in range(MAX_IN_FLIGHT):
        line.ask()
    assert line.requests.in_flight == MAX_IN_FLIGHT
    line.run(2.3)
    assert line.requests.in_flight == 0
    line.ask()
    assert line.requests.in_flight == 1
    line.run(60)
    assert line.requests.in_flight == 0
    assert line.answers == [None] * (MAX_IN_FLIGHT + 1)


def test_what_is_given_up_is_not_sent_again_and_nobody_is_blamed() -> None:
    line = Line()
    asked = [Asked(HERE) for _ in range(MAX_A_SECOND + 1)]
    for one in asked:
        line.ask(one)
    line.requests.give_up(asked[0])
    line.requests.give_up(asked[-1])
    line.run(60)
    assert len(line.sent) == 1 + 3 * (MAX_A_SECOND - 1)
    assert [one.unanswered for one in asked] == [False, *[True] * (MAX_A_SECOND - 1), False]
    assert line.answers == [None] * (MAX_A_SECOND + 1)


def test_who_is_asked_again_is_said_to_be_silent_once() -> None:
    line = Line()
    told: list[float] = []
    line.requests.ask(PING, Asked(HERE), line.answers.append, silent=lambda: told.append(line.now))
    line.run(60)
    assert told == [line.sent[1][0]]


def test_closing_gives_everything_up() -> None:
    line = Line()
    for _ in range(MAX_A_SECOND + 5):
        line.ask()
    line.requests.close()
    assert line.answers == [None] * (MAX_A_SECOND + 5)
    assert line.requests.in_flight == 0
