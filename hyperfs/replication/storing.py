"""What the peers of one connection answered, on its way to the disk.

Three things go on at one time: the reader takes in more, what came before that is hashed, and what came before that is
verified and written. Each works on all that the one before has ready, so batches grow when the disk is slow, and
small answers cost no thread.

Answers are stored in the order in which they came, whatever else goes on; and each of the three holds no more than
`MAX_UNSTORED_BYTES` and what came in one piece, and less where `Memory` is scarce.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.replication.demand import Flight
from hyperfs.replication.exchange import OutOfStep
from hyperfs.replication.memory import Memory
from hyperfs.replication.meter import Meter
from hyperfs.replication.pace import Account
from hyperfs.replication.requests import Answers

if TYPE_CHECKING:
    from hyperfs.replication.peer import Peer

MAX_UNSTORED_BYTES: Final = 4 << 20
"""What is received while what came before is still being worked on."""
LEAST_UNSTORED_BYTES: Final = 256 << 10
"""The same where memory is scarce."""
_THREAD_BYTES: Final = 256 << 10
_STORED_AT_ONCE: Final = 64
"""Answers that are verified and written before others have their turn."""

Batch = dict["Peer", Answers]


class Storing:
    """The answers of one connection that are not stored yet; ``downloads`` counts those that are about to be.

    ``on_out_of_step`` is called after a proof failed that is nobody's fault, ``on_stored`` once what a peer answered is
    stored and more is asked of it.
    """

    def __init__(
        self,
        downloads: Meter,
        account: Account,
        memory: Memory,
        on_out_of_step: Callable[[Peer, OutOfStep], None],
        on_stored: Callable[[Peer], None] = lambda peer: None,
    ) -> None:
        self._downloads = downloads
        self._account = account
        self._memory = memory
        self._on_stored = on_stored
        self._on_out_of_step = on_out_of_step
        self._arrived: Batch = {}
        self._arrived_bytes = 0
        self._hashing_bytes = 0
        self._storing_bytes = 0
        self._hashing: Batch = {}
        self._storing: Batch = {}
        self._arrival = trio.Event()
        self._progress = trio.Event()

    def answers_of(self, peer: Peer) -> Answers:
        """Return the list to which what ``peer`` answers is added."""
        answers = self._arrived.get(peer)
        if answers is None:
            answers = self._arrived[peer] = []
        return answers

    @property
    def held_bytes(self) -> int:
        """About how much is not stored yet."""
        return self._arrived_bytes + self._hashing_bytes + self._storing_bytes

    def add(self, size_bytes: int) -> None:
        """Go on with what was answered, out of ``size_bytes``."""
        if self._arrived:
            self._arrived_bytes += size_bytes
            self._arrival.set()

    async def wait_room(self) -> None:
        """Return when there is room for more."""
        while self._arrived_bytes > self._memory.room(least=LEAST_UNSTORED_BYTES, most=MAX_UNSTORED_BYTES):
            await self._progress.wait()

    async def finish(self) -> None:
        """Return once all that was added is stored. Cancelled, `store` goes on with it."""
        while self._arrived or self._hashing or self._storing:
            await self._progress.wait()

    def unstored(self) -> Iterator[tuple[Peer, list[Flight]]]:
        """Yield what was answered and will not be stored, when the connection is over."""
        for batch in (self._storing, self._hashing, self._arrived):
            for peer, answers in batch.items():
                yield peer, [flight for _, flight in answers if flight is not None]

    async def hash(self) -> None:
        """Hash what arrives, and hand it on to `store`, for as long as the connection lasts."""
        while True:
            while not self._arrived:
                self._arrival = trio.Event()
                await self._arrival.wait()
            self._hashing, self._arrived = self._arrived, {}
            self._hashing_bytes, self._arrived_bytes = self._arrived_bytes, 0
            self._went_on()
            for peer, answers in self._hashing.items():
                if sum([len(received.value or b"") for received, _ in answers]) >= _THREAD_BYTES:
                    leaf_hash = peer.exchange.core.format.leaf_hash
                    answers[:] = await trio.to_thread.run_sync(_hashed, leaf_hash, answers)
            while self._storing:
                await self._progress.wait()
            self._storing, self._hashing = self._hashing, {}
            self._storing_bytes, self._hashing_bytes = self._hashing_bytes, 0
            self._went_on()

    async def store(self) -> None:
        """Store what is hashed, and ask for more; raises what `Exchange.take` does.

        Cancelled, `unstored` has what is not known to be stored.
        """
        while True:
            while not self._storing:
                await self._progress.wait()
            batch = self._storing
            while batch:
                peer, answers = next(iter(batch.items()))
                while answers:
                    await self._store(peer, answers[:_STORED_AT_ONCE], trio.current_time())
                    del answers[:_STORED_AT_ONCE]
                del batch[peer]
                if peer.is_open:
                    peer.exchange.asking.refill(peer)
                    self._on_stored(peer)
            self._storing_bytes = 0
            self._went_on()

    async def _store(self, peer: Peer, answers: Answers, now: float) -> None:
        sizes = [len(received.value) for received, _ in answers if received.value is not None]
        last = answers[-1][1]
        if sizes:
            self._downloads.add(len(sizes), sum(sizes), now)
            if last is not None:
                peer.window.answered(len(sizes), sum(sizes), last.asked_at, last.delivered_at_asking, now)
        if not peer.is_open and peer.requests.unsure:
            peer.exchange.lost([flight for _, flight in answers if flight is not None])
            return
        began_at = time.perf_counter()
        try:
            await peer.exchange.take(peer, answers)
        except OutOfStep as error:
            self._on_out_of_step(peer, error)
        await self._account.worked(time.perf_counter() - began_at, useful=True)

    def _went_on(self) -> None:
        self._progress.set()
        self._progress = trio.Event()


def _hashed(leaf_hash: Callable[[bytes], bytes], answers: Answers) -> Answers:
    return [
        (received if received.value is None else received._replace(leaf=leaf_hash(received.value)), flight)
        for received, flight in answers
    ]
