"""``bench/run``: measure the rows, print the table, write it as JSON."""

import argparse
import compileall
import json
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path

import hyperfs
from bench.memory_rows import MEMORY_ROWS
from bench.rows import ROWS
from bench.table import Result, format_table
from bench.workspace import Workspace
from bench.writing_rows import WRITING_ROWS

_EVERY_ROW = (*ROWS, *WRITING_ROWS, *MEMORY_ROWS)
_ROUNDS = 3
_QUICK_ROUNDS = 1


def main() -> int:
    """Run the bench; exit status 1 when a figure misses its target."""
    names = [row.name for row in _EVERY_ROW]
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, once: to see that everything runs")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, help=f"how often each side is measured (default {_ROUNDS})")
    parser.add_argument("--json", type=Path, default=Path("bench/results.json"), help="where the figures are written")
    parser.add_argument("--dir", type=Path, help="where stores are made, on the disk that is to be measured")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (_QUICK_ROUNDS if arguments.quick else _ROUNDS)

    # As it is installed: without this, and where Python may not write it, each command would begin by compiling.
    compileall.compile_dir(Path(hyperfs.__file__).parent, quiet=1)

    # A run that is told to end takes its mounts, daemons and stores with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="hyperfs-bench-", dir=arguments.dir or "/var/tmp") as directory:
        workspace = Workspace(Path(directory), quick=arguments.quick)
        try:
            for row in _EVERY_ROW:
                if arguments.only and row.name not in arguments.only:
                    continue
                print(f"{row.name} ...", end="", file=sys.stderr, flush=True)
                result = row.measure(workspace, rounds)
                results.append(result)
                print(f" {result.summary()}", file=sys.stderr, flush=True)
        finally:
            workspace.close()

    print(format_table(results))
    machine = {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
    written = {"machine": machine, "quick": arguments.quick, "rows": [result.as_json() for result in results]}
    arguments.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.json}", file=sys.stderr)
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
