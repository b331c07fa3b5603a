"""``python -m bench.network``: measure the rows, print the table, write it as JSON."""

import argparse
import itertools
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.network.drives import Drives
from bench.network.rows import ROWS, NetworkRow, timed
from bench.network.sides import READERS, SERVERS, LineFigures, calibrate
from bench.workspace import Workspace
from tests.support.far_hosts import far_hosts
from tests.support.line import Conditions

_LIMIT_SECONDS = 60.0


@dataclass
class Result:
    """What was measured for one row: seconds or round trips for each pair of server and reader."""

    row: NetworkRow
    figures: dict[tuple[str, str], float] = field(default_factory=dict)
    line: LineFigures | None = None

    @property
    def bound(self) -> float | None:
        """What was wanted, None when nothing is, or it takes iperf3 to tell and that is not here."""
        wanted = self.row.wanted
        if wanted is None or (wanted.iperf_times and self.line is None):
            return None
        return wanted.most + (wanted.iperf_times * self.line.seconds if self.line is not None else 0.0)

    @property
    def met(self) -> bool:
        """Whether hyperfs as a reader is within the bound, whoever serves."""
        return self.bound is None or all(
            figure <= self.bound for (_, reader), figure in self.figures.items() if reader == "hyperfs"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the row as it is written to the JSON file."""
        return {
            "name": self.row.name,
            "what": self.row.what,
            "unit": self.row.unit,
            "conditions": asdict(self.row.conditions),
            "figures": {f"{server} to {reader}": figure for (server, reader), figure in self.figures.items()},
            "iperf3": None if self.line is None else asdict(self.line),
            "bound": self.bound,
            "met": self.met,
        }


def once(workspace: Workspace, drives: Drives, row: NetworkRow, conditions: Conditions, pair: tuple[str, str]) -> float:
    """Return the seconds of one work over a line that is made for it."""
    server, reader = pair
    drive = row.drive(drives)
    with (
        far_hosts(conditions, congestion_control=row.congestion_control) as (near, far, _),
        SERVERS[server](workspace, drive, far) as port,
    ):
        start = time.perf_counter()
        with READERS[reader](workspace, drive.key, near, f"{far.address}:{port}") as mountpoint:
            mounting = time.perf_counter() - start if row.mounting else 0.0
            return mounting + timed(row.work, mountpoint, _LIMIT_SECONDS)


def measure(workspace: Workspace, drives: Drives, row: NetworkRow, pairs: Iterable[tuple[str, str]]) -> Result:
    """Measure a row for each pair of server and reader."""
    result = Result(row)
    if row.calibrated:
        with far_hosts(row.conditions, congestion_control=row.congestion_control) as (near, far, _):
            result.line = calibrate(near, far, drives.film_bytes)
    for pair in pairs:
        figure = once(workspace, drives, row, row.conditions, pair)
        if row.round_trips is not None:
            nearer = row.round_trips
            figure -= once(workspace, drives, row, nearer, pair)
            figure /= row.conditions.round_trip - nearer.round_trip
        result.figures[pair] = figure
        print(f" {pair[0]} to {pair[1]}: {figure:.2f} {row.unit};", end="", file=sys.stderr, flush=True)
    return result


def format_table(results: list[Result], pairs: list[tuple[str, str]]) -> str:
    """Return the table as text."""
    header = ["work", "unit", *(f"{server} to {reader}" for server, reader in pairs), "iperf3", "wanted", "met"]
    lines = [header]
    for result in results:
        figures = [_number(result.figures.get(pair), result.row) for pair in pairs]
        line = "" if result.line is None else f"{result.line.seconds:.2f}"
        bound = "" if result.bound is None else f"at most {result.bound:.1f}"
        lines.append([result.row.what, result.row.unit, *figures, line, bound, "yes" if result.met else "NO"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _number(figure: float | None, row: NetworkRow) -> str:
    if figure is None:
        return ""
    return f"> {_LIMIT_SECONDS:.0f}" if row.unit == "s" and figure >= _LIMIT_SECONDS else f"{figure:.2f}"


def main() -> int:
    """Run the bench; exit status 1 when a figure misses its target."""
    parser = argparse.ArgumentParser(prog="python -m bench.network", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: to see that everything runs")
    parser.add_argument("--only", action="append", choices=[row.name for row in ROWS], metavar="NAME")
    parser.add_argument("--server", choices=list(SERVERS), help="only this side serves")
    parser.add_argument("--reader", choices=list(READERS), help="only this side reads")
    parser.add_argument("--json", type=Path, default=Path("bench/network-results.json"))
    parser.add_argument("--dir", type=Path, help="where stores are made")
    arguments = parser.parse_args()
    pairs = [
        (server, reader)
        for server, reader in itertools.product(SERVERS, READERS)
        if arguments.server in (None, server) and arguments.reader in (None, reader)
    ]
    # A run that is told to end takes its mounts, daemons and namespaces with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="hyperfs-far-", dir=arguments.dir or "/var/tmp") as directory:
        workspace = Workspace(Path(directory), quick=arguments.quick)
        drives = Drives(workspace)
        try:
            for row in ROWS:
                if arguments.only and row.name not in arguments.only:
                    continue
                print(f"{row.name} ...", end="", file=sys.stderr, flush=True)
                results.append(measure(workspace, drives, row, pairs))
                print(file=sys.stderr, flush=True)
        finally:
            workspace.close()
    print(format_table(results, pairs))
    for result in results:
        if result.line is not None:
            line = result.line
            print(
                f"{result.row.name}: iperf3 {line.megabits:.0f} Mbit/s, {line.congestion_control}, buffers of "
                f"{line.send_buffer} and {line.receive_buffer} bytes to begin with, {line.retransmits} retransmitted"
            )
    machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
    written = {"machine": machine, "quick": arguments.quick, "rows": [result.as_json() for result in results]}
    arguments.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
