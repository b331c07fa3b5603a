"""Time and quiet in tests that use threads: neither comes while a thread is at work.

trio's own autojump clock and `wait_all_tasks_blocked` see a task that waits for a thread as one that waits for nothing:
on a busy machine they go on before the thread has come to its end. These do not, however long it takes. And where the
project measures how long its own work takes, to leave time to others, it takes none by a clock of a test.
"""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from hyperfs.replication import pace, storing, uploads


def patient_clock(patch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """Return a clock that jumps to the next deadline as soon as no task and no thread has anything to do."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    run_sync = trio.to_thread.run_sync
    at_work = 0

    async def noted(*arguments: Any, **options: Any) -> Any:
        nonlocal at_work
        at_work += 1
        clock.autojump_threshold = math.inf
        try:
            return await run_sync(*arguments, **options)
        finally:
            at_work -= 1
            clock.autojump_threshold = math.inf if at_work else 0

    patch.setattr(trio.to_thread, "run_sync", noted)
    for module in (pace, storing, uploads):
        patch.setattr(module, "time", SimpleNamespace(perf_counter=clock.current_time))
    return clock


async def settled() -> None:
    """Return once every other task waits, and for no thread: all that could happen by itself has happened."""
    await trio.testing.wait_all_tasks_blocked()
    threads = trio.to_thread.current_default_thread_limiter()
    while threads.borrowed_tokens:
        await trio.testing.wait_all_tasks_blocked(0.001)
