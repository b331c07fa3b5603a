"""Measure a core alone: appends, random gets, and storing blocks with their proofs; prints one line a figure.

Run as ``python -m bench.core [DIRECTORY]``; the directory (default: a temporary one) must be on the disk to measure.
"""

import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from hyperfs.core.core import Core
from hyperfs.core.proofs import Received
from hyperfs.crypto import key_pair
from hyperfs.storage import DiskDirectory

SMALL_BLOCKS = 100_000
BATCH = 500
SINGLE_APPENDS = 5_000
LARGE_BLOCK = bytes(range(256)) * 256
LARGE_BYTES = 256 << 20
REPEATS = 3


async def best(work: Callable[[], Awaitable[float]]) -> float:
    """Return the best rate of a few runs."""
    return max([await work() for _ in range(REPEATS)])


async def measure(directory: Path) -> dict[str, tuple[float, str]]:
    """Return each figure with its unit."""
    number = 0

    async def new() -> Core:
        nonlocal number
        number += 1
        return await Core.open(DiskDirectory(directory / f"core-{number}"), key_pair=key_pair(bytes([number]) * 32))

    small = [b"a block of bytes %05d" % i for i in range(SMALL_BLOCKS)]

    async def append_batches() -> float:
        core = await new()
        started = time.perf_counter()
        for start in range(0, SMALL_BLOCKS, BATCH):
            await core.append(small[start : start + BATCH])
        await core.sync()
        rate = SMALL_BLOCKS / (time.perf_counter() - started)
        await core.close()
        return rate

    async def append_single() -> float:
        core = await new()
        started = time.perf_counter()
        for block in small[:SINGLE_APPENDS]:
            await core.append([block])
        rate = SINGLE_APPENDS / (time.perf_counter() - started)
        await core.close()
        return rate

    async def append_large() -> float:
        core = await new()
        started = time.perf_counter()
        for _ in range(0, LARGE_BYTES, 16 * len(LARGE_BLOCK)):
            await core.append([LARGE_BLOCK] * 16)
        rate = LARGE_BYTES / (time.perf_counter() - started) / 1e6
        await core.clear(0, core.length)
        await core.close()
        return rate

    figures = {
        f"append in batches of {BATCH}": (await best(append_batches), "blocks/s"),
        "append one at a time": (await best(append_single), "blocks/s"),
        "append 64 KiB blocks": (await best(append_large), "MB/s"),
    }
    source = await new()
    for start in range(0, SMALL_BLOCKS, BATCH):
        await source.append(small[start : start + BATCH])
    await source.sync()
    order = list(range(SMALL_BLOCKS))
    random.Random(1).shuffle(order)

    async def random_get() -> float:
        core = await Core.open(DiskDirectory(copy), key=source.key)
        started = time.perf_counter()
        for index in order:
            await core.get(index)
        rate = SMALL_BLOCKS / (time.perf_counter() - started)
        await core.close()
        return rate

    copy = directory / "copy"
    for name, indices in (("in order", list(range(SMALL_BLOCKS))), ("in any order", order)):
        target = await Core.open(DiskDirectory(copy if name == "in order" else directory / "random"), key=source.key)
        taken = proven = 0.0
        for start in range(0, SMALL_BLOCKS, 64):
            part = indices[start : start + 64]
            started = time.perf_counter()
            items = []
            for index in part:
                proof = await source.proof(index, digest=target.digest(index))
                items.append(Received(index, small[index], proof.nodes, proof.signature))
            proven += time.perf_counter() - started
            started = time.perf_counter()
            await target.store(items, origin=None)
            taken += time.perf_counter() - started
        await target.close()
        figures[f"store 64 received blocks at once, {name}"] = (taken / SMALL_BLOCKS * 1e6, "us/block")
        figures[f"digest and proof, {name}"] = (proven / SMALL_BLOCKS * 1e6, "us/block")
    figures["get at random"] = (await best(random_get), "blocks/s")
    await source.close()
    return figures


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        for name, (value, unit) in trio.run(measure, Path(directory)).items():
            print(f"{name:45} {value:12,.1f} {unit}")


if __name__ == "__main__":
    main()
