"""A walk ends, whoever lies or is silent, and what is cancelled sends nothing more."""

from collections.abc import Callable, Collection

import pytest

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.datagrams import Datagram, Kind, NodeAddress, encode_nodes
from hyperfs.swarm.dht.requests import Asked
from hyperfs.swarm.dht.walk import MAX_ASKED, NEAREST, Walk, WalkReport

TARGET = bytes(32)
FIRST = Address("198.51.101.1", 1)
TOKEN = b"t" * 32


def node_id(distance: int) -> bytes:
    return distance.to_bytes(32, "big")


class Network:
    """Notes what a walk asks; answers are given by the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[Asked, bool]] = []
        self.given_up: list[Asked] = []
        self.waiting: list[Callable[[], None]] = []
        self.silent: Collection[Address] = ()
        self.reports: list[WalkReport] = []
        self._done: list[Callable[[Datagram | None], None]] = []
        self._silent: list[Callable[[], None]] = []

    @property
    def in_flight(self) -> int:
        return 0

    def when_free(self, call: Callable[[], None]) -> None:
        self.waiting.append(call)

    def ask(
        self, asked: Asked, done: Callable[[Datagram | None], None], *, silent: Callable[[], None], update: bool
    ) -> None:
        self.asked.append((asked, update))
        self._done.append(done)
        self._silent.append(silent)

    def give_up(self, asked: Asked) -> None:
        self.given_up.append(asked)

    def walk(self, known: list[NodeAddress], *, updates: bool = False) -> Walk:
        walk = Walk(
            TARGET,
            node_id(1 << 255),
            self,
            updates=updates,
            on_answer=lambda answer, address: None,
            done=self.reports.append,
        )
        walk.start(known, ())
        return walk

    def answer(self, number: int, *, id: bytes | None = None, closer: list[NodeAddress] | None = None) -> None:
        """Answer what was asked as the ``number``-th, by default as whom it was asked of."""
        self._done[number](
            Datagram(
                Kind.RESPONSE,
                0,
                id=id or self.asked[number][0].id,
                token=TOKEN,
                closer=encode_nodes(closer or []),
            )
        )

    def be_silent(self, number: int) -> None:
        self._silent[number]()

    def give_up_on(self, number: int) -> None:
        self._done[number](None)


def nodes(count: int) -> list[NodeAddress]:
    return [NodeAddress(node_id(number + 1000), Address(f"198.51.101.{number + 1}", 1)) for number in range(count)]


def test_a_walk_does_not_wait_for_few_who_are_silent() -> None:
    network = Network()
    network.walk(nodes(5), updates=True)
    network.be_silent(0)
    for number in (1, 2, 3, 4):
        assert not any(update for _, update in network.asked)
        network.answer(number)
    assert [update for _, update in network.asked] == [False] * 5 + [True] * 4
    network.answer(0)
    assert network.asked[-1] == (network.asked[-1][0], True), "who answers late is told, too"
    for number in range(5, 10):
        network.answer(number)
    assert [report.updates for report in network.reports] == [5]


def test_a_walk_waits_for_those_who_are_silent_while_they_are_most() -> None:
    network = Network()
    network.walk(nodes(5))
    for number in range(4):
        network.be_silent(number)
    network.answer(4)
    assert network.reports == []
    network.answer(0)
    assert network.reports == []
    network.answer(1)
    assert len(network.reports) == 1


def test_who_answers_as_somebody_else_is_not_told_anything() -> None:
    network = Network()
    network.walk(nodes(2), updates=True)
    network.answer(0, id=network.asked[1][0].id)
    network.answer(1)
    assert [asked.address for asked, update in network.asked if update] == [network.asked[1][0].address]


def test_a_walk_ends_however_many_nearer_nodes_somebody_makes_up() -> None:
    network = Network()
    network.walk([NodeAddress(node_id(1 << 250), FIRST)])
    number = 0
    while number < len(network.asked):
        nearer = int.from_bytes(network.asked[number][0].id or b"", "big")
        network.answer(
            number, closer=[NodeAddress(node_id(nearer - 1), FIRST), NodeAddress(node_id(nearer - 2), FIRST)]
        )
        number += 1
    assert MAX_ASKED <= len(network.asked) <= MAX_ASKED + NEAREST
    assert len(network.reports) == 1


def test_who_is_not_there_makes_room_for_others() -> None:
    network = Network()
    network.walk(nodes(NEAREST + 1))
    for number in range(1, 16):
        network.answer(number)
    assert len(network.asked) == NEAREST
    network.give_up_on(0)
    assert len(network.asked) == NEAREST + 1


@pytest.mark.parametrize(("host", "asked"), [("8.8.8.8", 4), ("192.168.1.1", 16)])
def test_an_address_on_the_internet_stands_for_four_nodes(host: str, asked: int) -> None:
    network = Network()
    network.walk([NodeAddress(node_id(number + 1000), Address(host, number + 1)) for number in range(NEAREST)])
    assert len(network.asked) == asked


def test_who_is_told_of_at_a_wrong_address_is_asked_at_the_right_one_as_well() -> None:
    network = Network()
    wrong, right = (NodeAddress(node_id(5), Address(host, 1)) for host in ("8.8.8.8", "8.8.4.4"))
    network.walk([wrong, *nodes(1)])
    network.answer(1, closer=[right])
    assert network.asked[-1][0].address == right.address


def test_nobody_on_the_internet_makes_us_ask_in_our_own_network() -> None:
    network = Network()
    network.walk([NodeAddress(node_id(1000), Address("8.8.8.8", 1))])
    told = [Address("192.168.1.1", 1), Address("127.0.0.1", 1), Address("224.0.0.1", 1), Address("8.8.4.4", 1)]
    network.answer(0, closer=[NodeAddress(node_id(number + 1), address) for number, address in enumerate(told)])
    assert [asked.address for asked, _ in network.asked[1:]] == [Address("8.8.4.4", 1)]


def test_what_is_cancelled_asks_for_nothing_more() -> None:
    network = Network()
    walk = network.walk(nodes(3), updates=True)
    network.be_silent(0)
    network.answer(1)
    network.answer(2)
    walk.cancel()
    assert network.given_up == [network.asked[number][0] for number in (3, 4, 0)]
    for number in (0, 3, 4):
        network.give_up_on(number)
    assert (len(network.asked), network.reports) == (5, [])
