"""``python -m tests.support.swarm_process``: our swarm on the DHT, in a process that is driven as a reference peer is.

The methods are those of tests/interop/reference/lib/{cores,swarm}.js, so that a test need not know whom it talks to.
"""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from hyperfs.core.core import Core
from hyperfs.crypto import discovery_key, key_pair
from hyperfs.replication.replicator import Replicator
from hyperfs.replication.status import Follow
from hyperfs.storage import MemoryDirectory
from hyperfs.swarm.dht.discovery import DhtDiscovery
from hyperfs.swarm.dht.service import DhtService, open_dht
from hyperfs.swarm.swarm import Swarm
from tests.support.reference import ReferencePeer, called_process

HOST = "0.0.0.0"


@asynccontextmanager
async def swarm_process(*, wrapper: Sequence[str] = ()) -> AsyncIterator[ReferencePeer]:
    """Run one, with the command ``wrapper``, until the block ends. It takes nothing back then."""
    async with called_process([*wrapper, sys.executable, "-m", "tests.support.swarm_process"]) as process:
        yield process


class Peer:
    """Cores in memory, shared with whom the swarm finds; everything runs in ``nursery``."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._replicator = Replicator(alone_timeout_seconds=600)
        self._cores: dict[str, Core] = {}
        self._swarm: Swarm
        self._dht: DhtService

    async def core_open(self, seed: str | None = None, key: str | None = None) -> Any:
        """Open a core that is ours, by the seed of its key, or another's by its key."""
        pair = None if seed is None else key_pair(bytes.fromhex(seed))
        public = bytes.fromhex(key or "") if pair is None else pair.public
        core = await Core.open(MemoryDirectory(), key=public, key_pair=pair, source=self._replicator)
        self._replicator.add_core(core, follow=Follow.NEWEST)
        self._cores[public.hex()] = core
        return {"key": public.hex(), "discoveryKey": discovery_key(public).hex()}

    async def core_append(self, core: str, count: int, size: int) -> Any:
        """Append blocks, of which each holds its number over and over."""
        length = await self._cores[core].append([bytes([number]) * size for number in range(count)])
        await self._cores[core].sync()
        return {"length": length}

    async def core_get(self, core: str, index: int) -> Any:
        """Fetch a block, and say how long it is. While it is waited for, who has it is looked for again and again."""
        return {"size": len(await self._cores[core].get(index))}

    async def swarm_start(self, bootstrap: list[str], port: int) -> Any:
        """Listen at ``port``, by TCP and uTP, and join the DHT."""
        self._dht = await self._nursery.start(self._run, bootstrap, port)
        await self._dht.join()
        return {"port": self._dht.address.port}

    async def _run(self, bootstrap: list[str], port: int, task_status: trio.TaskStatus[DhtService]) -> None:
        known = [(name, int(number)) for name, _, number in (one.rpartition(":") for one in bootstrap)]
        async with open_dht(HOST, port, bootstrap=known) as dht:
            self._swarm = Swarm(self._replicator, self._nursery, discoveries=[DhtDiscovery(dht)])
            await self._swarm.listen(HOST, port)
            dht.utp.on_accept = self._swarm.accept
            task_status.started(dht)
            await trio.sleep_forever()

    async def swarm_join(self, topic: str, announce: bool, lookup: bool) -> Any:
        """Announce a topic, or look for others who have it, from now on; return when that was done once."""
        self._swarm.join(bytes.fromhex(topic), looks=lookup, announces=announce)
        await self._swarm.wait_looked()
        return {}

    async def swarm_problems(self, topic: str) -> Any:
        """Return who cannot be reached, and why, once each who was found for a topic was reached, or could not be."""
        await self._swarm.wait_found(bytes.fromhex(topic))
        return {"problems": self._swarm.unreached}

    async def swarm_status(self) -> Any:
        """Return how many connections there are by each transport."""
        kinds = ["tcp" if link.is_tcp else "utp" for link in self._replicator._links if link.remote_key is not None]
        return {"connections": [{"type": kind} for kind in sorted(kinds)]}


async def main() -> None:
    """Answer what comes on standard input, until that ends."""
    async with trio.open_nursery() as nursery:
        peer = Peer(nursery)

        async def answer(number: int, call: Callable[..., Awaitable[Any]], params: dict[str, Any]) -> None:
            try:
                said = {"id": number, "result": await call(**params)}
            except Exception as error:  # noqa: BLE001  whatever it is, the test is told
                said = {"id": number, "error": repr(error)}
            print(json.dumps(said), flush=True)

        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            asked = json.loads(line)
            nursery.start_soon(answer, asked["id"], getattr(peer, asked["method"].replace(".", "_")), asked["params"])
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
