"""A node finds out whether those reach it to whom it has sent nothing, and relies on nothing less."""

import pytest

from bench.dht_network import PORT, SimulatedNetwork
from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.node import DhtNode
from hyperfs.swarm.dht.strangers import MAX_HOSTS, SENT_SECONDS, SentTo

NODES = 100
SECONDS = 10.0


class RoutedNetwork(SimulatedNetwork):
    """A network in which the node at ``routed`` is behind a router that lets in whom it sent something lately.

    With ``open_to_all`` it lets in everybody. The node's own machine has another address.
    """

    def __init__(self, seed: int, *, open_to_all: bool) -> None:
        super().__init__(seed)
        self.routed: Address | None = None
        self._open_to_all = open_to_all
        self._let_in: dict[str, float] = {}

    def send(self, data: bytes, source: Address, to: Address) -> None:
        if source == self.routed:
            self._let_in[to.host] = self.now
        if to == self.routed and not self._open_to_all and self.now - self._let_in.get(source.host, -1e9) > 120:
            return
        super().send(data, source, to)

    def add_routed(self) -> DhtNode:
        self.routed = self.address(len(self.nodes) + 1)
        return self.add(ephemeral=True, is_ours=lambda host: False)

    def address(self, number: int) -> Address:
        return Address(f"11.0.{number >> 8 & 255}.{number & 255}", PORT)  # public ones, of which strangers may tell


def joined(*, open_to_all: bool, nodes: int = NODES) -> tuple[RoutedNetwork, DhtNode]:
    network = RoutedNetwork(1, open_to_all=open_to_all)
    for _ in range(nodes):
        network.join(network.add())
    node = network.add_routed()
    network.join(node)
    return network, node


def test_behind_a_router_that_lets_everybody_through_a_node_becomes_persistent() -> None:
    network, node = joined(open_to_all=True)
    node.consider_persistence()
    network.run(SECONDS)
    assert not node.ephemeral
    assert any(other.table.get(node.id) is not None for other in network.nodes.values() if other is not node)


def test_behind_one_that_lets_through_answers_alone_it_stays_ephemeral() -> None:
    network, node = joined(open_to_all=False)
    node.consider_persistence()
    network.run(SECONDS)
    assert node.ephemeral


def test_where_it_has_sent_to_everybody_nothing_can_be_found_out() -> None:
    network, node = joined(open_to_all=True, nodes=8)
    node.consider_persistence()
    network.run(SECONDS)
    assert node.ephemeral


def test_who_was_sent_something_is_a_stranger_again_after_a_while() -> None:
    sent = SentTo()
    sent.note("11.0.0.1", 10.0)
    assert sent.may_include("11.0.0.1", 10.0 + SENT_SECONDS - 1)
    assert not sent.may_include("11.0.0.1", 10.0 + SENT_SECONDS)
    assert not sent.may_include("11.0.0.2", 10.0)


@pytest.mark.parametrize("later", [1.0, SENT_SECONDS])
def test_nobody_is_taken_for_a_stranger_while_there_may_be_one_too_many_to_remember(later: float) -> None:
    sent = SentTo()
    for number in range(MAX_HOSTS + 1):
        sent.note(f"11.0.{number >> 8}.{number & 255}", 10.0)
    assert sent.may_include("11.0.0.0", 10.0 + later) == (later < SENT_SECONDS)
