"""Taking requests from the kernel: many in one turn of trio's loop, as long as they come at once.

Programs that unpack or remove thousands of files send a request as soon as the one before is answered. pyfuse3 goes
through trio's loop twice for each of them, which costs more than answering most of them does. So who takes requests
here looks for the next one himself, for a moment, before he waits for it in trio.

Where the next one is not there yet, the program that sends it may be about to, on the other processor: it is looked for
without sleeping for `SPIN_SECONDS`, since to be woken by another processor takes longer than to answer. Each look lets
the program go first if it shares this one.

The rules: every other task of the process has its turn after two times `TURN_SECONDS` of requests at the latest. While
one task takes requests so, another waits in trio: pyfuse3 counts those alone, and where it reads a request while there
is none it starts a task, which is one for every request of a turn.
"""

import os
import select
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyfuse3
import trio

TURN_SECONDS = 0.001
SPIN_SECONDS = 0.000_05
"""How long to look for the next request without sleeping: a program on another processor has it sent by then."""
NEXT_SECONDS = 0.000_1
"""How long to sleep for it behind that, to take it in the same turn."""
WAIT = "_wait_fuse_readable"
"""What pyfuse3 awaits before it reads a request: a function of its module."""
_FUSE_DEVICE = "/dev/fuse"
_MOST_SELECTED = 1024

Wait = Callable[[], Awaitable[bool]]
"""Returns True once a request can be read, False when there will be none any more."""


class Turns:
    """Waits for requests at a descriptor, on behalf of all tasks that read them."""

    def __init__(self, descriptor: int, wait: Wait, clock: Callable[[], float] = time.perf_counter) -> None:
        """``wait`` does so by way of trio's loop. Others may have read the request when it returns."""
        self._descriptors = [descriptor]
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._wait = wait
        self._clock = clock
        self._turn_ends = 0.0
        self._waiting = 0
        """How many tasks wait in trio."""

    async def wait(self) -> bool:
        """Return True when a request is there, which the caller has to read without waiting for anything."""
        if self._waiting and await self._comes_in_turn():
            return True
        self._waiting += 1
        try:
            while await self._wait():
                if self._is_there():
                    return True
            return False
        finally:
            self._waiting -= 1

    async def _comes_in_turn(self) -> bool:
        """Look for the next request for a moment; once a turn is over, after all others had theirs."""
        now = self._clock()
        if now >= self._turn_ends:
            await trio.lowlevel.checkpoint()
            return self._is_there()
        while self._clock() - now < SPIN_SECONDS:
            if self._poll.poll(0):
                return True
            os.sched_yield()
        return bool(select.select(self._descriptors, (), (), NEXT_SECONDS)[0])

    def _is_there(self) -> bool:
        """Tell whether a request is there; with it a turn begins."""
        if not self._poll.poll(0):
            return False
        self._turn_ends = self._clock() + TURN_SECONDS
        return True


@contextmanager
def taking_turns() -> Iterator[None]:
    """Have pyfuse3, whose session is there already, take requests in `Turns`; where it cannot, leave it as it is."""
    wait = getattr(pyfuse3, WAIT, None)
    descriptors = _fuse_descriptors()
    if wait is None or len(descriptors) != 1 or descriptors[0] >= _MOST_SELECTED:
        yield
        return
    setattr(pyfuse3, WAIT, Turns(descriptors[0], wait).wait)
    try:
        yield
    finally:
        setattr(pyfuse3, WAIT, wait)


def _fuse_descriptors() -> list[int]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(link) == _FUSE_DEVICE:
                found.append(int(link.name))
        except FileNotFoundError:  # that of the folder itself, which is closed by now
            continue
    return found
