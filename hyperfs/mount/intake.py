"""Taking requests from the kernel: many in one turn of trio's loop, as long as they come at once.

Programs that unpack or remove thousands of files send a request as soon as the one before is answered. pyfuse3 goes
through trio's loop twice for each of them, which costs more than answering most of them does. So who takes requests
here looks for the next one himself, for a moment, before he waits for it in trio.

The rule: every other task of the process has its turn after `TURN_SECONDS` of requests at the latest.
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
NEXT_SECONDS = 0.000_1
"""How long a program may take from an answer to its next request, for that to be taken in the same turn."""
_LOOKS = 12
"""How often to look before sleeping for it: being woken costs more than this, and the program goes first each time."""
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

    async def wait(self) -> bool:
        """Return True when a request is there, which the caller has to read without waiting for anything."""
        if self._clock() < self._turn_ends:
            for _ in range(_LOOKS):
                if self._poll.poll(0):
                    return True
                os.sched_yield()
            if select.select(self._descriptors, (), (), NEXT_SECONDS)[0]:
                return True
        else:
            await trio.lowlevel.checkpoint()
        while await self._wait():
            if self._poll.poll(0):
                self._turn_ends = self._clock() + TURN_SECONDS
                return True
        return False


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
