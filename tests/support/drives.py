"""Drives of cores in memory, for tests of what drives do."""

from dataclasses import dataclass
from typing import Any

from hyperfs.drive.committer import LocalCommitter
from hyperfs.drive.drive import Drive
from hyperfs.drive.writer import DriveWriter
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
