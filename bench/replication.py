"""Measure replication alone: a core from one process to another over loopback TCP; prints one line a figure.

Run as ``python -m bench.replication [--profile] [DIRECTORY]``; the directory (default: a temporary one) must be on the
disk to measure. With ``--profile`` both processes print where their time goes. What is timed begins with dialling and
ends when every block is verified and written.
"""

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import trio

from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.replication.replicator import Replicator
from hyperfs.storage import DiskDirectory
from hyperfs.swarm.swarm import Swarm
from hyperfs.trie import HypertrieExtension

SMALL_BLOCKS = 100_000
SMALL_BYTES = 64
LARGE_BLOCKS = 4096
LARGE_BYTES = 65536
REPEATS = 3
PROFILE_LINES = 35


async def make(directory: Path, count: int, size: int) -> None:
    """Write a core of ``count`` blocks of ``size`` bytes."""
    core = await Core.open(DiskDirectory(directory), key_pair=key_pair())
    for first in range(0, count, 500):
        await core.append([index.to_bytes(8, "big") * (size // 8) for index in range(first, min(first + 500, count))])
    await core.close()


async def serve(directory: Path) -> None:
    """Serve a core until stdin ends."""
    core = await Core.open(DiskDirectory(directory))
    replicator = Replicator(extensions=[HypertrieExtension()])
    replicator.add_core(core)
    async with trio.open_nursery() as nursery:
        listening = await Swarm(replicator, nursery).listen("127.0.0.1", 0)
        print(json.dumps({"port": listening.port, "key": core.key.hex()}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    await core.close()


async def fetch(directory: Path, key: bytes, port: int, count: int) -> float:
    """Return the seconds that fetching ``count`` blocks took."""
    replicator = Replicator(extensions=[HypertrieExtension()])
    core = await Core.open(DiskDirectory(directory), key=key, source=replicator)
    replicator.add_core(core)
    async with trio.open_nursery() as nursery:
        start = time.perf_counter()
        Swarm(replicator, nursery).add_peer("127.0.0.1", port)
        await core.fetch([range(count)])
        seconds = time.perf_counter() - start
        nursery.cancel_scope.cancel()
    await core.close()
    return seconds


def measure(directory: Path, count: int, size: int, *, profile: bool) -> float:
    """Return the best time of a few runs, in seconds."""
    served = directory / f"served-{size}"
    trio.run(make, served, count, size)
    best = float("inf")
    for repeat in range(1 if profile else REPEATS):
        command = [sys.executable, "-m", "bench.replication", "--serve", str(served), *["--profile"] * profile]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            told = json.loads(server.stdout.readline())
            fetched = directory / f"fetched-{size}-{repeat}"
            with cProfile.Profile() if profile else nullcontext() as profiler:
                seconds = trio.run(fetch, fetched, bytes.fromhex(told["key"]), told["port"], count)
            best = min(best, seconds)
            server.stdin.close()
            if profiler is not None:
                report("fetching", profiler)
                print(server.stdout.read())
    return best


def report(title: str, profiler: cProfile.Profile) -> None:
    """Print where the time went."""
    print(f"--- {title} ---")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(PROFILE_LINES)


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=["small", "large"])
    arguments = parser.parse_args()
    if arguments.serve is not None:
        with cProfile.Profile() if arguments.profile else nullcontext() as profiler:
            trio.run(serve, arguments.serve)
        if profiler is not None:
            report("serving", profiler)
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        if arguments.only != "large":
            seconds = measure(Path(directory), SMALL_BLOCKS, SMALL_BYTES, profile=arguments.profile)
            print(f"{SMALL_BLOCKS} blocks of {SMALL_BYTES} bytes: {SMALL_BLOCKS / seconds:,.0f} blocks/s")
        if arguments.only != "small":
            seconds = measure(Path(directory), LARGE_BLOCKS, LARGE_BYTES, profile=arguments.profile)
            print(f"{LARGE_BLOCKS} blocks of 64 KiB: {LARGE_BLOCKS * LARGE_BYTES / seconds / 1e6:,.0f} MB/s")


if __name__ == "__main__":
    main()
