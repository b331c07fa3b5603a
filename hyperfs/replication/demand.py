"""What is wanted of a core, and what was asked for it.

The one rule: a block that a demand wants is in exactly one place: in its ``todo``, under way in a flight that lists the
demand, or here. ``pending`` counts the second kind, so a demand is met when it is 0 and ``todo`` is empty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import trio

from hyperfs.core.proofs import Received
from hyperfs.core.reader import Priority
from hyperfs.errors import BlockNotAvailable

if TYPE_CHECKING:
    from hyperfs.replication.peer import Peer


class Demand:
    """Ranges of blocks that somebody wants, at one priority."""

    __slots__ = ("done", "error", "passed", "pending", "priority", "todo", "withdrawn")

    def __init__(self, ranges: Sequence[range], priority: Priority) -> None:
        self.priority = priority
        self.todo: deque[range] = deque(blocks for blocks in ranges if len(blocks))
        self.pending = 0
        self.withdrawn = False
        self.done = trio.Event()
        self.error: BlockNotAvailable | None = None
        self.passed: dict[Peer, int] = {}
        """Peers that had nothing of ``todo``, with the count of their announcements by then."""

    def check(self) -> bool:
        """Tell whether everything is here, and if so let the waiter know."""
        if self.pending or self.todo:
            return False
        self.done.set()
        return True

    def fail(self, error: BlockNotAvailable) -> None:
        """Give up: the waiter raises ``error``."""
        self.error = error
        self.done.set()

    def put_back(self, index: int) -> None:
        """Note that a block under way is not coming: it is to be asked for again."""
        self.pending -= 1
        self.todo.appendleft(range(index, index + 1))
        self.passed.clear()


class Flight:
    """One request of ours that a peer has not answered yet."""

    __slots__ = (
        "answered",
        "asked_at",
        "brings",
        "delivered_at_asking",
        "demands",
        "done",
        "held",
        "index",
        "optimistic",
        "peer",
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
        self.optimistic = False
        """Whether its digest relies on what earlier flights bring, so that it is handled after them."""
        self.answered = False
        self.held: Received | None = None

    @property
    def urgent(self) -> bool:
        """Whether somebody waits for it right now."""
        return any(demand.priority is Priority.URGENT and not demand.withdrawn for demand in self.demands)
