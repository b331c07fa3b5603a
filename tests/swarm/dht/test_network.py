"""A network of nodes finds what one of them announced, from everywhere, also when a third of it dies."""

import pytest

from bench.dht_network import SimulatedNetwork
from hyperfs.swarm.dht.datagrams import PeersInput
from hyperfs.swarm.dht.node import PEERS, DhtNode
from hyperfs.swarm.dht.requests import Asked

NODES = 60


def network_of(count: int, seed: int, **options: float) -> tuple[SimulatedNetwork, list[DhtNode]]:
    network = SimulatedNetwork(seed, **options)
    nodes = [network.add() for _ in range(count)]
    for node in nodes:
        network.join(node)
    return network, nodes


@pytest.mark.parametrize("seed", range(2))
def test_what_one_announces_all_find_within_two_seconds(seed: int) -> None:
    network, nodes = network_of(NODES, seed)
    topic = network.rng.randbytes(32)
    network.announce(nodes[7], topic)
    lookups = network.lookup_all([(node, topic) for node in nodes if node is not nodes[7]])
    assert all(lookup.found for lookup in lookups)
    assert max(lookup.seconds for lookup in lookups) < 2.0


@pytest.mark.parametrize("seed", range(2))
def test_what_was_announced_is_found_when_a_third_has_died(seed: int) -> None:
    network, nodes = network_of(NODES, seed)
    topic = network.rng.randbytes(32)
    network.announce(nodes[7], topic)
    for node in network.rng.sample(nodes[8:], NODES // 3):
        network.remove(node)
    lookups = network.lookup_all([(node, topic) for node in network.nodes.values() if node is not nodes[7]])
    assert all(lookup.found for lookup in lookups)
    assert max(lookup.seconds for lookup in lookups) < 2.0


@pytest.mark.parametrize("seed", range(2))
def test_many_lookups_of_one_node_find_within_eight_seconds_when_half_has_died(seed: int) -> None:
    network, nodes = network_of(NODES, seed)
    topics = [network.rng.randbytes(32) for _ in range(10)]
    for topic in topics:
        network.announce(nodes[7], topic)
    for node in network.rng.sample(nodes[8:], NODES // 2):
        network.remove(node)
    lookups = network.lookup_all([(nodes[0], topic) for topic in topics])
    assert all(lookup.found for lookup in lookups)
    assert max(lookup.seconds for lookup in lookups) < 8.0


def test_a_line_that_loses_a_tenth_only_slows_it_down() -> None:
    network, nodes = network_of(NODES, 1, loss=0.1)
    topic = network.rng.randbytes(32)
    network.announce(nodes[7], topic)
    lookups = network.lookup_all([(node, topic) for node in nodes if node is not nodes[7]])
    assert all(lookup.found for lookup in lookups)


def test_the_dead_leave_the_tables_by_and_by() -> None:
    network, nodes = network_of(NODES, 1)
    dead = set(network.rng.sample(nodes, NODES // 3))
    for node in dead:
        network.remove(node)
    ids = {node.id for node in dead}
    network.run(1800)
    assert not [contact for node in network.nodes.values() for contact in node.table if contact.id in ids]


def test_a_newcomer_is_known_to_his_neighbours() -> None:
    network, nodes = network_of(NODES, 1)
    newcomer = network.add()
    network.join(newcomer)
    network.run(5)
    nearest = sorted(nodes, key=lambda node: int.from_bytes(node.id, "big") ^ int.from_bytes(newcomer.id, "big"))[:10]
    assert all(node.table.get(newcomer.id) is not None for node in nearest)


def test_who_knows_only_a_node_that_knows_nobody_asks_where_to_begin_as_well() -> None:
    network, nodes = network_of(30, 1)
    loner, newcomer = network.add(bootstrap=[]), network.add()
    newcomer.ping(Asked(network.address_of(loner), loner.id), lambda _: None)
    network.run(5)
    assert [contact.id for contact in newcomer.table] == [loner.id]
    topic = network.rng.randbytes(32)
    network.announce(newcomer, topic)
    assert network.lookup(nodes[3], topic).found


def test_a_walk_that_is_cancelled_tells_no_more() -> None:
    network, nodes = network_of(10, 1)
    told: list[object] = []
    walk = nodes[3].walk(
        PEERS,
        bytes(32),
        PeersInput().encode(),
        on_answer=lambda answer, address: told.append(answer),
        done=told.append,
    )
    network.run_until(lambda: bool(told), 10)
    walk.cancel()
    before = len(told)
    network.run(60)
    assert len(told) == before == 1


def test_when_nobody_answers_the_walk_ends_all_the_same() -> None:
    network = SimulatedNetwork(1)
    alone = network.add(bootstrap=[network.address(77)])
    lookup = network.lookup(alone, bytes(32))
    assert (lookup.found, lookup.report.answers) == (False, 0)
