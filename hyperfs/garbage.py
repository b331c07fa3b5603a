"""Collecting cyclic garbage without a standstill, however many objects there are.

Python looks through all objects now and then, which takes a third of a second when 50,000 files are staged: for so long
nobody is answered. What has outlived one such look is left out of the next ones here, so that each takes milliseconds.
What is dropped is freed at once all the same; only cycles among what was left out stay, until all is looked at again.

The rule: all is looked at only while there are few objects and nothing else wants to run, or after many hours.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

_OLDEST: Final = 2
_YOUNGEST_LOOKS: Final = 5
_YOUNGER_LOOKS: Final = 1
"""How many looks at younger objects come before one at those that are left: it finds about 8,000 of them then."""
_LEAST_SECONDS: Final = 1800.0
_LONGEST_SECONDS: Final = 6 * 3600.0
_FEW_OBJECTS: Final = 300_000
_PROBES: Final = 10
_PROBE_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 10.0
"""After how long to begin anew where there were too many objects, or somebody wanted to run."""


@contextmanager
def collecting_little() -> Iterator[None]:
    """Leave out of each look for garbage what has outlived one, in the whole process."""
    thresholds = gc.get_threshold()
    gc.set_threshold(thresholds[0], _YOUNGEST_LOOKS, _YOUNGER_LOOKS)
    gc.callbacks.append(_leave_out)
    gc.collect()
    gc.collect()  # Python looks when new objects are a quarter of those that the last look left: now these are few
    try:
        yield
    finally:
        gc.callbacks.remove(_leave_out)
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _leave_out(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == _OLDEST:
        gc.freeze()


async def collect_all_when_idle() -> None:
    """Look at all objects now and then, for ever.

    That is when they are not many more than at the beginning and nobody else wanted to run for a while; or late.
    """
    few = sys.getallocatedblocks() + _FEW_OBJECTS
    while True:
        await trio.sleep(_LEAST_SECONDS)
        with trio.move_on_after(_LONGEST_SECONDS):
            await _idle(few)
        gc.unfreeze()
        gc.collect()


async def _idle(few: int) -> None:
    """Return once there were only ``few`` objects and nobody else wanted to run, as often as one looked."""
    quiet = 0
    while quiet < _PROBES:
        await trio.sleep(_PROBE_SECONDS if quiet else _RETRY_SECONDS)
        is_idle = sys.getallocatedblocks() < few and trio.lowlevel.current_statistics().tasks_runnable == 0
        quiet = quiet + 1 if is_idle else 0
