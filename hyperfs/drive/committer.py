"""How a drive of ours grows: content under a lease, then one commit of trie operations.

The rules: a commit is visible when it returns, and durable soon after, or once `Committer.sync` returns; content is on
disk before the metadata that names it. A commit that expected another version than it finds changes nothing.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Protocol, cast

import trio

from hyperfs.core.core import Core
from hyperfs.core.reader import CoreReader, Run
from hyperfs.core.reserve import Reserve
from hyperfs.drive.stat import stat_or_none
from hyperfs.errors import ConflictingLength, NotWritable, short
from hyperfs.trie import NodeCache, Operation, Trie, encode_batch

_NEWEST_NODES = 256


CHUNK_BYTES = 512 * 1024
"""How large the blocks of a file are, except for its last."""
PIECE_BYTES = 16 * CHUNK_BYTES

ReadInto = Callable[[memoryview], int]
"""Called in a worker thread: fills a buffer and returns how much it put there, less than all of it only at the end."""


class ContentLease(Protocol):
    """The right to append to a drive's content core, alone, so that what one appends is one run."""

    async def append(self, blocks: Sequence[bytes]) -> Run:
        """Append ``blocks`` and return where they are. Runs of one lease follow one another without a gap.

        Cancelled, all of them stand in the content core or none does.
        """
        ...

    async def append_piece(self, read_into: ReadInto) -> Run:
        """Append what ``read_into`` has, at most `PIECE_BYTES`, in blocks of `CHUNK_BYTES`; return where it is."""
        ...

    async def give_back(self, start: int = 0) -> None:
        """Forget what was appended under this lease, of it the blocks from ``start`` on, which no commit names.

        Nobody else appends under a lease, so no version names it. Raises OSError. Cancelled, all of it is forgotten or
        nothing.
        """
        ...


class Committer(Protocol):
    """Where a writer's changes go: the cores themselves in one process, the daemon from any other."""

    @property
    def key(self) -> bytes:
        """The drive's key."""
        ...

    def content(self) -> AbstractAsyncContextManager[ContentLease]:
        """Return a context that holds the lease on the drive's content core."""
        ...

    async def commit(self, operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
        """Append ``operations`` in one batch and return the version that they made.

        No crash leaves them without the content that was appended before. Raises `ConflictingLength`, and then nothing
        was appended, when ``expected_version`` is given and is not the drive's version. Cancelled, or after a
        `DaemonError`, all of them stand or none does: `hyperfs.drive.commits.version_made` tells.
        """
        ...

    async def sync(self) -> None:
        """Return once everything committed before is on disk. Cancelled, it stays committed."""
        ...

    async def make_way(self) -> bool:
        """Give away the space that is kept back for a commit on a full disk; tell whether there was any."""
        ...


class LocalCommitter:
    """A `Committer` on the cores of this process; one for each drive, shared by all its writers."""

    def __init__(
        self, metadata: Core, content: Core, *, cache: NodeCache | None = None, reserve: Reserve | None = None
    ) -> None:
        for core in (metadata, content):
            if not core.writable:
                raise NotWritable(f"the secret key of {short(core.key)} is not in this store")
        metadata.sync_after(content)
        self.metadata = metadata
        self.content_core = content
        self._cache = cache or NodeCache()
        self._content_lock = trio.Lock()
        self._reserve = reserve
        self._commit_lock = trio.Lock()

    @property
    def key(self) -> bytes:
        """The drive's key."""
        return self.metadata.key

    @asynccontextmanager
    async def content(self) -> AsyncIterator["LocalLease"]:
        """Hold the lease on the content core."""
        async with self._content_lock:
            yield LocalLease(self.content_core, self._reserve)

    async def commit(self, operations: Sequence[Operation], *, expected_version: int | None = None) -> int:
        """Append ``operations`` in one batch and return the version after them. See `Committer.commit`."""
        async with self._commit_lock:
            version = self.metadata.length
            if expected_version is not None and expected_version != version:
                raise ConflictingLength(
                    f"drive {short(self.key)} is at version {version}, not at {expected_version}: somebody else wrote"
                )
            if not operations:
                return version
            blocks = await encode_batch(Trie(self.metadata, version, self._cache), operations)
            if blocks:
                append = partial(self.metadata.append, blocks, expected_length=version)
                await (append() if self._reserve is None else self._reserve.spend_on(append))
            return version + len(blocks)

    async def clear(self, ranges: Sequence[range], *, expected_version: int) -> None:
        """Forget blocks of content that the drive, as it was at ``expected_version``, can do without.

        Nobody else has them, as far as is known here: it is for good. Raises `ConflictingLength`, and then nothing is
        cleared, when the drive has another version by now. Cancelled, all of them are forgotten or none is.
        """
        async with self._commit_lock:
            if self.metadata.length != expected_version:
                raise ConflictingLength(
                    f"drive {short(self.key)} is at version {self.metadata.length}, not at {expected_version}: it was "
                    "written to meanwhile; look again at what can go"
                )
            await self.content_core.clear_all(ranges)

    async def sync(self) -> None:
        """Return once everything committed before is on disk."""
        await self.metadata.sync()

    async def make_way(self) -> bool:
        """Give away the reserve. See `Committer.make_way`."""
        return self._reserve is not None and await self._reserve.give()


async def named_content(metadata: CoreReader) -> int:
    """Return how many blocks of content the newest versions of a drive, as far as they are here, say that there are."""
    length = 0
    trie = Trie(metadata, metadata.length, NodeCache())
    oldest = max(1, metadata.length - _NEWEST_NODES)
    if not metadata.has(oldest, metadata.length):
        return 0
    async for node in trie.history(oldest, reverse=True):
        stat = None if node.hidden else stat_or_none(node.value)
        if stat is not None and stat.has_content:
            length = max(length, stat.offset + stat.blocks)
    return length


class LocalLease:
    """The lease of a `LocalCommitter`."""

    def __init__(self, core: Core, reserve: Reserve | None) -> None:
        self._core = core
        self._start = core.length
        self._reserve = reserve
        self._buffer: memoryview | None = None

    async def append(self, blocks: Sequence[bytes]) -> Run:
        """Append ``blocks`` and return where they are. Raises OSError (ENOSPC) when only the reserve is left."""
        if self._reserve is not None:
            await self._reserve.require()
        byte_offset = self._core.byte_length
        start = await self._core.append(blocks) if blocks else self._core.length
        return Run(range(start, start + len(blocks)), byte_offset, self._core.byte_length - byte_offset)

    async def append_piece(self, read_into: ReadInto) -> Run:
        """Append what ``read_into`` has. See `ContentLease.append_piece`."""
        if self._buffer is None:
            self._buffer = memoryview(bytearray(PIECE_BYTES))
        size = await trio.to_thread.run_sync(read_into, self._buffer)
        return await self.append(chunks_of(self._buffer[:size]))

    async def give_back(self, start: int = 0) -> None:
        """Forget what was appended. See `ContentLease.give_back`."""
        start = max(self._start, start)
        if start < self._core.length:
            await self._core.clear_all([range(start, self._core.length)])
        if self._reserve is not None:
            await self._reserve.make()


def chunks_of(content: memoryview) -> list[bytes]:
    """Cut ``content`` into blocks of `CHUNK_BYTES`, without copying them."""
    # What appends only hashes and writes them, for which a view is as good as bytes.
    return [cast(bytes, content[start : start + CHUNK_BYTES]) for start in range(0, len(content), CHUNK_BYTES)]
