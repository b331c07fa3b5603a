"""A DHT on a bad network, in which some lie: what is honest is found all the same, and nothing hangs or grows.

Datagrams are lost, come twice, late, bent, or from forged addresses. The liars tell of nodes that are not there, or of
themselves alone, answer as others, with others' numbers, or not at all, and ask for whatever they like.
"""

import random
from collections import Counter

from bench.dht_network import PORT, SimulatedNetwork
from hyperfs.swarm.addresses import Address, decode_addresses
from hyperfs.swarm.dht.datagrams import (
    ID_BYTES,
    Datagram,
    Holepunch,
    Kind,
    Mutable,
    NodeAddress,
    PeersInput,
    PeersOutput,
    decode,
    encode,
    encode_nodes,
)
from hyperfs.swarm.dht.node import DhtNode
from hyperfs.swarm.dht.records import MAX_TOLD
from hyperfs.swarm.dht.table import BUCKET_NODES
from hyperfs.swarm.dht.walk import WalkReport

SEEDS = 12
SHARE_FOUND = 0.8
"""Of the honest lookups in one run, how many find what was announced."""
_SETTLE_SECONDS = 20.0
_QUIET_SECONDS = 60.0
_WALK_SECONDS = 120.0
_MAX_HELD = 12 * BUCKET_NODES
"""Nodes in one table: each bucket is full that chance could fill, and those beyond that somebody aimed at."""
_COMMANDS = ["_ping", "_find_node", "_holepunch", "peers", "immutable-store", "mutable-store", "no such command", None]


def run(seed: int) -> str:
    """Make one run, and return what was done."""
    machine = Machine(seed)
    try:
        machine.run()
    except Exception as error:
        error.add_note("\n".join(machine.told))
        raise
    return "\n".join(machine.told)


class BadNetwork(SimulatedNetwork):
    """Loses, doubles, delays and bends datagrams, and carries those for hosts of liars to them, whatever the port."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.loss = self.rng.choice([0.0, 0.02, 0.1])
        self.twice = self.rng.choice([0.0, 0.1, 0.5])
        self.late = self.rng.choice([0.0, 0.02, 0.1])
        self.bent = self.rng.choice([0.0, 0.02])
        self.liars: dict[str, Liar] = {}

    def address(self, number: int) -> Address:
        """Return an address on the internet."""
        return Address(f"11.0.{number >> 8}.{number & 255}", PORT)

    def send(self, data: bytes, source: Address, to: Address) -> None:
        """Carry a datagram, or not."""
        self.sent += 1
        if self.rng.random() < self.loss:
            return
        if self.rng.random() < self.bent and data:
            at = self.rng.randrange(len(data))
            data = data[:at] + self.rng.randbytes(1) + data[at + 1 :]
        for _ in range(2 if self.rng.random() < self.twice else 1):
            delay = self.rng.uniform(0.01, 0.15) if self.rng.random() >= self.late else self.rng.uniform(0.5, 10.0)
            self.timers.after(delay, lambda: self._arrive(data, source, to))

    def _arrive(self, data: bytes, source: Address, to: Address) -> None:
        liar = self.liars.get(to.host)
        if liar is not None:
            liar.receive(data, source, to)
        elif to in self.nodes:
            self.nodes[to].receive(data, source)


class Liar:
    """Takes part at one host, in one way."""

    WAYS = ("silent", "alone", "endless", "impostor", "wrong numbers", "nonsense", "many")

    def __init__(self, network: BadNetwork, host: str) -> None:
        self.network = network
        self.rng = network.rng
        self.host = host
        self.way = self.rng.choice(self.WAYS)
        self.id = self.rng.randbytes(ID_BYTES)

    def receive(self, data: bytes, source: Address, to: Address) -> None:
        """Answer a question."""
        asked = decode(data)
        if asked is None or asked.kind is Kind.RESPONSE or self.way == "silent":
            return
        target = asked.target or self.id
        rid, own_id, closer, value = asked.rid, self.id, self.others(target), b""
        if self.way == "endless":
            closer = [NodeAddress(near(target, self.rng), Address(self.host, self.rng.randrange(1, 1 << 16)))] * 3
            own_id = near(target, self.rng)
        elif self.way == "impostor":
            own_id = self.rng.choice(list(self.network.nodes.values())).id
        elif self.way == "wrong numbers":
            rid = self.rng.choice([asked.rid ^ 1, self.rng.randrange(1 << 16), (1 << 64) - 1])
        elif self.way == "nonsense":
            value = self.rng.randbytes(self.rng.choice([1, 7, 1000]))
        if asked.command == "peers" and self.way != "nonsense":
            value = PeersOutput(peers=self.rng.randbytes(6 * self.rng.choice([1, 128, 600]))).encode()
        answer = Datagram(
            Kind.RESPONSE,
            rid,
            id=own_id,
            closer=encode_nodes(closer),
            token=self.rng.choice([b"", self.rng.randbytes(32)]),
            value=value,
            error=self.rng.choice([None, None, "no"]),
            to=source,
        )
        for _ in range(5 if self.way == "many" else 1):
            self.network.send(encode(answer), to, source)

    def others(self, target: bytes) -> list[NodeAddress]:
        """Return nodes that are not there, or are liars, or are elsewhere."""
        found = []
        for _ in range(self.rng.choice([0, 3, 20])):
            host = self.rng.choice(
                [self.host, self.host, f"11.9.9.{self.rng.randrange(1, 255)}", "127.0.0.1", "10.0.0.1"]
            )
            honest = self.rng.choice(list(self.network.nodes.values())).id
            node_id = self.rng.choice([near(target, self.rng), honest, self.rng.randbytes(ID_BYTES)])
            found.append(NodeAddress(node_id, Address(host, self.rng.randrange(1, 1 << 16))))
        return found

    def attack(self) -> None:
        """Send something to an honest node that nobody asked for, from here or from a forged address."""
        to, node = self.rng.choice(list(self.network.nodes.items()))
        source = Address(self.host, self.rng.randrange(1, 1 << 16))
        if self.rng.random() < 0.5:
            source = self.rng.choice([*self.network.nodes, Address(f"11.8.8.{self.rng.randrange(1, 255)}", 1)])
        values = [None, b"", PeersInput(1, source, unannounce=self.rng.random() < 0.5).encode(), self.rng.randbytes(50)]
        values += [Holepunch(sender=source, to=to).encode(), Mutable(1, b"s" * 16, b"v", bytes(64)).encode()]
        sent = Datagram(
            self.rng.choice(list(Kind)),
            self.rng.randrange(1 << 16),
            id=self.rng.choice([None, near(node.id, self.rng), self.rng.randbytes(ID_BYTES)]),
            target=self.rng.choice([None, self.rng.randbytes(ID_BYTES), node.id]),
            closer=encode_nodes(self.others(node.id)),
            token=self.rng.choice([None, self.rng.randbytes(32)]),
            command=self.rng.choice(_COMMANDS),
            value=self.rng.choice(values),
            to=Address("11.7.7.7", 7),
        )
        data = encode(sent) if self.rng.random() < 0.9 else self.rng.randbytes(self.rng.randrange(300))
        self.network.send(data, source, to)


def near(target: bytes, rng: random.Random) -> bytes:
    """Return an id that shares many bits with a target."""
    return target[:8] + rng.randbytes(ID_BYTES - 8)


class Machine:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.network = BadNetwork(seed)
        self.rng = self.network.rng
        self.told: list[str] = []

    def run(self) -> None:
        """Grow a network, attack it, and look for what was announced there."""
        network = self.network
        honest = [network.add() for _ in range(self.rng.randrange(10, 30))]
        for number in range(self.rng.choice([0, 1, 2, 3])):
            liar = Liar(network, f"11.6.6.{number + 1}")
            network.liars[liar.host] = liar
            self.told.append(f"a liar: {liar.way}")
        for node in honest:
            node.join()
            network.run(self.rng.uniform(0.0, 1.0))
            self.attack(5)
        network.run(_SETTLE_SECONDS)
        self.told.append(f"{len(honest)} honest nodes, {network.sent} datagrams to join")
        topics = {self.rng.randbytes(ID_BYTES): node for node in self.rng.sample(honest, 4)}
        for topic, node in topics.items():
            network.announce(node, topic)
            self.attack(20)
        wanted = [(node, topic) for topic in topics for node in self.rng.sample(honest, 5) if node is not topics[topic]]
        found = sum(self.is_found(*each, topics[each[1]]) for each in wanted)
        self.told.append(f"{found} of {len(wanted)} lookups found what was announced")
        assert found >= SHARE_FOUND * len(wanted), f"only {found} of {len(wanted)} lookups found what was announced"
        network.run(_QUIET_SECONDS)
        for node in honest:
            self.check(node)

    def attack(self, most: int) -> None:
        """Have liars send what nobody asked for."""
        for liar in self.network.liars.values():
            for _ in range(self.rng.randrange(most)):
                liar.attack()

    def is_found(self, node: DhtNode, topic: bytes, announcer: DhtNode) -> bool:
        """Look a topic up, to the end; tell whether its announcer was found."""
        found: set[Address] = set()
        reports: list[WalkReport] = []

        def answered(answer: Datagram, _: Address) -> None:
            told = PeersOutput.decode(answer.value or b"")
            found.update(decode_addresses(b"" if told is None else told.peers, MAX_TOLD))

        node.walk("peers", topic, PeersInput().encode(), on_answer=answered, done=reports.append)
        assert self.network.run_until(lambda: bool(reports), _WALK_SECONDS), "a walk does not end"
        return self.network.address_of(announcer)._replace(port=4000) in found

    def check(self, node: DhtNode) -> None:
        """See that what a node keeps is bounded, and true as far as it can know."""
        assert len(node.table) <= _MAX_HELD
        buckets = Counter(
            (int.from_bytes(one.id, "big") ^ int.from_bytes(node.id, "big")).bit_length() for one in node.table
        )
        assert max(buckets.values(), default=0) <= BUCKET_NODES
        if self.network.bent:
            return  # what was bent on the way may be anything
        ids = {honest.id: address for address, honest in self.network.nodes.items()}
        for contact in node.table:
            honest = self.network.nodes.get(contact.address)
            assert honest is None or honest.id == contact.id
            assert honest is not None or contact.address.host in self.network.liars
            assert contact.id != node.id
            assert ids.get(contact.id, contact.address) == contact.address or contact.address.host in self.network.liars
