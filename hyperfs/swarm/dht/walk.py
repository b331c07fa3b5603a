"""A walk: ever nearer to a target, asking each node on the way.

The rules: the 20 nearest told of are asked, and the 20 nearest that answered with id and token are what is found; an
announcement then goes to these. Whoever is silent holds nobody up but one of 16 places, for two seconds at most, and
is asked last by others; once more have answered than are silent nobody waits for these, and others take their places.
However many nodes somebody makes up, a walk ends; none goes where its teller could not be himself, and an address on
the internet stands for few.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.datagrams import Datagram, NodeAddress, decode_nodes
from hyperfs.swarm.dht.requests import MAX_IN_FLIGHT, Asked
from hyperfs.swarm.reach import Scope, may_dial, scope_of

NEAREST: Final = 20
_MOST_TOLD: Final = 3 * NEAREST
"""Nodes that are remembered, since those nearer may turn out not to be there."""
_MOST_OF_HOST: Final = 4
"""Nodes at one address on the internet, of those told of and of those found. An id costs nothing, an address does."""
MAX_ASKED: Final = 256
"""Nodes that one walk asks at most: five times as many as one takes among 10,000."""


class Asker(Protocol):
    """Sends what a walk asks, and knows how many requests of the whole node are in flight."""

    @property
    def in_flight(self) -> int:
        """How many wait for an answer."""
        ...

    @property
    def silent(self) -> Collection[Address]:
        """Where somebody was asked something just now, and again, and has not answered."""
        ...

    def when_free(self, call: Callable[[], None]) -> None:
        """Have ``call`` called, once, when something more may be asked."""
        ...

    def ask(
        self,
        asked: Asked,
        done: Callable[[Datagram | None], None],
        *,
        silent: Callable[[], None],
        update: bool,
    ) -> None:
        """Ask ``asked``; ``update`` for the second part, with his token.

        ``done`` is called once with the answer, ``silent`` before it if that takes longer than two seconds.
        """
        ...

    def give_up(self, asked: Asked) -> None:
        """Ask no more for an answer."""
        ...


@dataclass(slots=True)
class WalkReport:
    """How a walk went. ``takers`` are those who took what was announced."""

    asked: int = 0
    answers: int = 0
    hops: int = 0
    """How many nodes one after another told of the nearest one that answered."""
    takers: list[Address] = field(default_factory=list)

    @property
    def updates(self) -> int:
        """How many took what was announced."""
        return len(self.takers)


@dataclass(slots=True, eq=False)
class _Candidate:
    distance: int
    asked: Asked
    hops: int
    queried: bool = False
    silent: bool = False
    failed: bool = False
    """Whether he is silent, or somebody else."""


class Walk:
    """One walk towards a 32-byte ``target``. Begins with `start`; ``done`` is called once, when it is over."""

    def __init__(
        self,
        target: bytes,
        own_id: bytes,
        asker: Asker,
        *,
        updates: bool,
        on_answer: Callable[[Datagram, Address], None],
        done: Callable[[WalkReport], None],
    ) -> None:
        self.report = WalkReport()
        self._target = int.from_bytes(target, "big")
        self._own_id = own_id
        self._asker = asker
        self._updates = updates
        self._on_answer = on_answer
        self._done = done
        self._told: list[_Candidate] = []
        self._told_of: set[NodeAddress] = set()
        self._found: list[_Candidate] = []
        self._pending: list[_Candidate] = []
        """Who was asked and has not answered, but for those who are silent."""
        self._silent: list[_Candidate] = []
        self._updating = False
        self._waits = False
        self._over = False

    def start(self, known: Iterable[NodeAddress], unknown: Iterable[Address]) -> None:
        """Begin with nodes that are known, and with addresses whose ids are not (bootstrap nodes)."""
        for node in known:
            self._tell(node, None, 1)
        for address in unknown:
            self._ask(_Candidate(0, Asked(address), 0), update=False)
        self._go_on()

    def cancel(self) -> None:
        """End it; ``done`` is not called any more, and nothing more is sent."""
        if not self._over:
            self._over = True
            for candidate in [*self._pending, *self._silent]:
                self._asker.give_up(candidate.asked)

    def _tell(self, node: NodeAddress, referrer: Address | None, hops: int) -> None:
        if node in self._told_of or node.id == self._own_id:
            return
        distance = int.from_bytes(node.id, "big") ^ self._target
        if len(self._told) >= _MOST_TOLD and distance >= self._told[-1].distance:
            return
        if referrer is not None and not may_dial(node.address, told_by=referrer.host, own=()):
            return
        self._told_of.add(node)
        _add(self._told, _Candidate(distance, Asked(node.address, node.id, referrer), hops), _MOST_TOLD)

    def _ask(self, candidate: _Candidate, *, update: bool) -> None:
        self._pending.append(candidate)
        candidate.queried = True
        self.report.asked += 1
        self._asker.ask(
            candidate.asked,
            lambda answer: self._answered(candidate, answer, update=update),
            silent=lambda: self._is_silent(candidate),
            update=update,
        )

    def _is_silent(self, candidate: _Candidate) -> None:
        candidate.silent = candidate.failed = True
        self._pending.remove(candidate)
        self._silent.append(candidate)
        if not self._over:
            self._go_on()

    def _answered(self, candidate: _Candidate, answer: Datagram | None, *, update: bool) -> None:
        (self._silent if candidate.silent else self._pending).remove(candidate)
        if self._over:
            return
        candidate.failed = answer is None or candidate.asked.id not in (None, answer.id)
        if answer is not None:
            self.report.answers += 1
            address = candidate.asked.address
            if update and answer.error is None:
                self.report.takers.append(address)
            elif not update:
                self._verified(answer, candidate)
                for node in decode_nodes(answer.closer):
                    self._tell(node, address, candidate.hops + 1)
            if answer.error is None:
                self._on_answer(answer, address)
        if not self._over:
            self._go_on()

    def _verified(self, answer: Datagram, candidate: _Candidate) -> None:
        if answer.id is None or answer.token is None or answer.id == self._own_id:
            return
        if candidate.failed or any(found.asked.id == answer.id for found in self._found):
            return
        distance = int.from_bytes(answer.id, "big") ^ self._target
        asked = Asked(candidate.asked.address, answer.id, candidate.asked.referrer, answer.token, punched=True)
        _add(self._found, _Candidate(distance, asked, candidate.hops), NEAREST)

    def _go_on(self) -> None:
        candidates = self._found if self._updating else self._nearest_told()
        free = max(0, MAX_IN_FLIGHT - self._asker.in_flight)
        if not free and not self._pending:
            free = 1
        may_ask = self._updating or self.report.asked < MAX_ASKED
        unasked = [candidate for candidate in candidates if not candidate.queried] if may_ask else []
        silent = self._asker.silent
        if silent:
            unasked.sort(key=lambda candidate: candidate.asked.address in silent)
        for candidate in unasked[:free]:
            self._ask(candidate, update=self._updating)
        if self._over:
            return
        if len(unasked) > free:
            if not self._waits:
                self._waits = True
                self._asker.when_free(self._take_turn)
            return
        answered = self.report.updates if self._updating else len(self._found)
        if self._pending or len(self._silent) > answered:
            return
        if self._updates and not self._updating and self._found:
            self._updating = True
            self._go_on()
            return
        self._over = True
        self.report.hops = self._found[0].hops if self._found else 0
        self._done(self.report)

    def _nearest_told(self) -> list[_Candidate]:
        """Return the nearest that were told of, less those who turned out not to be there."""
        return [candidate for candidate in self._told if not candidate.failed][:NEAREST]

    def _take_turn(self) -> None:
        self._waits = False
        if not self._over:
            self._go_on()


def _add(candidates: list[_Candidate], candidate: _Candidate, most: int) -> None:
    """Add one, by distance; then the farthest go that are too many, in all or of its address."""
    insort(candidates, candidate, key=_by_distance)
    host = candidate.asked.address.host
    of_host = [one for one in candidates if one.asked.address.host == host]
    if len(of_host) > _MOST_OF_HOST and scope_of(host) is Scope.INTERNET:
        candidates.remove(of_host[-1])
    del candidates[most:]


def _by_distance(candidate: _Candidate) -> int:
    return candidate.distance
