"""What is wanted of a core, and what was asked for it.

A block that a demand wants is in exactly one place: in its ``todo``, under way in a flight that lists the demand, or
here. ``pending`` counts the second kind, so a demand is met when it is 0 and ``todo`` is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.core.proofs import MAX_LENGTH, Received
from hyperfs.core.reader import Priority
from hyperfs.errors import BlockNotAvailable
from hyperfs.replication.ranges import Ranges

if TYPE_CHECKING:
    from hyperfs.replication.peer import Peer

MAX_UNSEEN: Final = 64
"""Ranges in which a peer's announcements are still to be compared with a demand; past that they are taken together."""


class Demand:
    """Ranges of blocks that somebody wants, at one priority."""

    __slots__ = ("_unseen", "done", "error", "pending", "priority", "todo", "withdrawn")

    def __init__(self, ranges: Sequence[range], priority: Priority) -> None:
        self.priority = priority
        self.todo = Ranges(ranges)
        self.pending = 0
        self.withdrawn = False
        self.done = trio.Event()
        self.error: BlockNotAvailable | None = None
        self._unseen: dict[Peer, Ranges] = {}

    def check(self) -> bool:
        """Tell whether everything is here, and if so let the waiter know."""
        if self.pending or self.todo:
            return False
        self.done.set()
        return True

    def fail(self, error: BlockNotAvailable) -> None:
        """Give up: the waiter raises ``error``, and nothing more is asked for."""
        self.error = error
        self.withdrawn = True
        self.done.set()

    def unseen(self, peer: Peer) -> Ranges:
        """Return where ``todo`` has not been compared yet with what ``peer`` has. At first that is everywhere."""
        unseen = self._unseen.get(peer)
        if unseen is None:
            unseen = self._unseen[peer] = Ranges([range(MAX_LENGTH)])
        return unseen

    def see_again(self, peer: Peer, start: int, stop: int) -> None:
        """Note that ``peer`` may have something new of [start, stop)."""
        unseen = self._unseen.get(peer)
        if unseen is not None and self.todo.meets(start, stop):
            unseen.add(start, stop)
            if len(unseen) > MAX_UNSEEN:
                spans = list(unseen)
                unseen.add(spans[0].start, spans[-1].stop)

    def forget(self, peer: Peer) -> None:
        """Note that ``peer`` is gone."""
        self._unseen.pop(peer, None)

    def put_back(self, indices: Sequence[int]) -> None:
        """Note that blocks under way are not coming: they are to be asked for again."""
        self.pending -= len(indices)
        for blocks in Ranges.of(indices):
            self.todo.add(blocks.start, blocks.stop)
            for peer in self._unseen:
                if peer.availability.next_run(blocks.start, blocks.stop) is not None:
                    self.see_again(peer, blocks.start, blocks.stop)


class Demands:
    """The demands of one core that are not met, the urgent ones first and within a class the older ones."""

    def __init__(self) -> None:
        self.by_priority: dict[Priority, dict[Demand, None]] = {priority: {} for priority in Priority}
        self.made = 0
        """How many there ever were."""

    def __len__(self) -> int:
        return sum(map(len, self.by_priority.values()))

    def __iter__(self) -> Iterator[Demand]:
        return chain.from_iterable(self.by_priority.values())

    def add(self, demand: Demand) -> None:
        """Count one in."""
        self.by_priority[demand.priority][demand] = None
        self.made += 1

    def drop(self, demand: Demand) -> None:
        """Count one out, if it is still there."""
        self.by_priority[demand.priority].pop(demand, None)

    def drop_if_met(self, demand: Demand) -> None:
        """Count one out if everything is here that it wants, and let the waiter know."""
        if demand.check():
            self.drop(demand)


class Flight:
    """One request of ours that a peer has not answered yet."""

    __slots__ = (
        "answered",
        "asked_at",
        "brings",
        "cancelled",
        "delivered_at_asking",
        "demands",
        "dependants",
        "done",
        "hastened",
        "held",
        "index",
        "optimistic",
        "peer",
        "relies_on",
        "told",
    )

    def __init__(
        self, index: int, peer: Peer, asked_at: float, *, demands: list[Demand], done: trio.Event | None = None
    ) -> None:
        self.index = index
        self.peer = peer
        self.asked_at = asked_at
        self.delivered_at_asking = peer.window.delivered
        self.demands = demands
        """Who waits for the block; shared with the other flight when two peers are asked for it."""
        self.done = done
        """Set when it was answered and stored, or failed, for whoever asked for more than a block."""
        self.brings: Iterable[int] = ()
        """Tree nodes that later requests to this peer rely on this one to bring."""
        self.relies_on: dict[int, Flight] = {}
        """The flights that bring what its digest says is here, by tree index."""
        self.dependants = 0
        """How often flights rely on this one."""
        self.told: set[int] = set()
        """Which of what it brings the peer was told is here."""
        self.optimistic = False
        """Whether it is handled after the flights that were asked before it, since its proof may rely on theirs."""
        self.hastened = False
        """Whether another peer was asked for it before; not a second time, or two would take it from each other."""
        self.answered = False
        self.cancelled = False
        """Whether it was taken back: then its answer may come or not."""
        self.held: Received | None = None

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for it right now."""
        return any(demand.priority is Priority.URGENT and not demand.withdrawn for demand in self.demands)

    @property
    def wanted(self) -> bool:
        """Whether anybody still wants its answer."""
        return self.done is not None or any(not demand.withdrawn for demand in self.demands)
