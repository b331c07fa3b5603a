"""Cores for tests: writers and readers in memory, and a source that takes blocks straight from another core."""

from collections.abc import Iterable, Sequence

from hyperfs.core.core import Core
from hyperfs.core.proofs import Received
from hyperfs.core.reader import CoreReader, Hint, Priority
from hyperfs.crypto import KeyPair, key_pair
from hyperfs.errors import BlockNotAvailable
from hyperfs.storage import Directory, MemoryDirectory

KEYS: KeyPair = key_pair(b"\x01" * 32)


async def writer(blocks: Iterable[bytes] = (), *, keys: KeyPair = KEYS, directory: Directory | None = None) -> Core:
    """Return a writable core that holds ``blocks``, appended in one batch."""
    core = await Core.open(directory or MemoryDirectory(), key_pair=keys)
    await core.append(list(blocks))
    return core


async def reader(*, keys: KeyPair = KEYS, directory: Directory | None = None) -> Core:
    """Return an empty core of the same key that cannot be appended to."""
    return await Core.open(directory or MemoryDirectory(), key=keys.public)


async def received(source: Core, target: Core, index: int) -> Received:
    """Return block ``index`` of ``source`` with the proof that ``target`` needs."""
    proof = await source.proof(index, digest=target.digest(index))
    return Received(index, await source.get(index), proof.nodes, proof.signature)


async def bring(source: Core, target: Core, indices: Iterable[int]) -> None:
    """Store blocks of ``source`` in ``target``, one at a time."""
    for index in indices:
        await target.store([await received(source, target, index)], origin=source)


class CoreSource:
    """A `Source` that has another core; notes what it was asked."""

    def __init__(self, origin: Core, target: Core) -> None:
        self.origin = origin
        self.target = target
        self.fetched: list[int] = []
        self.sought: list[int] = []

    async def fetch(self, core: CoreReader, ranges: Sequence[range], priority: Priority, hint: Hint | None) -> None:
        for blocks in ranges:
            for index in blocks:
                if self.target.has(index, index + 1):
                    continue
                if index >= self.origin.length:
                    raise BlockNotAvailable(f"no block {index}")
                self.fetched.append(index)
                await bring(self.origin, self.target, [index])

    def prefetch(self, core: CoreReader, ranges: Sequence[range], hint: Hint | None) -> None:
        pass

    async def seek(self, core: CoreReader, byte_offset: int, blocks: range, priority: Priority) -> None:
        index, _ = await self.origin.seek(byte_offset)
        self.sought.append(index)
        proof = await self.origin.proof(index)
        await self.target.store(
            [Received(index, await self.origin.get(index), proof.nodes, proof.signature)], origin=self.origin
        )

    async def update(self, core: CoreReader) -> None:
        await bring(self.origin, self.target, [self.origin.length - 1])
