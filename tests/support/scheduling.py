"""A run of trio in which chance decides, from a seed, who goes on at each await, and when each thread does its work.

The rules: trio takes the tasks that are ready in an order that the seed chooses; what may wait for a disk, a daemon or
a peer lets others have as many turns as the seed says (`Schedule.turns`). A worker thread is a thread, but never runs
beside anything: it goes on only while the task that waits for it steps it, from one system call to the next
(`Schedule.point`), so that everything else may happen between two of its system calls, and the same seed makes the same
run. Time stands still until nothing is left to do, then jumps to the next deadline. Nobody can be dialled.
"""

import math
import queue
import random
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Never, TypeVar

import outcome
import trio
import trio.testing
from trio._core import _run

from hyperfs import slices
from hyperfs.mount.staging import journal
from hyperfs.trie import batch

T = TypeVar("T")

_LONG_TURNS = 40


class Schedule:
    """Owns the chance of one run."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.told: list[str] = []
        """What was done, a line each, for who reads a run that failed."""
        self.is_quiet = False
        """Whether nothing takes any time: while what was done is looked at."""
        self._wait_chance = self.chance.choice((0.1, 0.4, 0.8))
        self._long_chance = self.chance.choice((0.0, 0.02, 0.1))
        self._thread_chance = self.chance.choice((0.2, 0.9))
        self._slow_journal_seconds = -1.0 if random.Random(~seed).random() < 0.1 else math.inf

    def tell(self, what: str) -> None:
        """Note that something was done."""
        self.told.append(what)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Let nothing take any time until the block ends."""
        before, self.is_quiet = self.is_quiet, True
        try:
            yield
        finally:
            self.is_quiet = before

    def is_slow(self) -> bool:
        """Tell whether what is read now has to be waited for."""
        return not self.is_quiet and self.chance.random() < self._wait_chance

    async def turns(self, wait_chance: float | None = None) -> None:
        """Let others have their turn, as often as chance says: not at all, once or twice, or for long."""
        if self.is_quiet or self.chance.random() >= (wait_chance or self._wait_chance):
            return
        count = 1
        while self.chance.random() < 0.4:
            count += 1
        if self.chance.random() < self._long_chance:
            count = self.chance.randrange(_LONG_TURNS)
        for _ in range(count):
            await trio.lowlevel.checkpoint()

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run ``main`` to its end. What it raises has ``told`` as a note."""
        try:
            with self._replaced():
                return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
                error = error.exceptions[0]  # the first that failed took the others along
            error.add_note("\n".join(self.told))
            raise error from None

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        replaced: list[tuple[Any, str, Any]] = [
            (_run, "_r", self.chance),
            (_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
            (trio.to_thread, "run_sync", self._in_thread),
            (trio, "open_tcp_stream", _nobody_answers),
            (secrets, "token_bytes", self.chance.randbytes),
            *((module, "SLICE_SECONDS", 0.0) for module in (slices, batch)),
            (journal, "SLOW_SECONDS", self._slow_journal_seconds),
            (journal, "SLOW_FOR_SECONDS", math.inf),
        ]
        kept = [getattr(owner, name) for owner, name, _ in replaced]
        for owner, name, stand_in in replaced:
            setattr(owner, name, stand_in)
        random.seed(self.chance.random())
        try:
            yield
        finally:
            for (owner, name, _), was in zip(replaced, kept, strict=True):
                setattr(owner, name, was)

    def point(self) -> None:
        """Called where a thread makes a system call: what else happens may happen before it."""
        worker = getattr(_HERE, "worker", None)
        if worker is not None:
            worker.pause()

    async def _in_thread(
        self,
        function: Callable[..., T],
        *arguments: Any,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | None = None,
        thread_name: str | None = None,
    ) -> T:
        """Stand for `trio.to_thread.run_sync`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        me = object()
        if limiter is not None:
            await limiter.acquire_on_behalf_of(me)
        worker = _IDLE.pop() if _IDLE else _Worker()
        try:
            worker.begin(lambda: function(*arguments))
            while not worker.step():
                with trio.CancelScope(shield=not abandon_on_cancel):
                    await self.turns(self._thread_chance)
            with trio.CancelScope(shield=True):
                await self.turns(self._thread_chance)
        finally:
            while not worker.step():  # abandoned: it goes on by itself
                pass
            _IDLE.append(worker)
            if limiter is not None:
                limiter.release_on_behalf_of(me)
        return worker.result.unwrap()


class _Worker:
    """A thread that runs only while somebody waits in `step`."""

    def __init__(self) -> None:
        self.result: outcome.Outcome[Any] = outcome.Value(None)
        self._work: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._go_on = threading.Semaphore(0)
        self._stands = threading.Semaphore(0)
        self._is_over = True
        threading.Thread(target=self._run, name="scheduled", daemon=True).start()

    def begin(self, work: Callable[[], Any]) -> None:
        self._is_over = False
        self._work.put(work)

    def step(self) -> bool:
        """Let it run to its next point, and tell whether it has come to its end."""
        if not self._is_over:
            self._go_on.release()
            self._stands.acquire()
        return self._is_over

    def pause(self) -> None:
        self._stands.release()
        self._go_on.acquire()

    def _run(self) -> None:
        _HERE.worker = self
        while True:
            work = self._work.get()
            self._go_on.acquire()
            self.result = outcome.capture(work)
            del work
            self._is_over = True
            self._stands.release()


async def _nobody_answers(*_: object, **__: object) -> Never:
    """Stand for dialling another machine."""
    await trio.sleep_forever()
    raise AssertionError("it slept for ever")


_HERE = threading.local()
_IDLE: list[_Worker] = []
