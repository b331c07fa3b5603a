"""A drive whose owner is far away, in one process and on a virtual clock: how long reading it takes, in round trips.

The rule: there is nothing of the drive here to begin with, and nothing waits but for the line.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from hyperfs.core.core import Core
from hyperfs.drive.drive import Drive
from hyperfs.replication import Follow, Replicator
from hyperfs.replication.extensions import Extension
from hyperfs.storage import MemoryDirectory
from hyperfs.trie import HypertrieExtension

from .drives import RealDrive
from .peers import join_far

ROUND_TRIP = 0.1
RATE = 200e6


class FarCores:
    """A `CoreProvider` of readers' cores in memory, shared through ``replicator``. Close it."""

    def __init__(self, replicator: Replicator) -> None:
        self._replicator = replicator
        self.cores: dict[bytes, Core] = {}

    async def open_core(self, key: bytes) -> Core:
        if key not in self.cores:
            core = self.cores[key] = await Core.open(MemoryDirectory(), key=key, source=self._replicator)
            self._replicator.add_core(core, follow=Follow.LENGTH)
        return self.cores[key]

    async def close(self) -> None:
        for core in self.cores.values():
            await core.close()


@dataclass
class FarDrive:
    """A drive as a reader has it who has just connected."""

    drive: Drive
    metadata: Core
    cores: FarCores
    opening_seconds: float
    """What opening it took, from when both were connected and greeted."""


@asynccontextmanager
async def far_drive(
    origin: RealDrive,
    *,
    round_trip: float = ROUND_TRIP,
    rate: float | None = RATE,
    extensions: Sequence[Extension] = (HypertrieExtension(),),
) -> AsyncIterator[FarDrive]:
    """Open a drive whose owner, who speaks ``extensions``, is ``round_trip`` seconds away."""
    await origin.content.sync()
    await origin.metadata.sync()
    theirs = Replicator(extensions=extensions)
    ours = Replicator(extensions=[HypertrieExtension()])
    for core in (origin.metadata, origin.content):
        theirs.add_core(core, follow=Follow.NOTHING)
    cores = FarCores(ours)
    try:
        async with trio.open_nursery() as nursery:
            join_far(nursery, ours, theirs, round_trip=round_trip, rate=rate)
            while not ours.status().peers:
                await ours.wait_changed()
            start = trio.current_time()
            drive = await Drive.open(cores, origin.metadata.key)
            metadata = await cores.open_core(drive.key)
            yield FarDrive(drive, metadata, cores, trio.current_time() - start)
            nursery.cancel_scope.cancel()
    finally:
        await cores.close()
