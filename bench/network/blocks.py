"""``python -m bench.network.blocks``: a core's blocks over long lines and from many peers, without a drive or a mount.

Beside each figure stands what it is compared with, measured right after it: iperf3 over a fresh connection of the same
line, one connection where there may be several, the reference, or one server where there are four.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.network.sides import calibrate
from bench.workspace import Workspace, our_process, ours, their_process, theirs
from tests.support.far_hosts import far_hosts, hosts_around
from tests.support.line import Conditions
from tests.support.namespaces import Host

_RATE = 200e6
_BYTES = 64 << 20
_SMALL, _LARGE = 64 << 10, 512 << 10
_Process = Callable[..., AbstractContextManager[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Core:
    """A core on disk."""

    directory: Path
    block_bytes: int
    count: int


class Bench:
    """One run: its workspace and the cores made so far."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._cores: dict[tuple[int, int], Core] = {}

    def core(self, size: int, block_bytes: int) -> Core:
        """Return a core of ``size`` bytes in blocks of ``block_bytes``, made when first asked for."""
        known = self._cores.get((size, block_bytes))
        if known is None:
            directory = self._workspace.new_directory("core")
            known = Core(directory, block_bytes, size // block_bytes)
            ours("append", directory=str(directory), count=known.count, size=block_bytes, batch=100)
            self._cores[size, block_bytes] = known
        return known

    @contextmanager
    def served(self, core: Core, host: Host, *, by: _Process = our_process) -> Iterator[tuple[str, int]]:
        """Serve a core on a host; give its key and the port."""
        with by("serve", wrapper=host.wrapper, directory=str(core.directory), host=host.address) as told:
            yield told["key"], told["port"]

    def _copied(self, core: Core) -> Core:
        """Return the same core elsewhere: one process has one open."""
        directory = self._workspace.new_directory("core")
        shutil.copytree(core.directory, directory)
        return replace(core, directory=directory)

    def fetch(self, core: Core, near: Host, key: str, peers: list[tuple[str, int]]) -> float:
        """Return the seconds of fetching a core with hyperfs."""
        directory = str(self._workspace.new_directory("fetched"))
        told = ours("fetch", wrapper=near.wrapper, directory=directory, key=key, count=core.count, peers=peers)
        return float(told["seconds"])

    def fetch_theirs(self, core: Core, near: Host, key: str, peer: tuple[str, int]) -> float:
        """Return the seconds of fetching a core with the reference."""
        host, port = peer
        directory = str(self._workspace.new_directory("fetched"))
        told = theirs(
            "fetch", wrapper=near.wrapper, directory=directory, key=key, count=core.count, host=host, port=port
        )
        return float(told["seconds"])

    def far(self, trip_ms: int, block_bytes: int) -> str:
        """One far server, against iperf3."""
        conditions = Conditions(trip_ms / 1000, _RATE)
        core = self.core(_BYTES, block_bytes)
        with far_hosts(conditions) as (near, far, _):
            with self.served(core, far) as (key, port):
                seconds = self.fetch(core, near, key, [(far.address, port)])
            line = calibrate(near, far, _BYTES)
        bound = 1.1 * line.seconds + 4 * conditions.round_trip
        return f"{seconds:.2f} s, iperf3 {line.seconds:.2f}, at most {bound:.2f} ({line.congestion_control})"

    def lossy(self, trip_ms: int) -> str:
        """One far server over a line that loses a packet of a hundred, against the reference."""
        conditions = Conditions(trip_ms / 1000, _RATE, loss=0.01)
        core = self.core(_BYTES >> 2, _SMALL)
        with far_hosts(conditions, congestion_control="cubic") as (near, far, _):
            with self.served(core, far) as (key, port):
                seconds = self.fetch(core, near, key, [(far.address, port)])
            with self.served(core, far, by=their_process) as (key, port):
                beside = self.fetch(core, near, key, [(far.address, port)])
                reference = self.fetch_theirs(core, near, key, (far.address, port))
        return (
            f"{seconds:.2f} s from hyperfs, {beside:.2f} from the reference, which takes {reference:.2f}:"
            f" {reference / seconds:.1f} and {reference / beside:.1f} times as fast, 3 wanted"
        )

    def four(self) -> str:
        """Four servers of 50 Mbit/s each, against one."""
        core = self.core(_BYTES, _SMALL)
        figures = {}
        for count in (1, 4):
            with hosts_around([Conditions(0.02, 50e6)] * count) as (near, far, _), ExitStack() as stack:
                served = [stack.enter_context(self.served(self._copied(core), host)) for host in far]
                peers = [(host.address, port) for host, (_, port) in zip(far, served, strict=True)]
                figures[count] = self.fetch(core, near[0], served[0][0], peers)
        return f"{figures[4]:.2f} s, one takes {figures[1]:.2f}: {figures[1] / figures[4]:.2f} times, 3.4 wanted"


_ROWS: dict[str, Callable[[Bench], str]] = {
    **{
        f"far-{trip}-{size >> 10}": partial(Bench.far, trip_ms=trip, block_bytes=size)
        for size in (_SMALL, _LARGE)
        for trip in (20, 100, 300)
    },
    **{f"loss-{trip}": partial(Bench.lossy, trip_ms=trip) for trip in (20, 100)},
    "four": Bench.four,
}


def main() -> None:
    """Print a line for each row."""
    parser = argparse.ArgumentParser(prog="python -m bench.network.blocks", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(_ROWS), metavar="NAME")
    parser.add_argument("--times", type=int, default=1, help="how often each row is measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hyperfs-blocks-", dir="/var/tmp") as directory:
        bench = Bench(Workspace(Path(directory), quick=False))
        for name, row in _ROWS.items():
            for _ in range(arguments.times if name in (arguments.only or _ROWS) else 0):
                print(f"{name}: {row(bench)} (load {os.getloadavg()[0]:.1f})", flush=True)


if __name__ == "__main__":
    main()
