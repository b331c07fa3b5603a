"""How a drive of ours grows: content under a lease, then one commit of trie operations.

The rule: content is on disk before the metadata that names it is appended, and a commit that expected another version
than it finds changes nothing.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio

from hyperfs.core.core import Core
from hyperfs.core.reader import Run
from hyperfs.errors import ConflictingLength, NotWritable, short
from hyperfs.trie import NodeCache, Operation, Trie, encode_batch


class ContentLease(Protocol):
    """The right to append to a drive's content core, alone, so that what one appends is one run."""

    async def append(self, blocks: Sequence[bytes]) -> Run:
        """Append ``blocks`` and return where they are. Runs of one lease follow one another without a gap."""
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
        """Append ``operations`` in one batch and return the version after them.

        Content appended before is durable first. Raises `ConflictingLength`, and then nothing was appended, when
        ``expected_version`` is given and is not the drive's version.
        """
        ...


class LocalCommitter:
    """A `Committer` on the cores of this process; one for each drive, shared by all its writers."""

    def __init__(self, metadata: Core, content: Core, *, cache: NodeCache | None = None) -> None:
        for core in (metadata, content):
            if not core.writable:
                raise NotWritable(f"the secret key of {short(core.key)} is not in this store")
        self.metadata = metadata
        self.content_core = content
        self._cache = cache or NodeCache()
        self._content_lock = trio.Lock()
        self._commit_lock = trio.Lock()

    @property
    def key(self) -> bytes:
        """The drive's key."""
        return self.metadata.key

    @asynccontextmanager
    async def content(self) -> AsyncIterator["LocalLease"]:
        """Hold the lease on the content core."""
        async with self._content_lock:
            yield LocalLease(self.content_core)

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
                await self.content_core.sync()
                await self.metadata.append(blocks, expected_length=version)
            return self.metadata.length


class LocalLease:
    """The lease of a `LocalCommitter`."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def append(self, blocks: Sequence[bytes]) -> Run:
        """Append ``blocks`` and return where they are."""
        byte_offset = self._core.byte_length
        start = await self._core.append(blocks) if blocks else self._core.length
        return Run(range(start, start + len(blocks)), byte_offset, self._core.byte_length - byte_offset)
