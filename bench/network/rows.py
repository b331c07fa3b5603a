"""The figures: a drive, a line, what is done in the mounted drive, and what is wanted of it.

The rule: whatever does not end within the time limit is given up, and counts as that limit.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.network import seeks
from bench.network.drives import Drives
from bench.network.sides import Served
from tests.support.line import Conditions

RATE = 200e6
FAR = 0.1
CONNECTING_ROUND_TRIPS = 2
"""TCP's, and the handshake's first two messages; the third goes along with what is asked first."""

_VERY_FAR = 1.0
"""Where round trips are counted: what starting a process takes one time more than another is then none of them."""

Work = Callable[[Path, float], float | None]
"""Is done in a mounted drive within so many seconds; returns how many count, None for all. Raises `TimeoutExpired`."""


class Wanted(NamedTuple):
    """What a figure may be: ``most``, in seconds (or round trips), also given what iperf3 took on that line."""

    most: float
    iperf_times: float = 0.0


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """One line of the table. ``mounting`` tells that the time includes mounting, and connecting."""

    name: str
    what: str
    drive: Callable[[Drives], Served]
    work: Work
    conditions: Conditions
    wanted: Wanted | None = None
    mounting: bool = field(default=False, kw_only=True)
    round_trips: Conditions | None = field(default=None, kw_only=True)
    """A nearer line: what the further one takes more is counted in round trips."""
    congestion_control: str | None = field(default=None, kw_only=True)
    calibrated: int = field(default=0, kw_only=True)
    """How many bytes iperf3 is asked to bring over the same line."""

    @property
    def unit(self) -> str:
        """What the figure is in."""
        return "s" if self.round_trips is None else "round trips"


def timed(work: Work, mountpoint: Path, limit_seconds: float) -> float:
    """Return the seconds that ``work`` takes, or that it says count; at most the limit."""
    start = time.perf_counter()
    try:
        counted = work(mountpoint, limit_seconds)
    except subprocess.TimeoutExpired:
        return limit_seconds
    return time.perf_counter() - start if counted is None else counted


def _shell(command: str) -> Work:
    def work(mountpoint: Path, limit_seconds: float) -> None:
        process = subprocess.Popen(
            ["sh", "-ec", command], cwd=mountpoint, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, errors = process.communicate(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            process.kill()  # what waits for the mount ends when that does
            raise
        if process.returncode:
            raise ValueError(f"{command}: exit status {process.returncode}: {errors.decode()[-2000:]}")

    return work


def _seek(mountpoint: Path, limit_seconds: float) -> float:
    command = [sys.executable, seeks.__file__, mountpoint / "film.bin"]
    return float(subprocess.run(command, capture_output=True, check=True, timeout=limit_seconds).stdout)


_WALK = _shell("find . -printf '%s\n'")
_CAT = _shell("cat folder-0003/* folder-0008/* folder-0011/* folder-0016/*")
_LIST = _shell("ls -la many")
_STATUS = _shell("git -c safe.directory='*' status --porcelain")
_READ = _shell("dd if=film.bin of=/dev/null bs=1M status=none")


def _first_byte(path: str, depth: int) -> NetworkRow:
    return NetworkRow(
        f"first-byte-{depth}",
        f"first byte of {path}, cold, connecting included",
        lambda drives: drives.deep,
        _shell(f"head -c 1 {path}"),
        Conditions(_VERY_FAR, RATE),
        Wanted(CONNECTING_ROUND_TRIPS + 6 + 2 * depth),
        mounting=True,
        round_trips=Conditions(0.02, RATE),
    )


def _film_seeks(trip: int) -> NetworkRow:
    return NetworkRow(
        f"seek-{trip}",
        f"longest of {len(seeks.PLACES)} seeks in a film, {trip} ms",
        lambda drives: drives.film,
        _seek,
        Conditions(trip / 1000, RATE),
        Wanted(3 * trip / 1000),
    )


def _film(name: str, what: str, conditions: Conditions, *, congestion_control: str | None = None) -> NetworkRow:
    return NetworkRow(
        name,
        f"one file of 64 MiB, {what}",
        lambda drives: drives.film,
        _READ,
        conditions,
        Wanted(4 * conditions.round_trip, iperf_times=1.1) if not conditions.loss else None,
        congestion_control=congestion_control,
        calibrated=64 << 20,
    )


ROWS = (
    NetworkRow(
        "walk", "find over 10,000 files, 100 ms", lambda drives: drives.walked, _WALK, Conditions(FAR, RATE), Wanted(3)
    ),
    NetworkRow(
        "walk-long",
        "find over 100,000 files, 100 ms",
        lambda drives: drives.walked_long,
        _WALK,
        Conditions(FAR, RATE),
        Wanted(15),
    ),
    NetworkRow(
        "cat",
        "cat of 200 small files in 4 folders, 100 ms",
        lambda drives: drives.walked,
        _CAT,
        Conditions(FAR, RATE),
        Wanted(3),
    ),
    NetworkRow(
        "list", "ls -la of 2,000 files, 100 ms", lambda drives: drives.folder, _LIST, Conditions(FAR, RATE), Wanted(1.5)
    ),
    NetworkRow(
        "git-status",
        "git status of 2,000 files, 100 ms",
        lambda drives: drives.repository,
        _STATUS,
        Conditions(FAR, RATE),
        Wanted(5),
    ),
    *(_first_byte("/".join([*"abc"[:depth], "file"]), depth) for depth in range(4)),
    *(_film(f"film-{trip}", f"{trip} ms", Conditions(trip / 1000, RATE)) for trip in (20, 100, 300)),
    *map(_film_seeks, (20, 100, 300)),
    *(
        _film(
            f"loss-{trip}",
            f"{trip} ms, 1 % loss, cubic",
            Conditions(trip / 1000, RATE, loss=0.01),
            congestion_control="cubic",
        )
        for trip in (20, 100)
    ),
)
