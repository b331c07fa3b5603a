"""A node answers as the reference does, believes nobody who did not answer, and serves on through a flood."""

import random
from typing import Any

import pytest

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.allowance import PROVEN_SECONDS, Allowance, Rates
from hyperfs.swarm.dht.datagrams import Datagram, Kind, Mutable, PeersInput, decode, encode
from hyperfs.swarm.dht.node import DhtNode
from hyperfs.swarm.dht.reachability import Nat
from hyperfs.swarm.dht.requests import Asked
from hyperfs.swarm.dht.timers import Timers
from tests.support.vectors import load

ASKER = Address("192.0.2.1", 4000)
OTHER = Address("192.0.2.2", 4000)
US = Address("198.51.100.1", 7)
TOPIC = bytes(range(32))
ID = b"i" * 32


class Lone:
    """A persistent node whose datagrams are noted instead of sent."""

    def __init__(
        self, *, ephemeral: bool = False, id: bytes = ID, rates: Rates | None = None, own: str | None = None
    ) -> None:
        self.now = 0.0
        self.timers = Timers(lambda: self.now)
        self.sent: list[tuple[Datagram, Address]] = []
        self.node = DhtNode(
            self.timers,
            self._send,
            id=id,
            ephemeral=ephemeral,
            is_ours=lambda host: host == (own or US.host),
            rates=rates,
            rng=random.Random(1),
            bootstrap=(),
        )

    def _send(self, data: bytes, to: Address) -> None:
        datagram = decode(data)
        assert datagram is not None
        self.sent.append((datagram, to))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.timers.next_at) is not None and due <= end:
            self.now = due
            self.timers.run_due()
        self.now = end

    def ask(self, datagram: Datagram, source: Address = ASKER) -> Datagram | None:
        """Return the answer to a datagram, if there is one."""
        before = len(self.sent)
        self.node.receive(encode(datagram), source)
        answers = [sent for sent, to in self.sent[before:] if to == source and sent.kind is Kind.RESPONSE]
        assert len(answers) <= 1
        return answers[0] if answers else None

    def meet(self, node_id: bytes, source: Address, *, to: Address | None = None) -> None:
        """Have a node ask something, and show that it is there."""
        self.node.receive(encode(Datagram(Kind.QUERY, 1, id=node_id, command="_ping", to=to)), source)
        pings = [sent.rid for sent, where in self.sent if where == source and sent.kind is Kind.QUERY]
        if pings:
            self.node.receive(encode(Datagram(Kind.RESPONSE, pings[-1], id=node_id, to=to)), source)

    def token(self, source: Address = ASKER) -> bytes:
        answer = self.ask(Datagram(Kind.QUERY, 1, command="_ping"), source)
        assert answer is not None
        assert answer.token is not None
        return answer.token

    def update(self, command: str, value: bytes | None, *, target: bytes = TOPIC) -> Datagram | None:
        token = self.token()
        return self.ask(Datagram(Kind.UPDATE, 2, target=target, token=token, command=command, value=value))


def query(command: str, value: bytes | None = None, *, target: bytes | None = TOPIC) -> Datagram:
    return Datagram(Kind.QUERY, 9, target=target, command=command, value=value)


def recorded_questions() -> list[Any]:
    """Return (question, answer) as recorded of the reference, where it depends on nothing but the question."""
    pairs = []
    for name in ("ping", "unknownCommand", "invalidPort"):
        datagrams = load("swarm")["sections"][name]["datagrams"]
        for question in datagrams:
            answers = [
                answer
                for answer in datagrams
                if answer["type"] == "RESPONSE"
                and answer["rid"] == question["rid"]
                and (answer["from"], answer["to"]) == (question["to"], question["from"])
            ]
            if answers:
                pairs.append((question, answers[0]))
    return pairs


@pytest.mark.parametrize(("question", "answer"), recorded_questions())
def test_a_question_is_answered_as_the_reference_does(question: Any, answer: Any) -> None:
    expected = decode(bytes.fromhex(answer["hex"]))
    assert expected is not None
    host, port = question["from"].split(":")
    lone = Lone(id=expected.id or ID, ephemeral=expected.id is None)
    found = lone.ask(decode(bytes.fromhex(question["hex"])) or query("_ping"), Address(host, int(port)))
    assert found is not None
    assert (found.token is None) == (expected.token is None)
    assert (found.rid, found.id, found.error, found.value, found.to) == (
        expected.rid,
        expected.id,
        expected.error,
        expected.value,
        expected.to,
    )


def test_a_ping_for_another_id_is_not_answered() -> None:
    assert Lone().ask(query("_ping", bytes(32), target=None)) is None


@pytest.mark.parametrize("command", ["_find_node", "peers", "immutable-store", "mutable-store", "anything"])
def test_a_question_without_a_target_is_not_answered(command: str) -> None:
    assert Lone().ask(query(command, b"", target=None)) is None


@pytest.mark.parametrize("command", ["peers", "mutable-store"])
def test_a_question_without_a_value_is_an_error_and_no_crash(command: str) -> None:
    answer = Lone().ask(query(command))
    assert answer is not None
    assert (answer.error, answer.token) == ("ERR_INVALID_INPUT", None)


@pytest.mark.parametrize("command", ["peers", "mutable-store", "immutable-store"])
def test_an_update_without_a_value_is_an_error_and_no_crash(command: str) -> None:
    answer = Lone().update(command, None)
    assert answer is not None
    assert answer.error == "ERR_INVALID_INPUT"


@pytest.mark.parametrize("token", [None, bytes(32)])
def test_an_update_without_a_valid_token_is_not_answered(token: bytes | None) -> None:
    lone = Lone()
    said = Datagram(Kind.UPDATE, 2, target=TOPIC, token=token, command="peers", value=PeersInput().encode())
    assert lone.ask(said) is None
    assert len(lone.node.announcements) == 0


def test_a_token_is_good_from_five_to_ten_minutes_and_for_one_host() -> None:
    lone = Lone()
    token = lone.token()
    said = Datagram(Kind.UPDATE, 2, target=TOPIC, token=token, command="peers", value=PeersInput().encode())
    lone.run(301)
    assert lone.ask(said, ASKER._replace(port=9)) is not None
    assert lone.ask(said, OTHER) is None
    lone.run(300)
    assert lone.ask(said) is None


def test_what_is_announced_is_told_to_others() -> None:
    lone = Lone()
    assert lone.update("peers", PeersInput(port=7).encode()) is not None
    answer = lone.ask(query("peers", b""), OTHER)
    assert answer is not None
    assert answer.value == b"\x0a\x06\xc0\x00\x02\x01\x00\x07"


def test_a_query_that_finds_nothing_is_answered_with_an_empty_value_and_an_update_without_one() -> None:
    lone = Lone()
    found = lone.ask(query("peers", b""), OTHER)
    taken = lone.update("peers", b"")
    assert found is not None
    assert taken is not None
    assert (found.value, taken.value) == (b"", None)


def test_a_record_that_stands_in_the_way_comes_with_the_error() -> None:
    lone = Lone()
    bad = Mutable(1, None, b"value", bytes(64))
    answer = lone.update("mutable-store", bad.encode())
    assert answer is not None
    assert answer.error == "ERR_INVALID_INPUT"


def test_an_answer_that_nobody_asked_for_brings_nobody_into_the_table() -> None:
    lone = Lone()
    lone.node.receive(encode(Datagram(Kind.RESPONSE, 1, id=bytes(32), to=ASKER)), ASKER)
    assert len(lone.node.table) == 0


def test_nobody_takes_anothers_place_by_his_id() -> None:
    lone = Lone()
    for source in (ASKER, OTHER):
        lone.meet(bytes(32), source)
    contact = lone.node.table.get(bytes(32))
    assert contact is not None
    assert contact.address == ASKER


def test_who_asks_is_known_only_once_he_has_answered() -> None:
    lone = Lone()
    asked = encode(Datagram(Kind.QUERY, 1, id=bytes(32), command="_ping"))
    for number in range(1, 1000):
        lone.node.receive(asked, Address("192.0.2.7", number))
    assert len(lone.node.table) == 0
    assert len([sent for sent, _ in lone.sent if sent.kind is Kind.QUERY]) == 16
    lone.meet(bytes(32), Address("192.0.2.7", 1))
    assert len(lone.node.table) == 1


def test_nobody_is_known_by_another_id_that_somebody_forged() -> None:
    lone = Lone()
    lone.meet(bytes(32), ASKER)
    assert lone.update("peers", b"") is not None
    lone.node.receive(encode(Datagram(Kind.QUERY, 1, id=b"x" * 32, command="_ping")), ASKER)
    assert [contact.id for contact in lone.node.table] == [bytes(32)]


def test_nobody_takes_anothers_place_by_answering_as_him() -> None:
    lone = Lone()
    lone.meet(bytes(32), ASKER)
    lone.node.ping(Asked(OTHER, bytes(32)), lambda answer: None)
    lone.node.receive(encode(Datagram(Kind.RESPONSE, lone.sent[-1][0].rid, id=bytes(32))), OTHER)
    contact = lone.node.table.get(bytes(32))
    assert contact is not None
    assert contact.address == ASKER


def test_nobody_is_forgotten_for_what_another_address_does_not_answer() -> None:
    lone = Lone()
    lone.meet(bytes(32), ASKER)
    lone.node.ping(Asked(OTHER, bytes(32)), lambda answer: None)
    lone.run(20)
    assert lone.node.table.get(bytes(32)) is not None


def test_who_answers_with_another_id_is_forgotten() -> None:
    lone = Lone()
    lone.meet(bytes(32), ASKER)
    lone.node.ping(Asked(ASKER, bytes(32)), lambda answer: None)
    lone.node.receive(encode(Datagram(Kind.RESPONSE, lone.sent[-1][0].rid, id=b"x" * 32)), ASKER)
    assert len(lone.node.table) == 0


def test_who_is_silent_when_pinged_is_forgotten() -> None:
    lone = Lone()
    lone.meet(bytes(32), ASKER)
    lone.run(60)
    assert len(lone.node.table) == 0


@pytest.mark.parametrize("alive", [True, False])
def test_a_full_bucket_takes_a_newcomer_only_for_one_who_is_silent(alive: bool) -> None:
    lone = Lone(id=bytes(32))
    lone.node.join()
    ids = [bytes([128, number]) + bytes(30) for number in range(21)]
    for number, node_id in enumerate(ids[:-1]):
        lone.meet(node_id, ASKER._replace(port=number + 1))
    token = lone.token()
    lone.run(6)
    lone.sent.clear()
    newcomer = ASKER._replace(port=99)
    said = Datagram(Kind.UPDATE, 1, id=ids[-1], target=TOPIC, token=token, command="peers", value=b"")
    lone.node.receive(encode(said), newcomer)
    pinged = [(sent.rid, sent.value, to) for sent, to in lone.sent if sent.kind is Kind.QUERY]
    assert [value for _, value, _ in pinged] == ids[:1]
    if alive:
        for number in range(3):
            rid = [sent.rid for sent, _ in lone.sent if sent.kind is Kind.QUERY][number]
            lone.node.receive(encode(Datagram(Kind.RESPONSE, rid, id=ids[number])), ASKER._replace(port=number + 1))
        assert [sent.value for sent, _ in lone.sent if sent.kind is Kind.QUERY] == ids[:3]
    else:
        lone.run(10)
    assert (lone.node.table.get(ids[-1]) is None) == alive
    assert (lone.node.table.get(ids[0]) is not None) == alive


def test_an_ephemeral_node_tells_its_id_to_nobody() -> None:
    lone = Lone(ephemeral=True)
    answer = lone.ask(query("_ping", target=None))
    lone.node.ping(Asked(ASKER), lambda answer: None)
    assert answer is not None
    assert answer.id is None
    assert lone.sent[-1][0].id is None


def heard_at(lone: Lone, addresses: list[Address]) -> None:
    for number, address in enumerate(addresses):
        lone.meet(bytes([number + 1]) * 32, ASKER._replace(port=number + 1), to=address)


@pytest.mark.parametrize(
    ("seen", "public"),
    [
        ([US] * 2, None),
        ([US] * 3, US),
        ([US] * 3 + [US._replace(port=8)] * 2, US),
        ([US] * 3 + [US._replace(port=8)] * 3, None),
        ([US._replace(port=port) for port in range(1, 11)], None),
    ],
)
def test_our_address_is_what_others_agree_on(seen: list[Address], public: Address | None) -> None:
    lone = Lone()
    heard_at(lone, seen)
    assert lone.node.public_address() == public


@pytest.mark.parametrize(
    ("seen", "own", "nat"),
    [
        ([US] * 2, US.host, Nat.UNKNOWN),
        ([US] * 3, US.host, Nat.NONE),
        ([US] * 3, "192.168.1.2", Nat.FIXED),
        ([US._replace(port=port) for port in range(1, 5)], "192.168.1.2", Nat.VARYING),
    ],
)
def test_what_is_between_us_and_others_is_known_by_where_they_see_us(seen: list[Address], own: str, nat: Nat) -> None:
    lone = Lone(own=own)
    heard_at(lone, seen)
    assert lone.node.nat() is nat


def test_behind_a_router_an_ephemeral_node_stays_one() -> None:
    lone = Lone(ephemeral=True, own="192.168.1.2")
    for _ in range(400):
        heard_at(lone, [US] * 10)
        lone.run(10)
    assert lone.node.public_address() == US
    assert lone.node.ephemeral


@pytest.mark.parametrize("reachable", [True, False])
def test_an_ephemeral_node_becomes_persistent_once_it_is_reached(reachable: bool) -> None:
    lone = Lone(ephemeral=True)
    for _ in range(200):  # they go on talking to us, so that they stay in the table
        heard_at(lone, [US if reachable else US._replace(port=number + 1) for number in range(10)])
        lone.run(10)
    assert lone.node.ephemeral != reachable


def test_a_flood_from_one_host_leaves_the_others_served() -> None:
    lone = Lone()
    flood = encode(query("_find_node"))
    served = 0
    for second in range(10):
        for _ in range(10_000):
            lone.node.receive(flood, OTHER)
        lone.now = float(second)
        served += lone.ask(query("_find_node")) is not None
    assert served == 10
    assert lone.node.refused > 99_000


def test_a_flood_of_forged_addresses_is_answered_at_one_rate_and_who_is_proven_is_served() -> None:
    lone = Lone(rates=Rates(unproven=100, burst_seconds=1))
    assert lone.update("peers", PeersInput().encode()) is not None
    flood = encode(query("_find_node"))
    served = 0
    lone.sent.clear()
    for second in range(1, 11):
        lone.now = float(second)
        for number in range(10_000):
            lone.node.receive(flood, Address(f"10.{second}.{number >> 8}.{number & 255}", 1))
        served += lone.ask(query("_find_node")) is not None
    assert served == 10
    assert len(lone.sent) <= 10 * 100 + served


def test_hosts_that_are_left_alone_take_no_memory() -> None:
    allowance = Allowance(Rates(), 0.0)
    for number in range(100):
        allowance.proven(f"10.0.0.{number}", 0.0)
        assert allowance.may_answer(f"10.0.0.{number}", 0.0)
        assert allowance.may_answer(f"10.0.1.{number}", 0.0)
    assert allowance.hosts == 300
    allowance.proven(str(OTHER.host), PROVEN_SECONDS)
    assert allowance.may_answer(OTHER.host, PROVEN_SECONDS)
    assert allowance.may_answer(ASKER.host, PROVEN_SECONDS)
    assert allowance.hosts == 3


def test_of_a_flood_that_is_not_answered_nothing_is_kept() -> None:
    allowance = Allowance(Rates(unproven=10, burst_seconds=1), 0.0)
    answered = [allowance.may_answer(f"10.0.{number}.1", 0.0) for number in range(200)]
    assert (answered.count(True), allowance.hosts, allowance.refused) == (10, 10, 190)
