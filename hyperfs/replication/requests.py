"""What one peer was asked for of one core, and has not answered.

Only what was asked for is taken. An answer whose proof may rely on earlier answers is handled after those, in the order
of asking, whatever order they come in: it is held until then. What was taken back may be answered all the same, since
many peers do not know how to cancel; it is then stored like any other, but nothing waits for it.

A request says which nodes of its proof are here, and also which ones earlier requests to the same peer are going to
bring. The peer remembers that for the life of the channel. So once such an answer did not come, or not before those
that rely on it, a proof that fails may be nobody's fault, as long as what it was to bring is not here: `unsure`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from hyperfs.core.proofs import Received, request_digest
from hyperfs.errors import PeerMisbehaved
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.events import DataReceived
from hyperfs.replication.demand import Flight

if TYPE_CHECKING:
    from hyperfs.core.core import Core

MAX_FORGOTTEN: Final = 4096
"""Blocks that a peer may send although it said that it would not, or that are not waited for any more."""
MAX_CANCELLED: Final = 4096
"""Requests that are taken back and may be answered all the same; past that none is taken back."""
MAX_MISSED: Final = 4096
"""Nodes that the peer takes to be here and are not; past that it is told of nothing any more before that is here."""

Answers = list[tuple[Received, Flight | None]]


class Requests:
    """The requests on ``channel`` for ``core``; unless they may ``rely`` on earlier ones, none is ever `unsure`."""

    def __init__(self, channel: Channel, core: Core, *, rely: bool = True) -> None:
        self._channel = channel
        self._core = core
        self._rely = rely
        self.blocks: dict[int, Flight] = {}
        """Those for blocks, by index, in the order of asking."""
        self.proofs: dict[int, Flight] = {}
        """Those for proofs alone, by index of the block."""
        self.seeks: dict[int, Flight] = {}
        """Those for the block that holds a byte, by its offset."""
        self.last_seek = 0
        """The offset that was sought last: sought again right away, it is not answered."""
        self._order: deque[Flight] = deque()
        self._cancelled: dict[int, Flight] = {}
        self._forgotten: dict[int, int] = {}
        self._unclear = 0
        """Answers to seeks that may still come, because another was taken for them."""
        self._promised: dict[int, Flight] = {}
        self._relied_on: dict[int, Flight] = {}
        self._missed: set[int] = set()
        """Nodes that the peer was told of and that did not come in time; those that are here by now among them."""

    def __len__(self) -> int:
        """Return how many blocks are under way."""
        return len(self.blocks)

    @property
    def pending(self) -> bool:
        """Whether the peer owes an answer."""
        return bool(self.blocks or self.proofs or self.seeks)

    def under_way(self, index: int) -> Flight | None:
        """Return the request for block ``index``, or for its proof, that is not answered."""
        return self.proofs.get(index) or self.blocks.get(index)

    @property
    def unsure(self) -> bool:
        """Whether the peer may take something to be here that is not, so that a proof of its fails."""
        return any(not self._core.has_node(tree_index) for tree_index in self._missed)

    def oldest(self) -> float | None:
        """Return when the longest unanswered request was asked, None without any."""
        firsts = [next(iter(asked.values())).asked_at for asked in (self.blocks, self.proofs, self.seeks) if asked]
        return min(firsts, default=None)

    # asking

    def ask(self, flight: Flight) -> None:
        """Request a block."""
        flight.optimistic = bool(self._promised)
        digest, brings = request_digest(flight.index, self._core.length, self._knows)
        if self._relied_on:
            flight.relies_on, self._relied_on = self._relied_on, {}
            for tree_index, other in flight.relies_on.items():
                other.told.add(tree_index)
                other.dependants += 1
        if brings and self._rely:
            flight.brings = brings
            self._promised.update(dict.fromkeys(brings, flight))
        self.blocks[flight.index] = flight
        self._order.append(flight)
        self._channel.send_request(flight.index, digest=digest)

    def ask_proof(self, flight: Flight) -> None:
        """Request the proof of a block alone."""
        self.proofs[flight.index] = flight
        self._channel.send_request(flight.index, digest=self._core.digest(flight.index), hash_only=True)

    def ask_whole_proof(self, flight: Flight) -> None:
        """Request the proof of a block alone, with nothing left out that is known here."""
        self.proofs[flight.index] = flight
        self._channel.send_request(flight.index, digest=0, hash_only=True)

    def ask_seek(self, byte_offset: int, flight: Flight) -> None:
        """Request the block that holds ``byte_offset``; ``flight.index`` is where to look if the peer cannot tell."""
        self.seeks[byte_offset] = flight
        self.last_seek = byte_offset
        self._channel.send_request(flight.index, byte_offset=byte_offset)

    def cancel(self, flight: Flight) -> bool:
        """Take a request for a block back, unless others rely on its answer; tell whether that was done."""
        if flight.dependants or self.blocks.get(flight.index) is not flight or len(self._cancelled) >= MAX_CANCELLED:
            return False
        del self.blocks[flight.index]
        flight.cancelled = True
        if flight.index in self._cancelled:
            self._forget(flight.index)
        self._cancelled[flight.index] = flight
        self._let_down(flight)
        self._channel.send_cancel(flight.index)
        return True

    def _knows(self, tree_index: int) -> bool:
        flight = self._promised.get(tree_index)
        if flight is None:
            return self._core.has_node(tree_index)
        self._relied_on[tree_index] = flight
        return True

    # being answered

    def answered(self, data: DataReceived, ready: Answers) -> Flight | None:
        """Add to ``ready`` what can be stored now, in order; return the flight that was answered, None for none.

        Raises PeerMisbehaved for a block that was not asked for.
        """
        received = Received(data.index, data.value, data.nodes, data.signature)
        if data.value is None:
            flight = self.proofs.pop(data.index, None)
            if flight is None and self.seeks:
                flight = self.seeks.pop(next(iter(self.seeks)))
            ready.append((received, flight))
            return flight
        flight = self.blocks.pop(data.index, None) or self._cancelled.pop(data.index, None)
        if flight is None:
            return self._answered_otherwise(received, ready)
        flight.answered = True
        if self.seeks:
            # it may have been the answer to a seek that happens to be this block: then it comes once more, and its
            # proof may rely on another order than that in which the two are taken
            self._forget(data.index)
            self._miss(flight.relies_on)
        if flight.optimistic:
            flight.held = received
        else:
            ready.append((received, flight))
        self._advance(ready, None if flight.cancelled else flight)
        return flight

    def _answered_otherwise(self, received: Received, ready: Answers) -> Flight | None:
        index = received.index
        if self.seeks:
            flight = self.seeks.pop(next(iter(self.seeks)))
            ready.append((received, flight))
            if index in self._forgotten:
                self._unclear += 1
            return flight
        times = self._forgotten.pop(index, 0)
        if times:
            if times > 1:
                self._forgotten[index] = times - 1
        elif self._unclear:
            self._unclear -= 1
            ready.append((received, None))
        else:
            raise PeerMisbehaved(f"sent block {index}, which was not asked for")
        return None

    def drain(self, ready: Answers) -> None:
        """Add to ``ready`` what waited only for flights that are resolved by now."""
        self._advance(ready, None)

    def _advance(self, ready: Answers, newest: Flight | None) -> None:
        """Do what `drain` does; those that were taken back before ``newest`` was asked are not waited for."""
        order = self._order
        while order and (order[0].answered or (newest is not None and order[0].cancelled)):
            flight = order.popleft()
            if flight is newest:
                newest = None
            if not flight.answered and self._cancelled.get(flight.index) is flight:
                del self._cancelled[flight.index]
                self._forget(flight.index)
            if flight.held is not None:
                ready.append((flight.held, flight))
                flight.held = None

    def failed(self, flight: Flight) -> None:
        """Note that an answer could not be stored."""
        self._break(flight)

    def stored(self, flight: Flight) -> None:
        """Note that an answer was stored, so what it was to bring is here, if the peer had it."""
        self._let_down(flight)

    # not being answered

    def retract(self, start: int, stop: int) -> list[Flight]:
        """Note that the peer does not have blocks [start, stop); return the flights that will not be answered."""
        if len(self.blocks) + len(self._cancelled) < stop - start:
            indices = [index for index in (*self.blocks, *self._cancelled) if start <= index < stop]
        else:
            indices = [index for index in range(start, stop) if index in self.blocks or index in self._cancelled]
        lost = []
        for index in indices:
            flight = self.blocks.pop(index, None)
            if flight is not None:
                lost.append(flight)
            self._forget(index)
            for unanswered in filter(None, (flight, self._cancelled.pop(index, None))):
                self._break(unanswered)
        for asked in (self.proofs, self.seeks):
            lost += [asked.pop(key) for key, flight in list(asked.items()) if start <= flight.index < stop]
        return lost

    def give_up(self) -> list[Flight]:
        """Forget everything under way, because the peer is gone or gives nothing any more; return it."""
        held = [flight for flight in self._order if flight.held is not None]
        lost = [*self.blocks.values(), *self.proofs.values(), *self.seeks.values(), *held]
        for index in (*self.blocks, *self._cancelled):
            self._forget(index)
        for flight in (*lost, *self._cancelled.values()):
            flight.held = None
            self._break(flight)
        self.blocks.clear()
        self.proofs.clear()
        self.seeks.clear()
        self._cancelled.clear()
        self._order.clear()
        self._promised.clear()
        return lost

    def _break(self, flight: Flight) -> None:
        flight.answered = True
        self._let_down(flight)

    def _let_down(self, flight: Flight) -> None:
        """Rely on ``flight`` no more, and let go of those that it relied on."""
        for tree_index in flight.brings:
            if self._promised.get(tree_index) is flight:
                del self._promised[tree_index]
        flight.brings = ()
        self._miss(flight.told)
        flight.told.clear()
        for other in flight.relies_on.values():
            other.dependants -= 1
        flight.relies_on = {}

    def _miss(self, tree_indices: Iterable[int]) -> None:
        """Note which of the nodes that the peer was told of are not here, and not certain to come in time."""
        self._missed.update(tree_index for tree_index in tree_indices if not self._core.has_node(tree_index))
        if len(self._missed) > MAX_MISSED:
            self._missed = {tree_index for tree_index in self._missed if not self._core.has_node(tree_index)}
            if len(self._missed) > MAX_MISSED:
                self._rely = False

    def _forget(self, index: int) -> None:
        self._forgotten[index] = self._forgotten.pop(index, 0) + 1
        while len(self._forgotten) > MAX_FORGOTTEN:
            del self._forgotten[next(iter(self._forgotten))]
