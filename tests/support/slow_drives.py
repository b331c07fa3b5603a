"""Drives of cores in memory that may have to be waited for, each time anew, as long as a schedule says.

The rule: what is read may not be in the page cache, and what is asked of the daemon takes its time, before it is done
and after. In some runs it goes away instead: before it has done what it was asked, or before it says so.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from hyperfs.core.reader import Hint, Priority, Run
from hyperfs.crypto import key_pair
from hyperfs.drive.committer import ContentLease, LocalCommitter, ReadInto
from hyperfs.drive.drive import Drive
from hyperfs.drive.writer import DriveWriter
from hyperfs.errors import DaemonError
from hyperfs.trie import Header, NodeCache, Operation

from .drives import OwnDrive
from .memory_core import MemoryCore, MemoryCores
from .scheduling import Schedule

NOW_MS = 1_600_000_000_000
DAEMON_AWAY = "the daemon went away"


class SlowCore(MemoryCore):
    """A core all of which is here, but not always in memory."""

    def __init__(self, key: bytes, schedule: Schedule) -> None:
        super().__init__(key)
        self._schedule = schedule

    def get_local(self, index: int) -> bytes | None:
        return None if self._schedule.is_slow() else super().get_local(index)

    async def get(self, index: int, *, priority: Priority = Priority.URGENT, hint: Hint | None = None) -> bytes:
        await self._schedule.turns()
        block = self.blocks[index]
        assert block is not None
        return block

    async def fetch(
        self, ranges: Sequence[range], *, priority: Priority = Priority.URGENT, hint: Hint | None = None
    ) -> None:
        await self._schedule.turns()

    def read_now(self, run: Run, position: int, size: int) -> bytes | None:
        return None if self._schedule.is_slow() else self._bytes(run, position, size)

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        await self._schedule.turns()
        return self._bytes(run, position, size)

    def _bytes(self, run: Run, position: int, size: int) -> bytes:
        blocks = [self.blocks[index] or b"" for index in run.blocks]
        return b"".join(blocks)[: run.size][position : position + size]


class SlowCores(MemoryCores):
    """A `CoreProvider` of slow cores."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule

    async def open_core(self, key: bytes) -> MemoryCore:
        await self._schedule.turns()
        return await super().open_core(key)

    def create(self) -> MemoryCore:
        core = SlowCore(key_pair(len(self.cores).to_bytes(32, "big")).public, self._schedule)
        return self.cores.setdefault(core.key, core)


class SlowCommitter:
    """A `Committer` whose every word goes to the daemon and back."""

    def __init__(self, committer: LocalCommitter, schedule: Schedule, *, away_chance: float = 0.0) -> None:
        """``away_chance`` is how likely the daemon goes away on each way to it or back."""
        self._committer = committer
        self._schedule = schedule
        self._away_chance = away_chance

    async def _way(self) -> None:
        """Go to the daemon, or back from it. Raises `DaemonError`."""
        await self._schedule.turns()
        if self._away_chance and not self._schedule.is_quiet and self._schedule.chance.random() < self._away_chance:
            self._schedule.tell(DAEMON_AWAY)
            raise DaemonError(DAEMON_AWAY)

    @property
    def key(self) -> bytes:
        return self._committer.key

    @asynccontextmanager
    async def content(self) -> AsyncIterator[ContentLease]:
        await self._way()
        async with self._committer.content() as lease:
            yield _SlowLease(lease, self._way)

    async def commit(self, operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
        await self._way()
        version = await self._committer.commit(operations, expected_version=expected_version)
        await self._way()
        return version

    async def sync(self) -> None:
        await self._way()
        await self._committer.sync()
        await self._way()

    async def make_way(self) -> bool:
        return await self._committer.make_way()


class _SlowLease:
    def __init__(self, lease: ContentLease, way: Callable[[], Awaitable[None]]) -> None:
        self._lease = lease
        self._way = way

    async def append(self, blocks: Sequence[bytes]) -> Run:
        await self._way()
        run = await self._lease.append(blocks)
        await self._way()
        return run

    async def append_piece(self, read_into: ReadInto) -> Run:
        await self._way()
        run = await self._lease.append_piece(read_into)
        await self._way()
        return run

    async def give_back(self, start: int = 0) -> None:
        await self._way()
        await self._lease.give_back(start)
        await self._way()


async def slow_drive(schedule: Schedule) -> OwnDrive:
    """Make an empty drive of ours. Its committer is the one that others use; a mount's is a `SlowCommitter` over it."""
    cores = SlowCores(schedule)
    metadata, content = cores.create(), cores.create()
    await metadata.append([Header(content.key, "hyperdrive").encode()])
    cache = NodeCache(schedule.chance.choice((1, 1 << 20)))
    drive = await Drive.open(cores, metadata.key, cache=cache)
    committer = LocalCommitter(metadata, content)  # type: ignore[arg-type]  # as much of a core as it uses
    return OwnDrive(cores, metadata, content, drive, DriveWriter(drive, committer, clock=lambda: NOW_MS), committer)


async def cut(own: OwnDrive, metadata_length: int, content_length: int) -> OwnDrive:
    """Return the drive as it was when its cores had these lengths, with nothing slow about it."""
    cores = MemoryCores()
    made = []
    for core, length in ((own.metadata, metadata_length), (own.content, content_length)):
        copy = cores.cores[core.key] = core.cut(length)
        made.append(copy)
    drive = await Drive.open(cores, own.metadata.key)
    committer = LocalCommitter(*made)  # type: ignore[arg-type]  # as much of a core as it uses
    return OwnDrive(cores, *made, drive, DriveWriter(drive, committer), committer)
