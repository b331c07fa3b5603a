"""Requests of one node: sent, sent again, answered or given up.

The rules: an answer counts only when it comes from the address that was asked, or, to a `_holepunch`, from that host.
What stays unanswered is sent three times in 7 s; a node that another one told of (its referrer) is also asked through
that one to open the way to us. While 16 are in flight and 50 were sent within a second, further ones wait. Whoever was
silent to the first of three counts as in flight no more: the dead of a network hold nobody up for longer.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.datagrams import Datagram, Holepunch, Kind
from hyperfs.swarm.dht.timers import Timer, Timers

MAX_IN_FLIGHT: Final = 16
MAX_A_SECOND: Final = 50
MAX_WAITING: Final = 4096
HOLEPUNCH = "_holepunch"
_FIRST_SECONDS: Final = 1.5
_TICK_SECONDS: Final = 0.75
_AGAIN_SECONDS: Final = 2.25
_LAST_SECONDS: Final = 3.0
_SENDS: Final = 3
_SILENT_SENDS: Final = 2
_FAST_HOLEPUNCH_SECONDS: Final = 0.5
_HEAR_SECONDS: Final = 5.0
_RIDS: Final = 1 << 16


@dataclass(slots=True)
class Asked:
    """Whom a request goes to. ``referrer`` is who told of him; ``token`` is what he gave."""

    address: Address
    id: bytes | None = None
    referrer: Address | None = None
    token: bytes | None = None
    punched: bool = False
    """Whether the way was opened, or tried to be, through the referrer."""
    unanswered: bool = False
    """Whether he was silent however often he was asked."""
    answered_from: Address | None = None
    """Where an answer came from: the same address, or, of a `_holepunch`, another port of that host."""


@dataclass(slots=True)
class _Request:
    datagram: Datagram
    asked: Asked
    done: Callable[[Datagram | None], None]
    silent: Callable[[], None]
    sends: int = 0
    timer: Timer | None = None
    punch: Timer | None = field(default=None)


class Requests:
    """What one node has asked. ``send`` sends a datagram to an address."""

    def __init__(self, timers: Timers, send: Callable[[Datagram, Address], None], rng: random.Random) -> None:
        self._timers = timers
        self._send = send
        self._random = rng
        self._in_flight: dict[int, _Request] = {}
        self._silent: Counter[Address] = Counter()
        self._waiting: deque[_Request] = deque()
        self._wake: Timer | None = None
        self._turns: deque[Callable[[], None]] = deque()
        self._sent_at: deque[float] = deque(maxlen=MAX_A_SECOND)

    @property
    def in_flight(self) -> int:
        """How many wait for an answer, but for those that were sent again."""
        return len(self._in_flight) - self._silent.total()

    @property
    def silent(self) -> Collection[Address]:
        """Where something was asked that had to be sent again, and is not answered yet."""
        return self._silent

    def ask(
        self,
        datagram: Datagram,
        asked: Asked,
        done: Callable[[Datagram | None], None],
        *,
        silent: Callable[[], None] = lambda: None,
        urgent: bool = False,
    ) -> None:
        """Send a request; its ``rid`` is chosen here. ``done`` is called once, with the answer, or None for none.

        It may be called before this returns, when too many wait already. ``silent`` is called when the request has to
        be sent again. ``urgent`` ones do not wait.
        """
        request = _Request(datagram, asked, done, silent)
        if urgent or not (self._waiting or self._is_saturated()):
            self._start(request)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append(request)
            self._go_on_later()
        else:
            done(None)

    def when_free(self, call: Callable[[], None]) -> None:
        """Have ``call`` called, once, when fewer than 16 are in flight and it is its turn among others that wait."""
        self._turns.append(call)

    def answered(self, answer: Datagram, source: Address) -> Asked | None:
        """Take an answer; return whom it was asked of, or None when ``source`` was not asked that."""
        request = self._in_flight.get(answer.rid)
        if request is None or not _may_answer(request, source):
            return None
        request.asked.answered_from = source
        self._finish(request, answer)
        return request.asked

    def give_up(self, asked: Asked) -> None:
        """Send what was asked of ``asked`` no more, and wait for no answer to it."""
        for request in [*self._in_flight.values(), *self._waiting]:
            if request.asked is asked:
                if not request.sends:
                    self._waiting.remove(request)
                self._finish(request, None)

    def close(self) -> None:
        """Give all requests up, and all turns."""
        self._turns.clear()
        waiting, self._waiting = self._waiting, deque()
        for request in [*self._in_flight.values(), *waiting]:
            self._finish(request, None)

    def holepunch(self, to: Address, referrer: Address, sender: bytes | None, rid: int) -> None:
        """Ask ``referrer`` to have ``to`` open the way to us."""
        value = Holepunch(to=to).encode()
        self._send(Datagram(Kind.QUERY, rid, id=sender, command=HOLEPUNCH, value=value, to=referrer), referrer)

    def hear(self, stranger: Address, referrer: Address, sender: bytes | None, done: Callable[[bool], None]) -> None:
        """Have ``referrer`` tell ``stranger``, whom nothing is sent, to answer us; ``done`` is told whether he did."""
        rid = self._free_rid()
        datagram = Datagram(Kind.QUERY, rid, command=HOLEPUNCH)
        request = _Request(datagram, Asked(stranger), lambda answer: done(answer is not None), lambda: None)
        self._in_flight[rid] = request
        request.timer = self._timers.after(_HEAR_SECONDS, lambda: self._finish(request, None))
        self.holepunch(stranger, referrer, sender, rid)

    def _is_saturated(self) -> bool:
        recent = len(self._sent_at) == MAX_A_SECOND and self._sent_at[0] > self._timers.now() - 1.0
        return recent and self.in_flight >= MAX_IN_FLIGHT

    def _go_on(self) -> None:
        while self._waiting and not self._is_saturated():
            self._start(self._waiting.popleft())
        if self._waiting:
            self._go_on_later()

    def _go_on_later(self) -> None:
        if self._wake is None or not self._wake.is_pending:
            self._wake = self._timers.after(1.0, self._go_on)

    def _take_turns(self) -> None:
        for _ in range(len(self._turns)):  # whoever could not ask enough waits for another turn, behind the others
            if self.in_flight >= MAX_IN_FLIGHT:
                break
            self._turns.popleft()()

    def _free_rid(self) -> int:
        """Return a number that nobody can guess who does not see what we send."""
        while True:
            rid = self._random.randrange(_RIDS)
            if rid not in self._in_flight:
                return rid

    def _start(self, request: _Request) -> None:
        if len(self._in_flight) >= _RIDS // 2:
            request.done(None)
            return
        rid = self._free_rid()
        request.datagram = replace(request.datagram, rid=rid)
        self._in_flight[rid] = request
        asked = request.asked
        if asked.referrer is not None and not asked.punched:
            asked.punched = True
            if request.datagram.command != HOLEPUNCH:
                request.punch = self._timers.after(_FAST_HOLEPUNCH_SECONDS, lambda: self._punch(request))
        self._send_once(request)
        if request.datagram.command == HOLEPUNCH:
            self._punch(request)

    def _send_once(self, request: _Request) -> None:
        request.sends += 1
        if request.sends == _SILENT_SENDS:
            self._silent[request.asked.address] += 1
        self._sent_at.append(self._timers.now())
        self._send(request.datagram, request.asked.address)
        if request.sends == 1:
            wait = _FIRST_SECONDS + self._random.random() * _TICK_SECONDS
        else:
            wait = _AGAIN_SECONDS if request.sends < _SENDS else _LAST_SECONDS
        request.timer = self._timers.after(wait, lambda: self._unanswered(request))

    def _unanswered(self, request: _Request) -> None:
        if request.sends >= _SENDS:
            request.asked.unanswered = True
            self._finish(request, None)
            return
        self._send_once(request)
        self._punch(request)
        if request.sends == _SILENT_SENDS:
            request.silent()
        self._take_turns()

    def _punch(self, request: _Request) -> None:
        referrer = request.asked.referrer
        if referrer is not None:
            is_punch = request.datagram.command == HOLEPUNCH
            rid = request.datagram.rid if is_punch else self._free_rid()
            self.holepunch(request.asked.address, referrer, request.datagram.id, rid)

    def _finish(self, request: _Request, answer: Datagram | None) -> None:
        self._in_flight.pop(request.datagram.rid, None)
        if request.sends >= _SILENT_SENDS:
            address = request.asked.address
            self._silent[address] -= 1
            if not self._silent[address]:
                del self._silent[address]
        for timer in (request.timer, request.punch):
            if timer is not None:
                timer.cancel()
        request.done(answer)
        self._go_on()
        self._take_turns()


def _may_answer(request: _Request, source: Address) -> bool:
    """Tell whether what comes from ``source`` answers a request; of a hole punch, a NAT may have moved the port."""
    asked = request.asked.address
    return source == asked or (request.datagram.command == HOLEPUNCH and source.host == asked.host)
