"""A network of DHT nodes in one process: datagrams are calls, and time passes only between them.

The one rule: everything comes from one seeded generator, so that a run can be had again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.allowance import Rates
from hyperfs.swarm.dht.datagrams import Datagram, PeersInput, PeersOutput
from hyperfs.swarm.dht.node import PEERS, DhtNode
from hyperfs.swarm.dht.service import ANNOUNCE_SECONDS
from hyperfs.swarm.dht.timers import Timers
from hyperfs.swarm.dht.walk import WalkReport

PORT = 49737
_LONGEST_WALK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Lookup:
    """How a lookup went, and after how many ``seconds`` the first peer was found."""

    found: bool
    report: WalkReport
    seconds: float


class SimulatedNetwork:
    """Nodes at addresses of their own, joined by lines that take 10 to ``most_delay_seconds`` and lose ``loss``."""

    def __init__(self, seed: int, *, most_delay_seconds: float = 0.15, loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.timers = Timers(lambda: self.now)
        self.nodes: dict[Address, DhtNode] = {}
        self.sent = 0
        self._most_delay_seconds = most_delay_seconds
        self._loss = loss
        self._made = 0
        self._addresses: dict[int, Address] = {}

    def add(
        self,
        *,
        ephemeral: bool = False,
        bootstrap: list[Address] | None = None,
        is_ours: Callable[[str], bool] = lambda host: True,
    ) -> DhtNode:
        """Add a node that begins with ``bootstrap``, by default the first node there ever was.

        ``is_ours`` tells whether its machine has an address itself.
        """
        self._made += 1
        address = self.address(self._made)
        known = bootstrap if bootstrap is not None else [self.address(1)] if self._made > 1 else []
        node = self.nodes[address] = DhtNode(
            self.timers,
            lambda data, to: self.send(data, address, to),
            bootstrap=known,
            ephemeral=ephemeral,
            is_ours=is_ours,
            rates=Rates(),
            rng=random.Random(self.rng.getrandbits(64)),
        )
        self._addresses[id(node)] = address
        return node

    def address(self, number: int) -> Address:
        """Return the address of the node made as the ``number``-th, counted from 1."""
        return Address(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", PORT)

    def address_of(self, node: DhtNode) -> Address:
        """Return where a node is."""
        return self._addresses[id(node)]

    def remove(self, node: DhtNode) -> None:
        """Take a node away without a word, as a crash does."""
        del self.nodes[self._addresses.pop(id(node))]
        node.close()

    def send(self, data: bytes, source: Address, to: Address) -> None:
        """Carry a datagram, if it is not lost."""
        self.sent += 1
        if self.rng.random() < self._loss:
            return

        def arrive() -> None:
            node = self.nodes.get(to)
            if node is not None:
                node.receive(data, source)

        self.timers.after(self.rng.uniform(0.01, self._most_delay_seconds), arrive)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, is_over: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until ``is_over``, at most ``seconds``; return whether it is."""
        end = self.now + seconds
        while not is_over():
            due = self.timers.next_at
            if due is None or due > end:
                self.now = end
                return is_over()
            self.now = max(self.now, due)
            self.timers.run_due()
        return True

    def join(self, node: DhtNode, seconds: float = 60.0) -> None:
        """Have a node join; return when it has."""
        joined: list[bool] = []
        node.join(lambda: joined.append(True))
        self.run_until(lambda: bool(joined), seconds)

    def announce(self, node: DhtNode, topic: bytes, port: int = 4000) -> WalkReport:
        """Announce a topic once; return how that went."""
        reports: list[WalkReport] = []
        node.walk(PEERS, topic, PeersInput(port).encode(), update=True, done=reports.append)
        self.run_until(lambda: bool(reports), _LONGEST_WALK_SECONDS)
        return reports[0]

    def keep_announced(self, node: DhtNode, topic: bytes, port: int = 4000) -> None:
        """Announce a topic again and again from now on, as a service does."""

        def again() -> None:
            node.walk(PEERS, topic, PeersInput(port).encode(), update=True)
            self.timers.after(self.rng.uniform(*ANNOUNCE_SECONDS), again)

        again()

    def lookup(self, node: DhtNode, topic: bytes) -> Lookup:
        """Look a topic up to the end of the walk."""
        return self.lookup_all([(node, topic)])[0]

    def lookup_all(self, wanted: Sequence[tuple[DhtNode, bytes]]) -> list[Lookup]:
        """Look topics up from nodes, all at once, to the end of the last walk."""
        lookups = [_RunningLookup(self, node, topic) for node, topic in wanted]
        self.run_until(lambda: all(lookup.report is not None for lookup in lookups), _LONGEST_WALK_SECONDS)
        return [lookup.result() for lookup in lookups]


class _RunningLookup:
    """A lookup that was begun, and what has come of it."""

    def __init__(self, network: SimulatedNetwork, node: DhtNode, topic: bytes) -> None:
        self.report: WalkReport | None = None
        self._network = network
        self._began = network.now
        self._first: float | None = None
        node.walk(PEERS, topic, PeersInput().encode(), on_answer=self._answered, done=self._over)

    def result(self) -> Lookup:
        assert self.report is not None
        return Lookup(self._first is not None, self.report, (self._first or self._network.now) - self._began)

    def _answered(self, answer: Datagram, _: Address) -> None:
        told = PeersOutput.decode(answer.value or b"")
        if told is not None and told.peers and self._first is None:
            self._first = self._network.now

    def _over(self, report: WalkReport) -> None:
        self.report = report
