"""Whom to ask for what of one core, and for how much at a time.

A block is asked of a peer only if that peer announced it, and of another besides only as `UnderWay` says. Urgent
demands go before readahead, that before the background, and within a class the older first.

What a peer announces makes work in proportion to itself, and not to what is wanted: each demand remembers where it was
not compared yet with what the peer has. Much work is done a little at a time, and its rest by `Link.attend_soon`.

Where others have some of a core and want the rest, as those who watch the same film do, there is a *crowd*, and lines
are shared. Then nothing is asked ahead of who has everything that others have and could bring; of what nobody else has
each asks for something else, to have it to give; and little is under way at a time for which nobody waits, so that it
keeps nobody else waiting. What somebody waits for is asked of who has everything only if the others would bring it much
later. Who was seen to fetch what there is counts as one of the others for a while after he has all of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.core.reader import Priority
from hyperfs.replication.demand import Demand, Flight
from hyperfs.replication.peer import Liveness, Peer
from hyperfs.replication.ranges import Ranges
from hyperfs.replication.wants import WANT_BLOCKS
from hyperfs.replication.window import INITIAL_BYTES, MIN_REQUESTS

if TYPE_CHECKING:
    from hyperfs.replication.exchange import Exchange

ASKS_AT_ONCE: Final = 256
"""Blocks that are asked for, whomever, before others have their turn."""
_WANTS_OF_A_DEMAND: Final = 64
_LOOKS_AT_ONCE: Final = 256
_BEYOND: Final = 8
"""What somebody waits for is asked for beyond the window, by half of that, or by so many small blocks."""
_CHOICE: Final = 16
"""Blocks of which some are chosen in a crowd."""
_ENOUGH_SECONDS: Final = 1.0
_ENOUGH_BYTES: Final = 1 << 17
"""In a crowd nothing more is asked ahead while others owe so much, or what comes in so long."""
_CROWD_TRIPS: Final = 2
_CROWD_SECONDS: Final = 0.05
"""In a crowd one peer is asked ahead for what it brings in so many handshakes and so long, or for one block."""
_SPARED_SECONDS: Final = 1.0
"""In a crowd who has everything is asked for what somebody waits for only if he brings it so much sooner than others:
his line is the one that nobody else's takes the place of."""
_FILLED_SECONDS: Final = 60.0
"""For so long who has come to have everything counts as one of those who still want some."""
_COUNTED_RANGES: Final = 16
"""How many of the ranges that are wanted are looked at to tell whether that is much."""


class Asking:
    """Asks the peers of ``exchange`` for what is wanted of its core."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._core = exchange.core
        self._demands = exchange.demands
        self._under_way = exchange.under_way
        self._salt = random.getrandbits(32)
        self._held_back: dict[Peer, None] = {}
        """Peers that would be asked for more, had others not been asked or had room to be."""
        self.is_crowded = False
        """Whether there was a crowd when last somebody was asked."""

    def refill_all(self) -> None:
        """Ask every peer for as much as it may be asked for, as `refill` does, but together no more than one there."""
        steps = _Steps()
        for peer in sorted(self._exchange.open_peers, key=self._by_use):
            if steps.over:
                peer.link.attend_soon(peer)
            else:
                self.refill(peer, steps)

    def refill(self, peer: Peer, steps: _Steps | None = None) -> None:
        """Ask ``peer`` for as much as it may be asked for, and about what it has.

        When that is much work, do some of it (what is left of ``steps``), and have the rest done by `attend`.
        """
        steps = steps or _Steps()
        if not (peer.is_open and peer.can_be_asked):
            return
        self._send_wants(peer)
        if self._exchange.reconciliation is not None and not self._exchange.reconciliation.trusts(peer):
            return
        least_beyond = _BEYOND
        if self._core.length:
            block_bytes = self._core.byte_length / self._core.length
            peer.window.expect(block_bytes)
            least_beyond = max(MIN_REQUESTS, min(_BEYOND, int(INITIAL_BYTES / max(1.0, block_bytes))))
        crowd = self._crowd(peer)
        size = peer.window.size
        room = self._under_way.room(peer)
        beyond = 0 if self._under_way.is_doubtful(peer) else max(least_beyond, size // 2)
        asked = 0
        for priority, demands in self._demands.by_priority.items():
            if not demands:
                continue
            if priority is Priority.URGENT:
                spare = room + beyond
            elif crowd:
                if self._others_do(peer):
                    self._held_back[peer] = None
                    break
                seconds = _CROWD_TRIPS * peer.link.handshake_seconds + _CROWD_SECONDS
                most = max(1, peer.window.brings(seconds))
                spare = min(room, most - len(peer.requests)) - asked
            elif room - asked >= max(1, size // 8) or not len(peer.requests):
                spare = room - asked
            else:
                if any(demand.todo for demand in demands):
                    self._note_full(peer)
                break
            for demand in list(demands):
                if spare <= 0:
                    self._note_full(peer)
                    break
                unseen = demand.unseen(peer)
                if not unseen or not demand.todo:
                    continue
                if priority is Priority.URGENT or not crowd:
                    taken = self._ask_for(demand, peer, unseen, spare, steps)
                else:
                    taken = self._ask_chosen(demand, peer, unseen, spare, steps, crowd)
                asked += taken
                spare -= taken
                if spare <= 0 and demand.todo:
                    self._note_full(peer)
                self._demands.drop_if_met(demand)
                if steps.over:
                    peer.link.attend_soon(peer)
                    return
        if room > asked:
            asked += self._under_way.hasten(peer, room - asked, trio.current_time())
        if asked:
            peer.link.wake()

    def _others_do(self, peer: Peer) -> bool:
        """Tell whether others than ``peer`` are asked for as much as comes within a while.

        More would make what somebody begins to wait for come late, behind what nobody waits for yet.
        """
        others = [other for other in self._exchange.open_peers if other is not peer and len(other.requests)]
        if not others or not self._core.length:
            return False
        now = trio.current_time()
        rate = sum(other.link.downloads.rate(now) for other in (peer, *others))
        enough = max(_ENOUGH_BYTES, rate * _ENOUGH_SECONDS) * self._core.length / self._core.byte_length
        return sum(len(other.requests) for other in others) >= enough

    def let_go_on(self) -> None:
        """Ask those that were not asked for more, now that others were answered or are gone."""
        held_back, self._held_back = self._held_back, {}
        for peer in held_back:
            peer.link.attend_soon(peer)

    def _note_full(self, peer: Peer) -> None:
        """Note that ``peer`` would be asked for more, could more be under way."""
        peer.window.note_full()
        if self._core.length:
            todo = (blocks for demand in self._demands for blocks in demand.todo)
            wanted = sum(map(len, islice(todo, _COUNTED_RANGES)))
            peer.link.note_full(peer, wanted * self._core.byte_length // self._core.length)

    def _ask_for(self, demand: Demand, peer: Peer, unseen: Ranges, most: int, steps: _Steps) -> int:
        """Ask ``peer`` for at most ``most`` blocks that ``demand`` wants; return how many.

        ``unseen`` is where that has not been looked for yet; what is looked at is taken out of it.
        """
        asked = 0
        now = trio.current_time()
        todo, core = demand.todo, self._core
        while asked < most and not steps.over:
            span = unseen.first_from(0)
            if span is None:
                break
            steps.looks += 1
            wanted = todo.first_from(span.start)
            run = None
            if wanted is not None and wanted.start < span.stop:
                run = peer.availability.next_run(wanted.start, span.stop)
            if wanted is None or run is None:
                unseen.remove(span.start, span.stop)
                continue
            if run.start >= wanted.stop:
                unseen.remove(span.start, run.start)
                continue
            start, stop = run.start, min(run.stop, wanted.stop)
            missing = next(iter(core.missing(start, stop)), None)
            if missing is None or missing.start > start:
                # it came by another way before it was wanted
                stop = stop if missing is None else missing.start
                todo.remove(start, stop)
            else:
                stop = min(missing.stop, start + most - asked, start + steps.asks_left)
                todo.remove(start, stop)
                asked += self._ask_blocks(demand, peer, range(start, stop), now)
                steps.asks_left -= stop - start
            unseen.remove(span.start, stop)
        return asked

    def _is_source(self, peer: Peer) -> bool:
        """Tell whether ``peer`` has everything, and has for a while."""
        if trio.current_time() - peer.filled_at < _FILLED_SECONDS:
            return False
        return peer.availability.covers(self._core.length)

    def spared_seconds(self, peer: Peer) -> float:
        """Return how much sooner than others ``peer`` has to be to be asked for what they have as well."""
        return _SPARED_SECONDS if self.is_crowded and self._is_source(peer) else 0.0

    def _by_use(self, peer: Peer) -> tuple[bool, float, int]:
        is_doubtful, seconds, owed = by_use(peer)
        return is_doubtful, seconds + self.spared_seconds(peer), owed

    def _crowd(self, peer: Peer) -> list[Peer]:
        """Return those other than ``peer`` that have some of the core, and so are likely to want the rest."""
        some = [
            other
            for other in self._exchange.askable_peers
            if other.liveness is not Liveness.SILENT and not other.only_asked and other.availability.claimed_length
            if not self._is_source(other)
        ]
        self.is_crowded = bool(some)
        return [other for other in some if other is not peer]

    def _ask_chosen(
        self, demand: Demand, peer: Peer, unseen: Ranges, most: int, steps: _Steps, crowd: list[Peer]
    ) -> int:
        """Do what `_ask_for` does where others of a ``crowd`` want the same."""
        candidates = self._candidates(demand, peer, unseen, steps)
        if self._is_source(peer):
            for other in crowd:
                if self._under_way.room(other) > 0 and any(map(other.availability.has, candidates)):
                    other.link.attend_soon(other)
                    self._held_back[peer] = None
                    candidates = [index for index in candidates if not other.availability.has(index)]

            def rarity(index: int) -> tuple[int, int]:
                return sum(other.availability.has(index) for other in crowd), hash((self._salt, index))

            candidates.sort(key=rarity)
        asked = 0
        for index in candidates[:most]:
            demand.todo.remove(index, index + 1)
            unseen.remove(index, index + 1)
            asked += self._ask_blocks(demand, peer, range(index, index + 1), trio.current_time())
        steps.asks_left -= asked
        return asked

    def _candidates(self, demand: Demand, peer: Peer, unseen: Ranges, steps: _Steps) -> list[int]:
        """Return the first few blocks that ``demand`` wants and ``peer`` has; they stay in ``unseen``."""
        candidates: list[int] = []
        position = 0
        while len(candidates) < _CHOICE and not steps.over:
            span = unseen.first_from(position)
            if span is None:
                break
            steps.looks += 1
            wanted = demand.todo.first_from(span.start)
            run = None
            if wanted is not None and wanted.start < span.stop:
                run = peer.availability.next_run(wanted.start, span.stop)
            if wanted is None or run is None:
                unseen.remove(span.start, span.stop)
                continue
            if run.start >= wanted.stop:
                unseen.remove(span.start, run.start)
                continue
            start, stop = run.start, min(run.stop, wanted.stop)
            missing = next(iter(self._core.missing(start, stop)), None)
            if missing is None or missing.start > start:
                # it came by another way before it was wanted
                stop = stop if missing is None else missing.start
                demand.todo.remove(start, stop)
                unseen.remove(start, stop)
                continue
            unseen.remove(span.start, start)
            position = min(missing.stop, start + _CHOICE - len(candidates))
            candidates.extend(range(start, position))
        return candidates

    def _ask_blocks(self, demand: Demand, peer: Peer, blocks: range, now: float) -> int:
        """Have ``demand`` wait for ``blocks``; ask ``peer`` for those that nobody was asked for, and tell how many."""
        asked = 0
        demand.pending += len(blocks)
        for index in blocks:
            if not self._under_way.join(index, demand):
                self._under_way.ask(Flight(index, peer, now, demands=[demand]))
                asked += 1
        return asked

    def _send_wants(self, peer: Peer) -> None:
        """Ask what ``peer`` has where blocks are wanted or sought, and of the first page, which tells its length."""
        made_for = (self._demands.made + self._exchange.seeks.begun, peer.availability.claimed_length)
        if peer.wants_made_for != made_for:
            if peer.wants.ask(self._wanted_pages(peer.availability.claimed_length)):
                peer.wants_made_for = made_for
            peer.link.wake()

    def _wanted_pages(self, claimed_length: int) -> Iterator[int]:
        yield 0
        for blocks in self._exchange.seeks.sought.values():
            end = min(blocks.stop, claimed_length)
            yield from range(blocks.start // WANT_BLOCKS, -(-end // WANT_BLOCKS))[:_WANTS_OF_A_DEMAND]
        for demand in self._demands:
            for wanted in islice(demand.todo, _WANTS_OF_A_DEMAND):
                first = wanted.start // WANT_BLOCKS
                # of a long range only what the peer may have: its end may be far away
                end = wanted.stop if len(wanted) <= WANT_BLOCKS else min(wanted.stop, claimed_length)
                yield from range(first, max(first, (end - 1) // WANT_BLOCKS) + 1)


def by_use(peer: Peer) -> tuple[bool, float, int]:
    """Put first whoever is known to answer, of these who is going to answer first, and then who owes least."""
    owed = len(peer.requests)
    return peer.liveness is not Liveness.ANSWERING, peer.window.latency + peer.window.seconds_for(owed), owed


class _Steps:
    """What one `Asking.refill` may still do before others have their turn."""

    __slots__ = ("asks_left", "looks")

    def __init__(self) -> None:
        self.looks = 0
        self.asks_left = ASKS_AT_ONCE

    @property
    def over(self) -> bool:
        """Whether it has done enough."""
        return self.looks >= _LOOKS_AT_ONCE or self.asks_left <= 0
