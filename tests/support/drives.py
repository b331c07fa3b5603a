"""Drives of cores in memory, for tests of what drives do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.drive.committer import LocalCommitter
from hyperfs.drive.drive import Drive
from hyperfs.drive.writer import DriveWriter
from hyperfs.storage import MemoryDirectory
from hyperfs.trie import Header, Operation

from .memory_core import MemoryCore, MemoryCores


@dataclass
class OwnDrive:
    """A drive of ours in memory."""

    cores: MemoryCores
    metadata: MemoryCore
    content: MemoryCore
    drive: Drive
    writer: DriveWriter
    committer: LocalCommitter

    async def commit(self, *operations: Operation) -> int:
        """Append what no well-behaved writer would."""
        return await self.committer.commit(operations)


async def new_drive(cores: MemoryCores | None = None, *, clock: Any = lambda: 1_600_000_000_000) -> OwnDrive:
    """Make an empty drive."""
    cores = cores or MemoryCores()
    metadata, content = cores.create(), cores.create()
    await metadata.append([Header(content.key, "hyperdrive").encode()])
    drive = await Drive.open(cores, metadata.key)
    committer = LocalCommitter(metadata, content)  # type: ignore[arg-type]  # as much of a core as it uses
    return OwnDrive(cores, metadata, content, drive, DriveWriter(drive, committer, clock=clock), committer)


class RealCores:
    """A `CoreProvider` of real cores, whose files are in memory; what nobody has is an empty core. Close it."""

    def __init__(self) -> None:
        self.cores: dict[bytes, Core] = {}

    async def open_core(self, key: bytes) -> Core:
        if key not in self.cores:
            self.cores[key] = await Core.open(MemoryDirectory(), key=key)
        return self.cores[key]

    async def make(self, seed: bytes) -> Core:
        """Make a writable core, the same key in each run of a test."""
        pair = key_pair(seed)
        self.cores[pair.public] = await Core.open(MemoryDirectory(), key_pair=pair)
        return self.cores[pair.public]

    async def close(self) -> None:
        for core in self.cores.values():
            await core.close()


@dataclass
class RealDrive:
    """A drive of ours with real cores."""

    cores: RealCores
    metadata: Core
    content: Core
    drive: Drive
    committer: LocalCommitter
    writer: DriveWriter


@asynccontextmanager
async def real_drive() -> AsyncIterator[RealDrive]:
    """Make an empty drive of real cores, until the block ends."""
    cores = RealCores()
    try:
        metadata, content = [await cores.make(bytes([part]) * 32) for part in (1, 2)]
        await metadata.append([Header(content.key, "hyperdrive").encode()])
        drive = await Drive.open(cores, metadata.key)
        committer = LocalCommitter(metadata, content)
        yield RealDrive(cores, metadata, content, drive, committer, DriveWriter(drive, committer, clock=lambda: 1))
    finally:
        await cores.close()
