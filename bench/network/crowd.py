"""``python -m bench.network.crowd``: a film that many watch, from one origin with an uplink for a few of them.

The question is that of J. Artback, "Comparison of Video file transmission over Dat protocol and Hypertext transfer
protocol" (Blekinge Institute of Technology, 2019), asked of a line that is too small: viewers come one after the other,
and each plays the film from its start to its end, from a plain web server, through mounts that share what they have, or
out of the reference's own readers, which do the same. Each viewer is a host behind an access line of its own.

Mounts and readers are there, and know each other, before the first presses play; startup counts from there on. They
stay until the last has seen the end. Needs root, and nginx for the web server.
"""

import argparse
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.network import player
from bench.network.crowd_sides import SIDES, Film, Watch, make_film
from bench.network.star import Access, star
from bench.workspace import Workspace

ORIGIN = Access(up=50e6, down=50e6, round_trip=0.01, queue_bytes=1 << 20)
VIEWER = Access(up=20e6, down=20e6, round_trip=0.02)
DHT_NODE = Access(up=10e6, down=10e6, round_trip=0.02)
FILM_RATE = 4e6
"""Bits a second."""
_ORIGIN_PLACE = 1
JOINING_PART = 1 / 3
"""Viewers come at any moment of the first third of the film, the first one at its beginning."""
_LIMIT_TIMES = 5
"""A film that is not over after so many times its length is given up."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one viewer saw: seconds until the film began, and of each stall. ``ended`` is false if he gave up."""

    startup: float
    stalls: tuple[float, ...]
    ended: bool


@dataclass
class Result:
    """What one crowd saw, and what the origin had to send for it."""

    side: str
    seen: list[Seen]
    film_bytes: int
    origin_bytes: int
    seconds: float
    """From the first one's joining until everybody had all of the film."""
    processors: float
    """How many processors were busy meanwhile, with whatever; there are as many as the JSON says."""
    memory: dict[str, float] = field(default_factory=dict)
    """MB of the largest process of each kind."""

    @property
    def stalls(self) -> list[float]:
        """The lengths of all stalls."""
        return [stall for one in self.seen for stall in one.stalls]

    @property
    def copies(self) -> float:
        """How often the film left the origin."""
        return self.origin_bytes / self.film_bytes

    @property
    def rate(self) -> float:
        """Megabits a second out of the origin, on average."""
        return self.origin_bytes * 8e-6 / self.seconds

    def cells(self) -> list[str]:
        """Return the line of the table."""
        startups = [one.startup for one in self.seen]
        stalled = sum(bool(one.stalls) or not one.ended for one in self.seen)
        return [
            self.side,
            str(len(self.seen)),
            f"{statistics.median(startups):.1f}",
            f"{max(startups):.1f}",
            f"{len(self.stalls)} of {stalled}",
            f"{sum(self.stalls):.1f}",
            f"{max(self.stalls, default=0.0):.1f}",
            f"{self.rate:.0f}",
            f"{self.copies:.1f}",
            f"{self.seconds:.0f}",
            f"{self.processors:.2f}",
            ", ".join(f"{kind} {size:.0f}" for kind, size in self.memory.items()),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it as it is written to the JSON file."""
        return asdict(self) | {"viewers": len(self.seen), "copies": self.copies, "origin_megabits": self.rate}


_HEADER = [
    "from",
    "viewers",
    "startup",
    "longest",
    "stalls",
    "stalled",
    "longest",
    "origin Mbit/s",
    "copies",
    "took",
    "processors",
    "MB",
]


def measure(workspace: Workspace, side: str, film: Film, viewers: int) -> Result:
    """Have so many watch the film."""
    with ExitStack() as stack:
        hosts, switch = stack.enter_context(star([DHT_NODE, ORIGIN, *[VIEWER] * viewers]))
        first, origin, *viewing = hosts
        crowd = stack.enter_context(SIDES[side](workspace, film, origin, viewing, first))
        habits = player.Habits(rate=film.rate)
        before, busy_before, began = switch.sent_bytes()[_ORIGIN_PLACE], _busy_seconds(), time.monotonic()
        with ThreadPoolExecutor(viewers) as pool:
            joining = _joining(viewers, film.seconds * JOINING_PART)
            seen = list(pool.map(partial(_watch, habits, film.seconds), crowd.watches, joining))
        seconds = time.monotonic() - began
        return Result(
            side,
            seen,
            film.size,
            switch.sent_bytes()[_ORIGIN_PLACE] - before,
            seconds,
            (_busy_seconds() - busy_before) / seconds,
            crowd.memory(),
        )


def _joining(viewers: int, within_seconds: float) -> list[float]:
    """Return after how many seconds each viewer comes; the same for each run."""
    moments = random.Random(1)
    return [0.0, *sorted(moments.uniform(0, within_seconds) for _ in range(viewers - 1))]


def _watch(habits: player.Habits, film_seconds: float, watch: Watch, after_seconds: float) -> Seen:
    time.sleep(after_seconds)
    limit = _LIMIT_TIMES * film_seconds
    try:
        told = json.loads(watch(json.dumps(asdict(habits)), limit))
    except subprocess.TimeoutExpired:
        return Seen(limit, (), ended=False)
    return Seen(told["startup"], tuple(length for _, length in told["stalls"]), ended=True)


def _busy_seconds() -> float:
    """Return for how long the machine's processors have been busy, all together."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def format_table(results: Iterable[Result]) -> str:
    """Return the table as text."""
    lines = [_HEADER, *(result.cells() for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def main() -> int:
    """Run the bench; exit status 1 when somebody who watches with hyperfs sees a stall."""
    parser = argparse.ArgumentParser(prog="python -m bench.network.crowd", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(SIDES), metavar="SIDE", help=", ".join(SIDES))
    parser.add_argument("--viewers", action="append", type=int, metavar="N", help="[default: 1, 5, 10 and 20]")
    parser.add_argument("--seconds", type=int, default=30, help="how long the film is [default: 30]")
    parser.add_argument("--json", type=Path, default=Path("bench/crowd-results.json"))
    arguments = parser.parse_args()
    # A run that is told to end takes its mounts, daemons and namespaces with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="hyperfs-crowd-", dir="/var/tmp") as directory:
        workspace = Workspace(Path(directory), quick=False)
        film = make_film(workspace, FILM_RATE / 8, arguments.seconds)
        for side in arguments.only or SIDES:
            for viewers in arguments.viewers or (1, 5, 10, 20):
                print(f"{viewers} from {side} ...", file=sys.stderr, flush=True)
                results.append(measure(workspace, side, film, viewers))
    print(format_table(results))
    machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
    lines = {"origin": asdict(ORIGIN), "viewer": asdict(VIEWER)}
    written = {"machine": machine, "lines": lines, "film": asdict(film), "rows": [one.as_json() for one in results]}
    arguments.json.write_text(json.dumps(written, indent=2, default=str) + "\n", encoding="utf-8")
    return int(any(result.stalls for result in results if result.side == "hyperfs"))


if __name__ == "__main__":
    sys.exit(main())
