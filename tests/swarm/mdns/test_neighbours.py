"""Neighbours find each other, nobody finds himself, and a flood is answered at a rate."""

import random

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.mdns.messages import Answer, Question, answer, parse, question
from hyperfs.swarm.mdns.neighbours import READING, Neighbour, Neighbours

TOPIC = bytes(range(32))
OTHER = bytes(range(1, 33))
HERE = "10.0.0.1"
THERE = "10.0.0.2"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def neighbours(seed: int = 1, clock: Clock | None = None) -> Neighbours:
    return Neighbours(random.Random(seed).randbytes, clock or Clock())


def asked(topic: bytes = TOPIC) -> bytes:
    return question([topic[:20]])


def test_who_asks_is_told_where_a_topic_is() -> None:
    announcer, looker = neighbours(1), neighbours(2)
    announcer.join(TOPIC, port=4000, looks=False)
    (sent,) = looker.join(TOPIC, port=None, looks=True)
    nobody, reply = announcer.receive(sent, HERE)
    assert nobody == []
    assert reply is not None
    assert looker.receive(reply, THERE) == ([Neighbour(TOPIC, Address(THERE, 4000), THERE)], None)


def test_who_announces_says_so_once_unasked() -> None:
    announcer, looker = neighbours(1), neighbours(2)
    looker.join(TOPIC, port=None, looks=True)
    (unasked,) = announcer.join(TOPIC, port=4000, looks=False)
    assert looker.receive(unasked, THERE) == ([Neighbour(TOPIC, Address(THERE, 4000), THERE)], None)


def test_who_announces_and_looks_does_both_and_does_not_find_himself() -> None:
    both = neighbours()
    unasked, asking = both.join(TOPIC, port=4000, looks=True)
    assert [type(part) for message in (unasked, asking) for part in parse(message)] == [Answer, Question]
    assert both.receive(unasked, HERE) == ([], None)


def test_who_only_looks_does_not_answer_and_who_only_announces_does_not_ask() -> None:
    looker, announcer = neighbours(1), neighbours(2)
    looker.join(TOPIC, port=None, looks=True)
    announcer.join(TOPIC, port=4000, looks=False)
    assert looker.receive(asked(), HERE) == ([], None)
    assert announcer.question(TOPIC) is None
    assert looker.question(TOPIC) == asked()
    assert [type(part) for message in announcer.greeting() for part in parse(message)] == [Answer]
    assert looker.greeting() == [asked()]


def test_other_topics_are_nothing_to_us() -> None:
    both = neighbours()
    both.join(TOPIC, port=4000, looks=True)
    assert both.receive(asked(OTHER), HERE) == ([], None)
    assert both.receive(answer([Answer(OTHER[:20], 1)], None), HERE) == ([], None)


def test_what_was_left_is_neither_answered_nor_looked_for() -> None:
    both = neighbours()
    both.join(TOPIC, port=4000, looks=True)
    both.leave(TOPIC)
    both.leave(TOPIC)
    assert both.question(TOPIC) is None
    assert both.greeting() == []
    assert both.receive(asked(), HERE) == ([], None)


def test_joining_again_changes_the_port_and_not_the_id() -> None:
    both = neighbours()
    (before, *_), (after, *_) = (both.join(TOPIC, port=port, looks=True) for port in (4000, 5000))
    (first,), (second,) = parse(before), parse(after)
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert (second.port, second.id) == (5000, first.id)


def test_a_network_that_is_new_is_told_of_however_many_topics_in_messages_that_fit() -> None:
    both = neighbours()
    topics = [number.to_bytes(32, "little") for number in range(200)]
    for topic in topics:
        both.join(topic, port=4000, looks=True)
    greeting = both.greeting()
    assert max(map(len, greeting)) <= 1472
    parts = [part for message in greeting for part in parse(message)]
    assert [part.name for part in parts if isinstance(part, Answer)] == [topic[:20] for topic in topics]
    assert [part.name for part in parts if isinstance(part, Question)] == [topic[:20] for topic in topics]


def test_a_flood_of_questions_is_answered_at_a_rate() -> None:
    clock = Clock()
    announcer = neighbours(1, clock)
    announcer.join(TOPIC, port=4000, looks=False)
    replies = 0
    for second in range(10):
        clock.now = float(second)
        replies += sum(announcer.receive(asked(), HERE)[1] is not None for _ in range(1000))
    assert replies <= 30 + 9 * 10
    clock.now = 100.0
    assert announcer.receive(asked(), HERE)[1] is not None


def test_who_floods_with_questions_takes_nobody_elses_answer() -> None:
    clock = Clock()
    announcer = neighbours(1, clock)
    announcer.join(TOPIC, port=4000, looks=False)
    announcer.join(OTHER, port=4000, looks=False)
    for _ in range(10_000):
        clock.now += 0.001
        announcer.receive(asked(), HERE)
    assert announcer.receive(asked(OTHER), THERE)[1] is not None


def test_who_floods_with_answers_hides_no_real_one() -> None:
    clock = Clock()
    looker = neighbours(2, clock)
    looker.join(TOPIC, port=None, looks=True)
    lie = answer([Answer(TOPIC[:20], 1)], None)
    read = 0
    for _ in range(10_000):
        clock.now += 0.001
        read += len(looker.receive(lie, HERE)[0])
    assert read <= 13 * READING.unproven_host
    real = answer([Answer(TOPIC[:20], 4000)], None)
    assert looker.receive(real, THERE)[0] == [Neighbour(TOPIC, Address(THERE, 4000), THERE)]


def test_nobody_has_others_dialled() -> None:
    looker = neighbours()
    looker.join(TOPIC, port=None, looks=True)
    told = answer([Answer(TOPIC[:20], 4000, host="10.0.0.9"), Answer(TOPIC[:20], 5000, host=THERE)], None)
    assert looker.receive(told, THERE)[0] == [Neighbour(TOPIC, Address(THERE, 5000), THERE)]
