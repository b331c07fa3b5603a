"""Answering a program on the processor that it runs on.

A program that sends one request after the other runs, or the mount does, never both; but the kernel likes to spread
them over two processors, and each then finds the other's asleep, which takes longer to wake than a request to answer.
Once they share one they mostly stay there while the others have work; on an idle machine they are soon taken apart.

The rule: this thread is put where the program is, and is free to go anywhere the moment it is there: it stays bound to
nothing, nor does any thread that it starts. It is done only for a program that is alone for `LOOK_EVERY` questions in a
row, so that of several at a time each has its own processor; and more and more rarely where the kernel takes them apart
each time.
"""

import ctypes
import logging
import os
from collections.abc import Callable

logger = logging.getLogger(__name__)

LOOK_EVERY = 8
"""After how many questions of one program it is looked for at first."""
LOOK_EVERY_AT_MOST = 1024
_NOBODY = 0
"""How the kernel calls itself, and programs that cannot be seen from here."""
_PROCESSOR_FIELD = 36
"""The place of ``processor`` in /proc/PID/stat, counted from behind the name (see proc(5))."""
_STAT_BYTES = 1024

_libc = ctypes.PyDLL(None)  # for a call that waits for nothing


class Affinity:
    """Keeps the thread that calls it near the program that asks."""

    def __init__(
        self,
        where: Callable[[int], int | None] | None = None,
        here: Callable[[], int] | None = None,
        move: Callable[[int], bool] | None = None,
    ) -> None:
        """``where`` tells which processor a program was on last, ``here`` which one this thread is on.

        ``move`` puts this thread on a processor and tells whether that can be done again.
        """
        self._where = where or processor_of
        self._here = here or _libc.sched_getcpu
        self._move = move or move_to
        self._program = _NOBODY
        self._questions = 0
        self._look_every = LOOK_EVERY
        self._is_allowed = True

    def asked(self, program: int) -> None:
        """Note a question of a program, by its thread's id; look where it is once it has put enough of them."""
        if program != self._program:
            self._program, self._questions = program, 0
        self._questions += 1
        if self._questions >= self._look_every:
            self._questions = 0
            if program != _NOBODY and self._is_allowed:
                self._look()

    def _look(self) -> None:
        there = self._where(self._program)
        if there == self._here():
            self._look_every = LOOK_EVERY
            return
        self._look_every = min(2 * self._look_every, LOOK_EVERY_AT_MOST)
        if there is not None:
            self._is_allowed = self._move(there)


def processor_of(thread: int) -> int | None:
    """Return the processor that a thread of any process is on, or was when it fell asleep; None: nobody can tell."""
    try:
        descriptor = os.open(f"/proc/{thread}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return int(os.read(descriptor, _STAT_BYTES).rpartition(b")")[2].split()[_PROCESSOR_FIELD])
    except (OSError, ValueError, IndexError):  # it has just ended
        return None
    finally:
        os.close(descriptor)


def move_to(processor: int) -> bool:
    """Put this thread on a processor, if it may run there, and bind it no more than it was; tell if it may be moved."""
    try:
        allowed = os.sched_getaffinity(0)
        if processor in allowed:
            try:
                os.sched_setaffinity(0, {processor})
            finally:
                os.sched_setaffinity(0, allowed)
    except OSError as error:  # a sandbox may forbid it
        logger.debug("the mount cannot be put on the processor of a program: %s", error)
        return False
    return True
