"""hyperfs's library as a peer: a store in this process whose cores are shared over TCP, without a daemon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

import hyperfs
from hyperfs.core.core import Core
from hyperfs.drive.drive import Drive
from hyperfs.drive.library import OpenStore
from hyperfs.drive.writer import DriveWriter
from hyperfs.replication.replicator import Replicator
from hyperfs.replication.status import Follow
from hyperfs.swarm.swarm import Swarm
from hyperfs.trie import HypertrieExtension


class OurPeer:
    """A store, and the connections over which every core that is opened in it is shared. Made by `our_peer`."""

    def __init__(self, store: OpenStore, replicator: Replicator, swarm: Swarm) -> None:
        self.store = store
        self.replicator = replicator
        self._swarm = swarm

    async def open_core(self, key: bytes) -> Core:
        """Open a core and share it: what a drive asks for its cores."""
        core = await self.store.open_core(key)
        self.replicator.add_core(core, follow=Follow.NEWEST)
        return core

    async def drive(self, key: str, version: int | None = None) -> Drive:
        """Open a drive whose cores come from the peers."""
        return await Drive.open(self, bytes.fromhex(key), version=version)

    async def new_drive(self) -> tuple[Drive, DriveWriter]:
        """Make a drive, share both its cores, and return it with its writer."""
        key = (await self.store.create_drive()).key
        drive = await Drive.open(self, key)
        await drive.content()
        return drive, await self.store.writer(drive)

    async def listen(self) -> int:
        """Accept peers on a free port of 127.0.0.1 and return it."""
        return (await self._swarm.listen("127.0.0.1", 0)).port

    def connect(self, port: int) -> None:
        """Dial 127.0.0.1:``port``, again and again."""
        self.replicator.expect_peers()
        self._swarm.add_peer("127.0.0.1", port)


@asynccontextmanager
async def our_peer(path: Path) -> AsyncIterator[OurPeer]:
    """Open the store at ``path`` and share what is opened in it."""
    replicator = Replicator(extensions=[HypertrieExtension()])
    async with hyperfs.open_store(path, source=replicator) as store, trio.open_nursery() as nursery:
        nursery.start_soon(store.store.flush_forever)
        yield OurPeer(store, replicator, Swarm(replicator, nursery))
        nursery.cancel_scope.cancel()
