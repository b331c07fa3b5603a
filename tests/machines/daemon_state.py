"""Clients that ask a daemon at once to serve and to unserve, to remember peers and to forget them.

Each client speaks of drives and peers of its own, by several connections, so that what it was answered last is what has
to stand: in the state file as soon as it is answered, in what the daemon tells, and in the next daemon.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import trio

from hyperfs.daemon.client import DaemonClient, Start, connect
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.places import Places, places_of
from hyperfs.daemon.server import open_daemon
from tests.support.scheduling import Schedule

SEEDS = 150
_MEMORY = Path("/dev/shm")
_CLIENTS = 2
_OWNERS = 3


def run(seed: int) -> str:
    """Make one run, and return what was done."""
    schedule = Schedule(seed)
    with _store() as places:
        schedule.run(State(schedule, places).run)
    return "\n".join(schedule.told)


@contextmanager
def _store() -> Iterator[Places]:
    folder = Path(tempfile.mkdtemp(prefix="hyperfs-state-", dir=_MEMORY if _MEMORY.is_dir() else None))
    before = os.environ.get("XDG_RUNTIME_DIR")
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        yield places_of(folder / "store")
    finally:
        del os.environ["XDG_RUNTIME_DIR"]
        if before is not None:
            os.environ["XDG_RUNTIME_DIR"] = before
        shutil.rmtree(folder)


class State:
    """One run."""

    def __init__(self, schedule: Schedule, places: Places) -> None:
        self.schedule = schedule
        self.chance = schedule.chance
        self.places = places
        self.owners = [Owner(self, number) for number in range(_OWNERS)]

    async def run(self) -> None:
        for _ in range(2):
            async with open_daemon(self.places) as daemon, AsyncExitStack() as connections:
                clients = [
                    await connections.enter_async_context(connect(self.places.store, start=Start.NEVER))
                    for _ in range(_CLIENTS)
                ]
                self.check("as it began")
                async with trio.open_nursery() as nursery:
                    for owner in self.owners:
                        nursery.start_soon(owner.run, clients)
                self.check("when all was answered")
                await self.check_told(clients[0])
                self.check_daemon(daemon)
            self.check("when the daemon had ended")

    def check(self, when: str) -> None:
        for owner in self.owners:
            owner.check(when)

    def check_daemon(self, daemon: Daemon) -> None:
        """Assert that the daemon does what its state says."""
        state = daemon.state.state
        offered = {key.hex() for key in daemon.serving.offered()}
        assert offered == {served.key for served in state.served}, f"{sorted(offered)} are offered, not what is served"
        listening = set(daemon.serving.listening())
        if state.listen:
            assert listening == set(state.listen), f"peers are accepted at {listening}, not at {set(state.listen)}"
        else:
            own = daemon.network.own
            assert len(listening) == (own is not None) == bool(state.served), f"peers are accepted at {listening}"
        assert daemon.cache.limit == state.cache_limit, f"the cache's limit is {daemon.cache.limit}"

    async def check_told(self, client: DaemonClient) -> None:
        """Assert that the daemon says of itself what it was asked for."""
        status = await client.status()
        told = {drive.key: set(drive.named_peers) for drive in status.serving}
        expected = {key: peers for owner in self.owners for key, peers in owner.served.items()}
        assert told == expected, f"it says that it serves {_short(told)}, not {_short(expected)}"
        peers = set().union(*(owner.peers for owner in self.owners))
        assert set(status.remembered_peers) == peers, f"it remembers {status.remembered_peers}, not {sorted(peers)}"

    def read(self) -> tuple[dict[str, set[str]], set[str], int | None]:
        """Return what the file says: drives served with the peers named for each, peers, and the limit of the cache."""
        try:
            state = json.loads(self.places.state.read_text())
        except FileNotFoundError:
            return {}, set(), None
        served = {drive["key"]: set(drive["peers"]) for drive in state["served"]}
        return served, set(state["peers"]), state["cache_limit"]


class Owner:
    """Asks for drives and peers of its own, one thing after another. The first one owns the cache's limit, too."""

    def __init__(self, state: State, number: int) -> None:
        self.state = state
        self.chance = state.chance
        self.number = number
        self.keys = [self.chance.randbytes(32) for _ in range(2)]
        self.addresses = {f"10.0.{number}.{last}:1" for last in (1, 2)}
        self.served: dict[str, set[str]] = {}
        self.peers: set[str] = set()
        self.limit: int | None = None

    async def run(self, clients: Sequence[DaemonClient]) -> None:
        actions = [self.serve, self.serve, self.unserve, self.remember, self.forget]
        if not self.number:
            actions.append(self.limit_cache)
        for _ in range(self.chance.randrange(1, 7)):
            await self.state.schedule.turns()
            action = self.chance.choice(actions)
            await action(self.chance.choice(clients))
            self.state.schedule.tell(
                f"{self.number}: {action.__name__} was answered; {sorted(k[:4] for k in self.served)}"
            )
            self.check(f"right after {action.__name__} was answered")

    async def serve(self, client: DaemonClient) -> None:
        key = self.chance.choice(self.keys)
        listen = ["127.0.0.1:0"] if self.chance.random() < 0.1 else []
        peers = self._some_addresses()
        await client.serve(key, listen=listen, peers=peers)
        self.served[key.hex()] = self.served.get(key.hex(), set()) | set(peers)

    async def unserve(self, client: DaemonClient) -> None:
        key = self.chance.choice(self.keys)
        if key.hex() in self.served:
            await client.unserve(key)
            del self.served[key.hex()]

    async def remember(self, client: DaemonClient) -> None:
        addresses = self._some_addresses()
        await client.remember_peers(addresses)
        self.peers |= set(addresses)

    async def forget(self, client: DaemonClient) -> None:
        addresses = [address for address in self._some_addresses() if address in self.peers]
        await client.forget_peers(addresses)
        self.peers -= set(addresses)

    async def limit_cache(self, client: DaemonClient) -> None:
        limit = self.chance.choice((None, 1 << 20, 1 << 30))
        await client.limit_cache(limit)
        self.limit = limit

    def _some_addresses(self) -> list[str]:
        return [address for address in sorted(self.addresses) if self.chance.random() < 0.5]

    def check(self, when: str) -> None:
        """Assert that the state file says what this owner was answered."""
        served, peers, limit = self.state.read()
        own = {key.hex() for key in self.keys}
        found = {key: named for key, named in served.items() if key in own}
        assert found == self.served, f"{when} {self.number} has {_short(found)} served, not {_short(self.served)}"
        assert peers & self.addresses == self.peers, f"{when} {peers & self.addresses} are remembered, not {self.peers}"
        if not self.number:
            assert limit == self.limit, f"{when} the cache's limit is {limit}, not {self.limit}"


def _short(served: dict[str, set[str]]) -> dict[str, list[str]]:
    return {key[:4]: sorted(peers) for key, peers in served.items()}
