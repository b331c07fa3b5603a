"""``python seeks.py FILE``: play a file as fast as it comes, seek now and then, print the longest wait (seconds).

The rule: each place was neither read nor come near before.
"""

import os
import sys
import time
from pathlib import Path

READ_BYTES = 128 << 10
PLACES = (40, 55, 25, 70, 85)
"""Where it goes on after a while, in hundredths of the file."""
PLAYED = 6
"""How much of it is played at each place; twice as much to begin with."""


def longest_seek(path: Path) -> float:
    """Return the longest time between asking for the first bytes at a place and having them."""
    longest = 0.0
    with path.open("rb", buffering=0) as file:
        hundredth = os.fstat(file.fileno()).st_size // 100
        _play(file.fileno(), 2 * PLAYED * hundredth)
        for place in PLACES:
            start = time.perf_counter()
            file.seek(place * hundredth)
            file.read(READ_BYTES)
            longest = max(longest, time.perf_counter() - start)
            _play(file.fileno(), PLAYED * hundredth)
    return longest


def _play(descriptor: int, size: int) -> None:
    for _ in range(0, size, READ_BYTES):
        os.read(descriptor, READ_BYTES)


if __name__ == "__main__":
    print(longest_seek(Path(sys.argv[1])))
