"""Messages of the local network are read as the reference meant them, and nothing else is believed."""

from typing import Any

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.swarm.mdns.messages import MAX_MESSAGE_BYTES, Answer, Question, answer, parse, question
from tests.support.vectors import load

NAME = bytes.fromhex(load("swarm")["topic"])[:20]
ANNOUNCER = bytes.fromhex(load("swarm")["sections"]["mdns"]["announcerId"]).removeprefix(b"id=")


def recorded() -> list[Any]:
    messages: list[Any] = load("swarm")["sections"]["mdns"]["datagrams"]
    return messages


@pytest.mark.parametrize("message", recorded(), ids=lambda message: message["dns"]["type"])
def test_what_the_reference_sent_is_read_as_it_meant_it(message: Any) -> None:
    expected: Any = [Question(NAME)]
    if message["dns"]["type"] == "response":
        expected = [Answer(NAME, 4444, None, ANNOUNCER)]
    assert parse(bytes.fromhex(message["hex"])) == expected


def test_a_question_has_the_bytes_of_the_references() -> None:
    assert question([NAME]).hex() == recorded()[0]["hex"]


@pytest.mark.parametrize(("message", "asker"), [(recorded()[1], None), (recorded()[2], "10.99.0.1")])
def test_an_answer_says_what_the_references_says(message: Any, asker: str | None) -> None:
    theirs = dns.message.from_wire(bytes.fromhex(message["hex"]))
    ours = dns.message.from_wire(answer([Answer(NAME, 4444, id=ANNOUNCER)], asker))
    assert ours == theirs
    assert (ours.id, ours.flags, ours.answer) == (0, dns.flags.QR | dns.flags.AA, theirs.answer)
    assert [rrset.ttl for rrset in ours.answer] == [0] * len(theirs.answer)


def test_a_target_that_is_an_address_is_where_somebody_is() -> None:
    elsewhere = Answer(NAME, 4444, "10.0.0.7", ANNOUNCER)
    assert parse(answer([elsewhere], None)) == [elsewhere]


@pytest.mark.parametrize(
    "record",
    [
        f"{NAME.hex()}.hyperswarm.local. 0 IN SRV 0 0 0 0.0.0.0.",
        f"{NAME.hex()}.hyperswarm.local. 0 IN SRV 0 0 1 example.org.",
        f"{NAME.hex()}.example.local. 0 IN SRV 0 0 1 0.0.0.0.",
        f"{NAME.hex()[:-2]}.hyperswarm.local. 0 IN SRV 0 0 1 0.0.0.0.",
        f"{'x' * 40}.hyperswarm.local. 0 IN SRV 0 0 1 0.0.0.0.",
        "hyperswarm.local. 0 IN SRV 0 0 1 0.0.0.0.",
        f"{NAME.hex()}.hyperswarm.local. 0 IN A 10.0.0.1",
        rf"{NAME.hex()}.hyperswarm.local. 0 CH SRV \# 8 0000000000010000",
    ],
)
def test_an_answer_that_names_no_peer_of_a_topic_is_none(record: str) -> None:
    message = dns.message.Message(id=0)
    message.flags = dns.flags.QR | dns.flags.AA
    name, ttl, rdclass, rdtype, *rest = record.split(" ")
    message.answer.append(dns.rrset.from_text(name, int(ttl), rdclass, rdtype, " ".join(rest)))
    assert parse(message.to_wire()) == []


def test_a_question_may_say_who_need_not_answer() -> None:
    message = dns.message.from_wire(question([NAME]))
    message.answer = dns.message.from_wire(answer([Answer(NAME, 1, id=ANNOUNCER)], None)).answer[1:]
    assert parse(message.to_wire()) == [Question(NAME, ANNOUNCER)]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_none(data: bytes) -> None:
    parse(data)


@given(st.sampled_from(recorded()), st.integers(0, 400), st.integers(0, 255), st.booleans())
def test_a_bent_message_is_a_message_or_none(message: Any, at: int, byte: int, cut: bool) -> None:
    data = bytearray.fromhex(message["hex"])
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] = byte
    for part in parse(bytes(data)):
        assert len(part.name) == len(NAME)


def test_what_is_longer_than_any_message_is_not_looked_at() -> None:
    assert parse(question([NAME]) + bytes(MAX_MESSAGE_BYTES)) == []


def test_a_message_full_of_questions_and_answers_is_looked_at_in_part() -> None:
    questions = question([number.to_bytes(20, "big") for number in range(150)])
    answers = answer([Answer(number.to_bytes(20, "big"), 1) for number in range(100)] * 3, None)
    assert len(parse(questions)) == 64
    assert len(parse(answers)) <= 256
