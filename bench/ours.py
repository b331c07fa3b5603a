"""hyperfs's side of the bench at the level of the library: ``python -m bench.ours WORK JSON``.

Does one piece of work once and prints ``{"seconds", "amount"}`` as its last line, as bench/reference/theirs.js does.
What is timed is the work alone, not starting up or opening.
"""

import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.replication.replicator import Replicator
from hyperfs.storage import DiskDirectory
from hyperfs.swarm.swarm import Swarm
from hyperfs.trie import HypertrieExtension


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _blocks(count: int, size: int) -> list[bytes]:
    page = os.urandom(size * 1000)
    return [page[index % 1000 * size : (index % 1000 + 1) * size] for index in range(count)]


async def append(*, directory: str, count: int, size: int, batch: int) -> None:
    """Append ``count`` blocks to a new core."""
    core = await Core.open(DiskDirectory(Path(directory)), key_pair=key_pair())
    blocks = _blocks(count, size)
    start = time.perf_counter()
    for first in range(0, count, batch):
        await core.append(blocks[first : first + batch])
    _say({"seconds": time.perf_counter() - start, "amount": count})
    await core.close()


async def get(*, directory: str, count: int) -> None:
    """Read ``count`` blocks in no order."""
    core = await Core.open(DiskDirectory(Path(directory)))
    indexes = [index * 7919 % core.length for index in range(count)]
    start = time.perf_counter()
    for index in indexes:
        await core.get(index)
    _say({"seconds": time.perf_counter() - start, "amount": count})
    await core.close()


async def serve(*, directory: str, host: str = "127.0.0.1") -> None:
    """Serve a core until stdin ends; prints ``{"port", "key"}`` once it listens."""
    core = await Core.open(DiskDirectory(Path(directory)))
    replicator = Replicator(extensions=[HypertrieExtension()])
    replicator.add_core(core)
    async with trio.open_nursery() as nursery:
        listening = await Swarm(replicator, nursery).listen(host, 0)
        _say({"port": listening.port, "key": core.key.hex()})
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    await core.close()


async def fetch(
    *, directory: str, key: str, count: int, port: int = 0, peers: tuple[tuple[str, int], ...] = ()
) -> None:
    """Fetch a whole core of ``count`` blocks from ``peers``, or from the one at ``port`` of this machine."""
    replicator = Replicator(extensions=[HypertrieExtension()])
    core = await Core.open(DiskDirectory(Path(directory)), key=bytes.fromhex(key), source=replicator)
    replicator.add_core(core)
    async with trio.open_nursery() as nursery:
        start = time.perf_counter()
        swarm = Swarm(replicator, nursery)
        for host, peer_port in peers or (("127.0.0.1", port),):
            swarm.add_peer(host, peer_port)
        while core.length < count:
            await core.wait_longer(core.length)
        await core.fetch([range(count)])
        _say({"seconds": time.perf_counter() - start, "amount": count})
        nursery.cancel_scope.cancel()
    await core.close()


_WORKS: dict[str, Callable[..., Awaitable[None]]] = {"append": append, "get": get, "serve": serve, "fetch": fetch}


async def _main(work: str, params: dict[str, Any]) -> None:
    await _WORKS[work](**params)


if __name__ == "__main__":
    trio.run(_main, sys.argv[1], json.loads(sys.argv[2]))
