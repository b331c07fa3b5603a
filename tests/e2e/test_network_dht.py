"""A DHT of fifty nodes, a third of them the reference's, some behind routers: what is announced is found from each.

The nodes of one host share a process, each with an address of its own. A lookup is to take less than two seconds; how
long they took is printed, and what is asserted is that they find.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from tests.support.dht_process import dht_process
from tests.support.network import Network, NetworkHost, network
from tests.support.reference import ReferencePeer, reference_peer

OURS = (6, 6, 6, 6, 5)
"""How many nodes each of our hosts with public addresses has."""
THEIRS = (4, 4, 4, 3)
AT_HOME = ((2, True), (1, False))
"""How many nodes each host behind a router has, and whether they are ours."""
PORT = 49737
LIMIT_SECONDS = 300
"""Only ends what hangs: a minute is not enough for fifty nodes where others keep the machine busy."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Place:
    """A host, whose nodes it runs, and the address of the router that it is behind."""

    host: NetworkHost
    ours: bool
    router: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A node by its number in its process. ``seen_as`` is the host that others see."""

    process: ReferencePeer
    number: int
    id: bytes
    ours: bool
    seen_as: str
    at_home: bool

    async def announce(self, topic: bytes) -> None:
        """Announce the port of its socket."""
        await self._call("announce", topic, port=0)

    async def unannounce(self, topic: bytes) -> None:
        await self._call("unannounce", topic, port=0)

    async def find(self, topic: bytes) -> tuple[str | None, float]:
        """Return the host that is found first, None for nobody, and after how many seconds."""
        found = await self._call("find", topic)
        if found["peer"] is None:
            return None, 0.0
        return found["peer"].partition(":")[0], found["milliseconds"] / 1000

    async def _call(self, method: str, topic: bytes, **params: Any) -> Any:
        return await self.process.call(f"dht.{method}", node=self.number, topic=topic.hex(), **params)


class Fifty:
    """The network. Its processes run in ``nursery``."""

    def __init__(self, switch: Network, nursery: trio.Nursery) -> None:
        self.nodes: list[Node] = []
        self.switch = switch
        self._nursery = nursery
        self._bootstrap: list[str] = []

    @property
    def second(self) -> Node:
        """The one of the two nodes that everybody began with that is there to the end."""
        return next(node for node in self.nodes if f"{node.seen_as}:{PORT}" == self._bootstrap[1])

    async def grow(self) -> None:
        """Start all the nodes. Everybody begins with two of them, one ours and one the reference's."""
        ours, *more_ours = [Place(self.switch.host(count), True) for count in OURS]
        theirs, *more_theirs = [Place(self.switch.host(count), False) for count in THEIRS]
        homes = [self.switch.home() for _ in range(2)]
        behind = [Place(home.host(count), mine, home.address) for home in homes for count, mine in AT_HOME]
        for first in (ours, theirs):
            await self.start(first)
            self._bootstrap.append(f"{first.host.address}:{PORT}")
        await in_parallel(self.start, more_ours + more_theirs)
        await in_parallel(self.start, behind)

    async def start(self, place: Place) -> list[Node]:
        """Start a node at each address of a host. The first of the network joins before the others do."""
        run = dht_process if place.ours else reference_peer

        async def hold(task_status: trio.TaskStatus[ReferencePeer]) -> None:
            async with run(wrapper=place.host.wrapper) as process:
                task_status.started(process)
                await trio.sleep_forever()

        process = await self._nursery.start(hold)

        async def join(address: str, *bootstrap: str) -> Node:
            ephemeral = place.router is not None
            known = [*self._bootstrap, *bootstrap]
            params = {"bootstrap": known, "ephemeral": ephemeral, "host": address, "port": PORT}
            started = await process.call("dht.start", **params)
            node_id = bytes.fromhex(started["id"])
            return Node(process, started["node"], node_id, place.ours, place.router or address, at_home=ephemeral)

        first, *others = place.host.addresses
        nodes = [await join(first)]
        nodes += await in_parallel(lambda address: join(address, f"{first}:{PORT}"), others)
        self.nodes += nodes
        return nodes

    async def announced_by(self, nodes: Iterable[Node], name: str) -> dict[bytes, Node]:
        """Announce a topic by each node; return who announced which."""
        announced = {self._topic(f"{name} {number}"): node for number, node in enumerate(nodes)}
        await in_parallel(lambda topic: announced[topic].announce(topic), announced)
        return announced

    def _topic(self, name: str) -> bytes:
        """Return a topic near to most nodes.

        All of the 20 nearest nodes have its first bit then, and so they are in one another's tables, however full the
        buckets for the others are. Whoever announces something and takes it back tells the same ones.
        """
        first_bits = [node.id[0] >> 7 for node in self.nodes if not node.at_home]
        first_bit = 2 * sum(first_bits) >= len(first_bits)
        topic = hashlib.blake2b(name.encode(), digest_size=32).digest()
        return bytes([topic[0] & 0x7F | first_bit << 7]) + topic[1:]

    def kill_a_third(self, *, but: set[ReferencePeer]) -> None:
        """End processes of either kind, and all their nodes, without a word."""
        least_left = len(self.nodes) * 2 // 3
        by_turns: list[ReferencePeer] = []
        for ours in (True, False):
            processes = list(dict.fromkeys(node.process for node in self.nodes if node.ours == ours))
            by_turns += [process for process in processes if process not in but]
        for process in by_turns[::2] + by_turns[1::2]:
            if len(self.nodes) > least_left:
                process.kill()
                self.nodes = [node for node in self.nodes if node.process is not process]
        assert len(self.nodes) <= least_left

    async def found_from_all(self, announced: dict[bytes, Node], what: str) -> None:
        """Assert that each topic is found from every node but the one that announced it, and print how soon.

        A node that gets no answers in time, as on a busy machine, looks again; the one that is found is the right one.
        """
        seconds: dict[bool, list[float]] = {True: [], False: []}

        async def find(topic: bytes, node: Node) -> None:
            host = None
            while host is None:
                host, after = await node.find(topic)
            assert host == announced[topic].seen_as
            seconds[node.ours].append(after)

        for topic, announcer in announced.items():
            others = [node for node in self.nodes if node != announcer]
            await in_parallel(lambda node, topic=topic: find(topic, node), others)
        for who, some in (("our", sorted(seconds[True])), ("their", sorted(seconds[False]))):
            longest = f"median {some[len(some) // 2]:.2f} s, longest {some[-1]:.2f} s"
            print(f"{what}: {len(some)} lookups by {who} nodes, {longest}")


async def in_parallel(call: Callable[[T], Awaitable[R]], each: Iterable[T]) -> list[R]:
    """Return what ``call`` returns for each, in no order."""
    results: list[R] = []

    async def one(argument: T) -> None:
        results.append(await call(argument))

    async with trio.open_nursery() as nursery:
        for argument in each:
            nursery.start_soon(one, argument)
    return results


@asynccontextmanager
async def fifty() -> AsyncIterator[Fifty]:
    with trio.fail_after(LIMIT_SECONDS), network() as switch:
        async with trio.open_nursery() as nursery:
            made = Fifty(switch, nursery)
            await made.grow()
            assert len(made.nodes) == 50
            yield made
            nursery.cancel_scope.cancel()


def some_of_each(nodes: list[Node]) -> list[Node]:
    """Return a node of each kind: ours and theirs, reached from anywhere and behind a router."""
    kinds = {(node.ours, node.at_home): node for node in nodes}
    assert len(kinds) == 4
    return list(kinds.values())


async def test_a_network_finds_what_is_announced_while_nodes_come_and_go_and_die() -> None:
    async with fifty() as network:
        announced = await network.announced_by(some_of_each(network.nodes), "first")
        await network.found_from_all(announced, "50 nodes")

        announced = await network.announced_by(some_of_each(network.nodes), "second")
        await in_parallel(lambda topic: announced[topic].unannounce(topic), announced)
        for topic, announcer in announced.items():
            while set(await in_parallel(lambda node, topic=topic: node.find(topic), network.nodes)) != {(None, 0.0)}:
                await announcer.unannounce(topic)  # again, to those who had not answered in time
        newcomers = [Place(network.switch.host(), ours) for ours in (True, False)]
        came = [node for nodes in await in_parallel(network.start, newcomers) for node in nodes]

        announced = await network.announced_by([*some_of_each(network.nodes), *came], "third")
        network.kill_a_third(but={node.process for node in [*announced.values(), network.second]})
        await network.found_from_all(announced, "a third killed")
        (last,) = await network.start(Place(network.switch.host(), True))
        await network.found_from_all(await network.announced_by([last, came[1]], "last"), "announced after that")
