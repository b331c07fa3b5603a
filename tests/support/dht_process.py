"""``python -m tests.support.dht_process``: nodes of the DHT in a process that is driven as a reference peer is.

The methods are those of tests/interop/reference/lib/dht.js, so that a test need not know whose node it talks to.
"""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import trio

from hyperfs.swarm.dht.service import DhtService, open_dht
from tests.support.reference import ReferencePeer, called_process


@asynccontextmanager
async def dht_process(*, wrapper: Sequence[str] = ()) -> AsyncIterator[ReferencePeer]:
    """Run one, with the command ``wrapper``, until the block ends. It takes nothing back then."""
    async with called_process([*wrapper, sys.executable, "-m", "tests.support.dht_process"]) as process:
        yield process


class Nodes:
    """The nodes of one process, each under the number that `start` returns; they run in ``nursery``."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._services: list[DhtService] = []

    async def start(self, bootstrap: list[str], ephemeral: bool, host: str, port: int = 0) -> Any:
        """Start a node, and return once it has joined."""
        known = [(name, int(number)) for name, _, number in (one.rpartition(":") for one in bootstrap)]
        service = await self._nursery.start(_run, host, port, known, ephemeral)
        await service.join()
        self._services.append(service)
        number = len(self._services) - 1
        return {"node": number, "port": service.address.port, "id": service.node.id.hex()}

    async def announce(self, node: int, topic: str, port: int = 0) -> Any:
        """Announce a topic once."""
        async for _ in self._services[node].announce(bytes.fromhex(topic), port=port):
            continue
        return {}

    async def unannounce(self, node: int, topic: str, port: int = 0) -> Any:
        """Take an announcement back."""
        await self._services[node].unannounce(bytes.fromhex(topic), port=port)
        return {}

    async def lookup(self, node: int, topic: str) -> Any:
        """Return everybody who announced a topic."""
        found = self._services[node].lookup(bytes.fromhex(topic))
        return {"peers": sorted([str(peer.address) async for peer in found])}

    async def find(self, node: int, topic: str) -> Any:
        """Return the first who is found, and after how long."""
        began = trio.current_time()
        async with aclosing(self._services[node].lookup(bytes.fromhex(topic))) as found:
            async for peer in found:
                return {"peer": str(peer.address), "milliseconds": 1000 * (trio.current_time() - began)}
        return {"peer": None}

    async def known(self, node: int) -> Any:
        """Return everybody whom a node knows."""
        return {"nodes": sorted(str(contact.address) for contact in self._services[node].node.table)}


async def _run(
    host: str,
    port: int,
    bootstrap: list[tuple[str, int]],
    ephemeral: bool,
    task_status: trio.TaskStatus[DhtService],
) -> None:
    async with open_dht(host, port, bootstrap=bootstrap, ephemeral=ephemeral) as service:
        task_status.started(service)
        await trio.sleep_forever()


async def main() -> None:
    """Answer what comes on standard input, until that ends."""
    async with trio.open_nursery() as nursery:
        nodes = Nodes(nursery)

        async def answer(number: int, call: Callable[..., Awaitable[Any]], params: dict[str, Any]) -> None:
            try:
                said = {"id": number, "result": await call(**params)}
            except Exception as error:  # noqa: BLE001  whatever it is, the test is told
                said = {"id": number, "error": repr(error)}
            print(json.dumps(said), flush=True)

        async for line in trio.wrap_file(sys.stdin):
            asked = json.loads(line)
            name = asked["method"].removeprefix("dht.")
            nursery.start_soon(answer, asked["id"], getattr(nodes, name), asked["params"])
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
