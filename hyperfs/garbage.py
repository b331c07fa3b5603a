"""Python's garbage collector, kept from stopping a process that others wait for.

The rule: young cycles are collected as ever, which takes a few milliseconds. Looking at all the objects that there are
takes as long as there are many, half a second for a hundred thousand staged files: it is done only while there are few
and nothing else wants to run, and seldom enough to be no more than a thousandth of the time.
"""

import gc
import sys
import time
from typing import Final

import trio

_YOUNG_OBJECTS: Final = 1000
_YOUNG_COLLECTIONS: Final = 5
_NEVER: Final = 1 << 30
_LEAST_SECONDS: Final = 300.0
_LONGEST_SECONDS: Final = 3600.0
_PART_OF_TIME: Final = 1 / 1000
_FEW_OBJECTS: Final = 300_000
_PROBES: Final = 10
_PROBE_SECONDS: Final = 0.1


def keep_pauses_short() -> None:
    """Have only young objects collected from now on. What there is now, the modules, is left out for good."""
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_COLLECTIONS, _NEVER)


async def collect_when_idle() -> None:
    """Collect all objects now and then, for ever.

    That is when they are not many more than they were at the beginning and nobody else wanted to run for a while, or
    after an hour.
    """
    few = sys.getallocatedblocks() + _FEW_OBJECTS
    seconds = _LEAST_SECONDS
    while True:
        await trio.sleep(seconds)
        with trio.move_on_after(_LONGEST_SECONDS):
            await _idle(few)
        began = time.perf_counter()
        gc.collect()
        seconds = max(_LEAST_SECONDS, (time.perf_counter() - began) / _PART_OF_TIME)


async def _idle(few: int) -> None:
    """Return once there were only ``few`` objects and nobody else wanted to run, as often as one looked."""
    quiet = 0
    while quiet < _PROBES:
        await trio.sleep(_PROBE_SECONDS)
        is_idle = sys.getallocatedblocks() < few and trio.lowlevel.current_statistics().tasks_runnable == 0
        quiet = quiet + 1 if is_idle else 0
