"""What a peer does not do, and when that ends its connection.

Who is not heard of, reads nothing, or answers nothing is waited for so long and no longer; and who would think the same
of us is sent keep-alives. A standstill of our own counts for nobody's lateness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.protocol.channel import Channel
from hyperfs.replication.deadline import DEAD_SECONDS
from hyperfs.replication.pace import Account
from hyperfs.replication.peer import Liveness, Peer
from hyperfs.replication.status import EndReason
from hyperfs.replication.under_way import NEW_SECONDS

if TYPE_CHECKING:
    from hyperfs.replication.link import Link

KEEP_ALIVE_SECONDS: Final = 10.0
HANDSHAKE_SECONDS: Final = 20.0
STALL_SECONDS: Final = 60.0
"""How long one piece of output may take to be sent."""
_TICK_SECONDS: Final = 0.25
_STANDSTILL_SECONDS: Final = 0.5
"""A delay of our own so long is not counted as the peer's."""


class Watch:
    """Watches the ``peers`` of ``link``, and what goes over it; ends it for what takes too long.

    ``account`` tells how long the connection was kept waiting for others' sake, ``keep_alive`` sends one.
    """

    def __init__(
        self, link: Link, peers: Mapping[Channel, Peer], account: Account, keep_alive: Callable[[], None]
    ) -> None:
        self._link = link
        self._peers = peers
        self._account = account
        self._keep_alive = keep_alive
        self._stirred = trio.Event()
        self.began_at = self._sent_at = trio.current_time()
        self.heard_at = self.began_at
        """When the peer was heard of last."""
        self._heard_bytes = 0
        self._handshake_due = self.began_at + HANDSHAKE_SECONDS
        self._sending_since: float | None = None

    def heard(self, size_bytes: int) -> None:
        """Note that so much came."""
        self.heard_at = trio.current_time()
        self._heard_bytes += size_bytes

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Watch one piece of output be sent, within this block."""
        self._sending_since = trio.current_time()
        yield
        self._sending_since = None
        self._sent_at = trio.current_time()

    def stir(self) -> None:
        """Look for what is under way by now."""
        self._stirred.set()

    async def run(self) -> None:
        """Watch for as long as the connection lasts."""
        due = trio.current_time()
        while True:
            now = trio.current_time()
            stood_still = now - due >= _STANDSTILL_SECONDS
            if stood_still:
                self._excuse(now - due)
            if self._account.waited_seconds:
                self._excuse(self._account.take_waited())
            due = min(self._look_at_line(now), self._look_at_output(now))
            self._stirred = trio.Event()
            for peer in list(self._peers.values()):
                due = min(due, self._look_at_answers(peer, now))
                if peer.requests.pending and not stood_still:
                    peer.exchange.under_way.look_after(peer, now)
            await trio.sleep(max(0.0, due - now)) if due <= now + _TICK_SECONDS else await self._idle(due)

    def _look_at_line(self, now: float) -> float:
        """End the connection if nothing is heard; return when to look again."""
        due = self.heard_at + DEAD_SECONDS
        if now >= due or (self._link.remote_key is None and now >= self._handshake_due):
            self._link.end(EndReason.TIMED_OUT, "heard nothing of it for too long")
        return due

    def _look_at_output(self, now: float) -> float:
        """End the connection if nothing is read, and let the peer hear of us; return when to look again."""
        due = float("inf")
        if self._sending_since is not None:
            due = self._sending_since + STALL_SECONDS
            if now >= due:
                self._link.end(EndReason.MISBEHAVED, f"read nothing for {STALL_SECONDS:.0f} s")
        if now >= self._sent_at + KEEP_ALIVE_SECONDS:  # as ``due`` is reckoned: a difference is rounded otherwise
            self._sent_at = now
            self._keep_alive()
            self._link.wake()
        return min(due, self._sent_at + KEEP_ALIVE_SECONDS)

    def _look_at_answers(self, peer: Peer, now: float) -> float:
        """End the connection if ``peer`` does not answer; return when to look again."""
        if now - peer.joined_at >= DEAD_SECONDS:
            peer.heard.set()
        asked_at = peer.requests.oldest()
        if asked_at is None:
            return float("inf")
        waiting_since = max(asked_at, peer.last_answer_at)
        if peer.deadline.has_passed(waiting_since, now, self._heard_bytes):
            self._link.end(EndReason.TIMED_OUT, f"left a request unanswered for {now - waiting_since:.0f} s")
        is_known = peer.liveness is Liveness.ANSWERING or not len(peer.requests)
        return now + (_TICK_SECONDS if is_known else NEW_SECONDS)

    def _excuse(self, seconds: float) -> None:
        """Wait so much longer for everything: this process stood still, and what came meanwhile is not read yet."""
        self.heard_at += seconds
        self._handshake_due += seconds
        if self._sending_since is not None:
            self._sending_since += seconds
        for peer in self._peers.values():
            peer.deadline.excuse(seconds)

    async def _idle(self, due: float) -> None:
        with trio.move_on_at(due):
            await self._stirred.wait()
