"""``python -m bench.requests``: which requests the kernel makes of a mount for a piece of work, and what each takes.

The rule: the kernel itself is asked, by its trace of what it sends and when the answer is there, in our mount and in
the file system that does nothing beside it. What is between an answer and the next request is the program's, most of
it being woken. Needs root, and a kernel that traces FUSE (6.10 or later).
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.rows import read_small
from bench.workspace import Workspace, empty_mount
from bench.writing_rows import remove, untar

_TRACING = Path("/sys/kernel/tracing/instances/hyperfs-bench")
_EVENTS = ("fuse_request_send", "fuse_request_end")
_BUFFER_KILOBYTES = 65536
_SENT = re.compile(r" ([\d.]+): fuse_request_send: connection (\d+) req (\d+) opcode \d+ \(FUSE_(\w+)\)")
_ENDED = re.compile(r" ([\d.]+): fuse_request_end: connection (\d+) req (\d+) ")

Work = Callable[[Workspace, Path], float]


class Requests:
    """What the kernel asked of one mount: by kind, how many seconds each took; and the time between them."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.between = 0.0

    def read(self, trace: str, connection: int) -> None:
        """Take in what the kernel traced of the mount with this number."""
        sent: dict[str, tuple[float, str]] = {}
        last: float | None = None
        for line in trace.splitlines():
            if (found := _SENT.search(line)) is not None and int(found[2]) == connection:
                sent[found[3]] = float(found[1]), found[4]
                self.between += 0.0 if last is None else float(found[1]) - last
                last = None
            elif (found := _ENDED.search(line)) is not None and found[3] in sent:
                last = float(found[1])
                began, kind = sent.pop(found[3])
                self.seconds[kind].append(last - began)


@contextmanager
def traced(mountpoint: Path, requests: Requests) -> Iterator[None]:
    """Have the kernel trace what it asks of the mount meanwhile."""
    connection = os.minor(mountpoint.stat().st_dev)
    _TRACING.mkdir()
    try:
        (_TRACING / "buffer_size_kb").write_text(str(_BUFFER_KILOBYTES))
        for event in _EVENTS:
            (_TRACING / "events" / "fuse" / event / "enable").write_text("1")
        yield
        (_TRACING / "tracing_on").write_text("0")
        requests.read((_TRACING / "trace").read_text(), connection)
    finally:
        _TRACING.rmdir()


def measure(workspace: Workspace, mountpoint: Path, work: Work) -> tuple[float, Requests]:
    """Do the work in a mounted folder; return what it told and what was asked for it."""
    requests = Requests()
    with traced(mountpoint, requests):
        figure = work(workspace, mountpoint)
    return figure, requests


def compare(workspace: Workspace, name: str, source: Path, work: Work, *, fills: bool) -> None:
    """Print what a piece of work takes in a drive of ``source``, and in what does nothing.

    With ``fills`` that is empty before and has ``source`` in it then, otherwise the files that it has by itself.
    """
    with workspace.new_drive_mounted(source) as mountpoint:
        figure, ours = measure(workspace, mountpoint, work)
    big_bytes = 0 if fills else workspace.big_bytes
    with empty_mount(big_bytes, workspace.new_directory("mnt"), takes_turns=True) as mountpoint:
        if fills:
            shutil.copytree(source, mountpoint, dirs_exist_ok=True)
        floor_figure, floor = measure(workspace, mountpoint, work)
    print(f"{name}: {figure:.3g}, in what does nothing {floor_figure:.3g}")
    for kind, seconds in sorted(ours.seconds.items(), key=lambda item: -len(item[1])):
        print(f"  {kind:<12} {_said(seconds)}   in what does nothing {_said(floor.seconds.get(kind, []))}")
    print(f"  between them {ours.between:9.3f} s{'':24}in what does nothing {floor.between:9.3f} s", flush=True)


def _said(seconds: list[float]) -> str:
    if not seconds:
        return f"{'none':>33}"
    return f"{len(seconds):6} x {median(seconds) * 1e6:5.0f} us, {sum(seconds):7.3f} s in all"


def main() -> int:
    """Trace unpacking, removing and reading small files."""
    parser = argparse.ArgumentParser(prog="python -m bench.requests", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the files")
    parser.add_argument("--dir", type=Path, help="where the stores are made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hyperfs-bench-", dir=arguments.dir or "/var/tmp") as directory:
        workspace = Workspace(Path(directory), quick=arguments.quick)
        nothing = workspace.new_directory("nothing")
        nothing.mkdir()
        try:
            compare(workspace, "unpacking, s", nothing, untar, fills=True)
            compare(workspace, "removing, s", workspace.small_files, remove, fills=True)
            compare(workspace, "reading, ms each", workspace.mounted_files, read_small, fills=False)
        finally:
            workspace.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
