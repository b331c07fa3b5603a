"""How long a task keeps all others waiting, in steps of the interpreter: the same on every machine, however busy.

A step is a line of the project's code that is run. `STEPS_A_MILLISECOND` of common lines are done by a machine of 2020.
The clock by which the project divides its own work into turns goes on by the same time whenever it is read, so that a
run is the same each time.
"""

import contextvars
import itertools
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import trio

import hyperfs
from hyperfs.replication import pace, storing, uploads

STEPS_A_MILLISECOND = 8000
_READING_SECONDS = 1e-3
_PROJECT = str(Path(hyperfs.__file__).parent)
_measured = contextvars.ContextVar("measured", default=False)


class TurnMeter(trio.abc.Instrument):
    """Measures the turns of the tasks of one run that called `measure`."""

    def __init__(self) -> None:
        self.steps = 0
        self.longest = 0
        """The most steps that one turn of a task took."""
        self.longest_in = ""
        self.longest_milliseconds = 0.0
        """The longest turn by the processor's clock, with `timed`."""
        self._begun_at = 0
        self._begun_seconds = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._begun_at = self.steps
        self._begun_seconds = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not task.context.get(_measured, False):
            return
        self.longest_milliseconds = max(self.longest_milliseconds, 1e3 * (time.thread_time() - self._begun_seconds))
        if self.steps - self._begun_at > self.longest:
            self.longest = self.steps - self._begun_at
            self.longest_in = task.name

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count steps within this block, and have the project's own turns measured in them."""
        modules: list[Any] = [pace, storing, uploads]
        readings = itertools.count()
        clock = SimpleNamespace(perf_counter=lambda: next(readings) * _READING_SECONDS)
        kept = [module.time for module in modules]
        before = sys.gettrace()
        for module in modules:
            module.time = clock
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)
            for module, was in zip(modules, kept, strict=True):
                module.time = was

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._count if frame.f_code.co_filename.startswith(_PROJECT) else None

    def _count(self, frame: FrameType, event: str, argument: object) -> Any:
        self.steps += 1
        return self._count


def measure() -> None:
    """Have the task that calls this, and those that it starts from now on, measured."""
    _measured.set(True)


@contextmanager
def bounded_memory(size_bytes: int) -> Iterator[None]:
    """Let the process take no more than ``size_bytes`` of address space beyond what it has: `MemoryError` says so."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
