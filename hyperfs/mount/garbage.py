"""Collecting cyclic garbage without a standstill, however much is staged.

Python looks through all objects now and then, which takes a third of a second when 50,000 files are staged: for so long
nobody is answered. What has outlived one such look is left out of the next ones here, so that each takes milliseconds.
What is dropped is freed at once all the same; only cycles among what was left out stay, until all is looked at again.

The rule: all is looked at once in `ALL_SECONDS`.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ALL_SECONDS = 3600.0
_OLDEST = 2
_YOUNGER_LOOKS = 3
"""How many looks at younger objects come before one at those that are left: it finds about 20,000 of them then."""


class _Sparing:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all_due = clock() + ALL_SECONDS

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] != _OLDEST:
            return
        if phase == "stop":
            gc.freeze()
        elif self._clock() >= self._all_due:
            self._all_due = self._clock() + ALL_SECONDS
            gc.unfreeze()


@contextmanager
def collecting_little(clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Leave out of each look for garbage what has outlived one, in the whole process."""
    sparing = _Sparing(clock)
    thresholds = gc.get_threshold()
    gc.set_threshold(thresholds[0], thresholds[1], _YOUNGER_LOOKS)
    gc.callbacks.append(sparing)
    gc.collect()
    try:
        yield
    finally:
        gc.callbacks.remove(sparing)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
