"""Writing to a drive from outside the daemon: content in large frames, then one commit.

The rule: the daemon appends in the order in which we send, so where a block will stand is known before the answer
comes. `append` therefore returns at once, with a bound on what is under way; what failed is raised by the next
`append`, by `commit`, or at the end of the lease, and nothing is committed after a failure.
"""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from hyperfs.core.reader import Run
from hyperfs.daemon.client import DaemonClient
from hyperfs.daemon.link import Pending
from hyperfs.drive.committer import PIECE_BYTES, ReadInto, chunks_of
from hyperfs.errors import DaemonError
from hyperfs.trie import Delete, DeleteTree, Operation, Put

FRAME_BYTES: Final = 4 * 1024 * 1024
"""Content is gathered until a frame holds this much."""
FRAME_BLOCKS: Final = 8192
OPERATIONS_IN_A_FRAME: Final = 8192
"""A commit of more operations is sent in several frames, and made as one."""
IN_FLIGHT: Final = 3
"""Frames under way; the next one waits for the oldest."""


class DaemonCommitter:
    """A `Committer` for one drive of the store, through its daemon. For one task at a time."""

    def __init__(self, client: DaemonClient, key: bytes) -> None:
        self._client = client
        self._key = key
        self._lease: DaemonLease | None = None

    @property
    def key(self) -> bytes:
        """The drive's key."""
        return self._key

    @asynccontextmanager
    async def content(self) -> AsyncIterator["DaemonLease"]:
        """Hold the lease on the drive's content core; at the end all that was appended stands there."""
        granted = await self._client.request("content.lease", key=self._key)
        lease = DaemonLease(self._client, granted)
        self._lease = lease
        try:
            yield lease
            await lease.flush()
        finally:
            self._lease = None
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await self._release(granted["lease"])

    async def commit(self, operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
        """Append ``operations`` in one batch and return the version after them. See `Committer.commit`."""
        if self._lease is not None:
            await self._lease.flush()
        encoded = [_encode(operation) for operation in operations]
        gathered = 0
        while len(encoded) - gathered > OPERATIONS_IN_A_FRAME:
            piece = encoded[gathered : gathered + OPERATIONS_IN_A_FRAME]
            await self._client.request("drive.gather", key=self._key, operations=piece, gathered=gathered)
            gathered += len(piece)
        return int(
            await self._client.request(
                "drive.commit",
                key=self._key,
                operations=encoded[gathered:],
                gathered=gathered,
                expected_version=expected_version,
            )
        )

    async def sync(self) -> None:
        """Return once everything committed before is on disk."""
        await self._client.request("drive.sync", key=self._key)

    async def _release(self, lease: int) -> None:
        try:
            await self._client.request("content.release", lease=lease)
        except DaemonError:
            return  # the daemon is gone, and every lease with it


class DaemonLease:
    """The lease of a `DaemonCommitter`: gathers blocks into frames and keeps a few frames under way."""

    def __init__(self, client: DaemonClient, granted: dict[str, Any]) -> None:
        self._client = client
        self._id: int = granted["lease"]
        self._length: int = granted["length"]
        self._byte_length: int = granted["byte_length"]
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._under_way: deque[tuple[Pending, memoryview | None]] = deque()
        self._spare: list[memoryview] = []

    async def append(self, blocks: Sequence[bytes]) -> Run:
        """Append ``blocks`` and return where they will be. Raises what an earlier append failed of."""
        start, byte_offset = self._length, self._byte_length
        for block in blocks:
            if self._gathered and self._gathered_bytes + len(block) > FRAME_BYTES:
                await self._send_gathered()
            self._gathered.append(block)
            self._gathered_bytes += len(block)
            self._length += 1
            self._byte_length += len(block)
            if self._gathered_bytes >= FRAME_BYTES or len(self._gathered) >= FRAME_BLOCKS:
                await self._send_gathered()
        return Run(range(start, self._length), byte_offset, self._byte_length - byte_offset)

    async def append_piece(self, read_into: ReadInto) -> Run:
        """Append what ``read_into`` has. See `ContentLease.append_piece`; raises as `append`."""
        if self._gathered:
            await self._send_gathered()
        await self._make_room()
        buffer = self._spare.pop() if self._spare else memoryview(bytearray(PIECE_BYTES))
        size = await trio.to_thread.run_sync(read_into, buffer)
        blocks = chunks_of(buffer[:size])
        start, byte_offset = self._length, self._byte_length
        self._length += len(blocks)
        self._byte_length += size
        if blocks:
            self._send(blocks, buffer)
        else:
            self._spare.append(buffer)
        return Run(range(start, self._length), byte_offset, size)

    async def flush(self) -> None:
        """Return once everything appended stands in the content core. Raises what an append failed of."""
        if self._gathered:
            await self._send_gathered()
        while self._under_way:
            await self._await_oldest()

    async def _send_gathered(self) -> None:
        await self._make_room()
        blocks, self._gathered, self._gathered_bytes = self._gathered, [], 0
        self._send(blocks, None)

    def _send(self, blocks: list[bytes], buffer: memoryview | None) -> None:
        """Send a frame; ``buffer`` is what the blocks are views of, to be used again once it is answered."""
        sizes = [len(block) for block in blocks]
        pending = self._client.send("content.append", payload=blocks, lease=self._id, sizes=sizes)
        self._under_way.append((pending, buffer))

    async def _make_room(self) -> None:
        while len(self._under_way) >= IN_FLIGHT or (self._under_way and self._under_way[0][0].done.is_set()):
            await self._await_oldest()

    async def _await_oldest(self) -> None:
        pending, buffer = self._under_way.popleft()
        await pending.wait()
        if buffer is not None:
            self._spare.append(buffer)


def _encode(operation: Operation) -> list[Any]:
    match operation:
        case Put(path, value, flags, hidden):
            return ["put", path, value, flags, hidden]
        case Delete(path, hidden):
            return ["delete", path, hidden]
        case DeleteTree(path, hidden):
            return ["delete-tree", path, hidden]
