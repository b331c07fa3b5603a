"""``python -m bench.round_trip``: what it takes until a program that waits is woken, on one processor and across two.

The rule: a byte goes from one process to another and back, over and over; what is told is how long that takes in the
middle. Each request of a mount is such a round trip, so no file system in user space can be faster than this allows.
"""

import os
import sys
import time
from statistics import median

_ROUNDS = 20_000


def round_trip_seconds(here: int, there: int) -> float:
    """Return how long a byte takes from a process on processor ``here`` to one on ``there`` and back."""
    down, up = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.sched_setaffinity(0, {there})
        os.close(down[1])
        while byte := os.read(down[0], 1):
            os.write(up[1], byte)
        os._exit(0)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {here})
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        os.write(down[1], b"?")
        os.read(up[0], 1)
        times.append(time.perf_counter() - start)
    os.sched_setaffinity(0, allowed)
    for descriptor in (*down, *up):
        os.close(descriptor)
    os.waitpid(child, 0)
    return median(times)


def main() -> int:
    """Measure both."""
    first, *others = sorted(os.sched_getaffinity(0))
    print(f"round trip on one processor:      {round_trip_seconds(first, first) * 1e6:6.1f} us")
    if others:
        print(f"round trip across two processors: {round_trip_seconds(first, others[0]) * 1e6:6.1f} us")
    return 0


if __name__ == "__main__":
    sys.exit(main())
