"""Writing to a drive from outside the daemon: content through shared memory, then one commit.

The rule: the daemon appends in the order in which we send, so where a block will stand is known before the answer
comes. `append` therefore returns at once, with a bound on what is under way; what failed is raised by the next
`append`, by `commit`, or at the end of the lease, and nothing is committed after a failure.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from hyperfs.core.reader import Run
from hyperfs.daemon.answers import LeaseGranted
from hyperfs.daemon.client import DaemonClient
from hyperfs.daemon.link import Pending
from hyperfs.daemon.requests import (
    AppendContent,
    Commit,
    Gather,
    GiveBackContent,
    LeaseContent,
    MakeWay,
    ReleaseContent,
    SyncDrive,
)
from hyperfs.daemon.slots import SLOT_BYTES, SLOTS, Slots
from hyperfs.drive.commits import Operation, value_of
from hyperfs.drive.committer import PIECE_BYTES, ReadInto, chunks_of
from hyperfs.errors import DaemonError, HyperfsError

FRAME_BYTES: Final = 4 * 1024 * 1024
"""Content is gathered until there is this much."""
FRAME_BLOCKS: Final = 8192
OPERATIONS_IN_A_PART: Final = 1024
BYTES_OF_A_PART: Final = 1024 * 1024
"""A commit of more is sent in several parts, and made as one: each is encoded, and decoded, in one go."""


class DaemonCommitter:
    """A `Committer` for one drive of the store, through its daemon. For one task at a time."""

    def __init__(self, client: DaemonClient, key: bytes) -> None:
        self._client = client
        self._key = key
        self._lease: DaemonLease | None = None
        self.appended_bytes = 0
        """How many bytes of content the daemon has appended for this committer so far."""

    @property
    def key(self) -> bytes:
        """The drive's key."""
        return self._key

    @asynccontextmanager
    async def content(self) -> AsyncIterator["DaemonLease"]:
        """Hold the lease on the drive's content core; at the end all that was appended stands there."""
        granted = await self._client.request(LeaseContent(self._key))
        lease = DaemonLease(self._client, granted, self._appended)
        self._lease = lease
        try:
            yield lease
            await lease.flush()
        finally:
            self._lease = None
            lease.close()
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await self._release(granted.lease)

    async def commit(self, operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
        """Append ``operations`` in one batch and return the version after them. See `Committer.commit`.

        Cancelled, or when the daemon goes away, all of it stands or nothing; which is to be looked for in the drive.
        """
        if self._lease is not None:
            await self._lease.flush()
        gathered = 0
        for end in _ends_of_parts(operations):
            part = tuple(operations[gathered:end])
            if end == len(operations):
                return await self._client.request(Commit(self._key, part, gathered, expected_version))
            await self._client.request(Gather(self._key, part, gathered))
            gathered = end
        return await self._client.request(Commit(self._key, (), 0, expected_version))

    async def sync(self) -> None:
        """Return once everything committed before is on disk."""
        await self._client.request(SyncDrive(self._key))

    async def make_way(self) -> bool:
        """Give away the store's reserve. See `Committer.make_way`."""
        return await self._client.request(MakeWay(self._key))

    def _appended(self, byte_count: int) -> None:
        self.appended_bytes += byte_count

    async def _release(self, lease: int) -> None:
        try:
            await self._client.request(ReleaseContent(lease))
        except DaemonError:
            return  # the daemon is gone, and every lease with it


class DaemonLease:
    """The lease of a `DaemonCommitter`: puts content into slots, and keeps all but one of them under way."""

    def __init__(self, client: DaemonClient, granted: LeaseGranted, on_appended: Callable[[int], None]) -> None:
        self._client = client
        self._on_appended = on_appended
        self._id = granted.lease
        self._length = granted.length
        self._byte_length = granted.byte_length
        self._slots = Slots.opened(granted.descriptor)
        self._free = list(range(SLOTS))
        self._filling: int | None = None
        self._filled = 0
        self._sizes: list[int] = []
        self._under_way: deque[tuple[Pending, int, int]] = deque()

    async def append(self, blocks: Sequence[bytes]) -> Run:
        """Append ``blocks`` and return where they will be. Raises what an earlier append failed of.

        Cancelled, some of them may be appended, which no version names.
        """
        start, byte_offset = self._length, self._byte_length
        for block in blocks:
            size = len(block)
            if size > SLOT_BYTES:
                raise ValueError(f"a block of {size} bytes, where {SLOT_BYTES} are allowed")
            if self._sizes and self._filled + size > FRAME_BYTES:
                self._send()
            if self._filling is None:
                self._filling = await self._free_slot()
            self._slots.slot(self._filling)[self._filled : self._filled + size] = block
            self._filled += size
            self._sizes.append(size)
            self._length += 1
            self._byte_length += size
            if self._filled >= FRAME_BYTES or len(self._sizes) >= FRAME_BLOCKS:
                self._send()
        return Run(range(start, self._length), byte_offset, self._byte_length - byte_offset)

    async def append_piece(self, read_into: ReadInto) -> Run:
        """Append what ``read_into`` has. See `ContentLease.append_piece`; raises as `append`."""
        self._send()
        if self._filling is None:
            self._filling = await self._free_slot()
        piece = self._slots.slot(self._filling)[:PIECE_BYTES]
        size = await trio.to_thread.run_sync(read_into, piece)
        start, byte_offset = self._length, self._byte_length
        self._sizes = [len(block) for block in chunks_of(piece[:size])]
        self._length += len(self._sizes)
        self._byte_length += size
        self._send()
        return Run(range(start, self._length), byte_offset, size)

    async def give_back(self, start: int = 0) -> None:
        """Forget what was appended. See `ContentLease.give_back`; raises `DaemonError`."""
        self._send()
        while self._under_way:
            pending, slot, _ = self._under_way.popleft()
            with suppress(HyperfsError, OSError):  # it was raised before, or what was to be appended is not there
                await pending.wait()
            self._free.append(slot)
        await self._client.request(GiveBackContent(self._id, start))

    async def flush(self) -> None:
        """Return once everything appended stands in the content core. Raises what an append failed of."""
        self._send()
        while self._under_way:
            await self._await_oldest()

    def close(self) -> None:
        """Let go of the slots; nothing can be appended any more."""
        self._slots.close()

    def _send(self) -> None:
        """Have the daemon append what was put into the slot that is being filled."""
        if self._filling is not None and self._sizes:
            pending = self._client.send(AppendContent(self._id, self._filling, tuple(self._sizes)))
            self._under_way.append((pending, self._filling, sum(self._sizes)))
            self._filling, self._filled, self._sizes = None, 0, []

    async def _free_slot(self) -> int:
        while not self._free or (self._under_way and self._under_way[0][0].done.is_set()):
            await self._await_oldest()
        return self._free.pop()

    async def _await_oldest(self) -> None:
        pending, slot, byte_count = self._under_way[0]
        await pending.wait()
        self._under_way.popleft()
        self._on_appended(byte_count)
        self._free.append(slot)


def _ends_of_parts(operations: Sequence[Operation]) -> Iterator[int]:
    """Yield where each part of a commit ends."""
    start = byte_count = 0
    for number, operation in enumerate(operations, 1):
        byte_count += len(operation.path) + len(value_of(operation) or b"")
        if number - start >= OPERATIONS_IN_A_PART or byte_count >= BYTES_OF_A_PART or number == len(operations):
            yield number
            start, byte_count = number, 0
