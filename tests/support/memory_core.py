"""Cores that are a list in memory: what a drive needs of a core, without files, proofs or peers.

The rule: a block that a test takes away is missing, as in a sparse core, until it is put back.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import trio

from hyperfs.core.reader import Hint, Priority, Run
from hyperfs.crypto import discovery_key, key_pair
from hyperfs.errors import BlockNotAvailable, ConflictingLength


class MemoryCore:
    """A `CoreReader` that can be appended to."""

    def __init__(self, key: bytes, *, writable: bool = True) -> None:
        self.key = key
        self.discovery_key = discovery_key(key)
        self.writable = writable
        self.blocks: list[bytes | None] = []
        self.byte_length = 0
        self.is_far = False
        """Whether what was taken away comes back when it is asked for."""
        self.brings_at_once = math.inf
        """How many blocks come of those that are asked for, before that question fails."""
        self.silent_seconds = 0.0
        """For how long a question waits that nobody answers."""
        self.questions = 0
        """How often something that is not here was asked for."""
        self.synced = 0
        self.synced_first: MemoryCore | None = None
        self._away: dict[int, bytes] = {}
        self._sizes: list[int] = []
        self._grown = trio.Event()

    @property
    def length(self) -> int:
        return len(self.blocks)

    def take_away(self, *indices: int) -> None:
        """Make blocks missing: only a source would have them, and there is none."""
        for index in indices:
            block = self.blocks[index]
            assert block is not None
            self._away[index] = block
            self.blocks[index] = None

    def put_back(self) -> None:
        for index, block in self._away.items():
            self.blocks[index] = block
        self._away.clear()

    def has(self, start: int, end: int) -> bool:
        return self.count(start, end) == end - start

    def count(self, start: int, end: int) -> int:
        return sum(block is not None for block in self.blocks[start:end])

    def get_local(self, index: int) -> bytes | None:
        return self.blocks[index] if index < len(self.blocks) else None

    async def get(self, index: int, *, priority: Priority = Priority.URGENT, hint: Hint | None = None) -> bytes:
        await self.fetch([range(index, index + 1)])
        block = self.get_local(index)
        assert block is not None
        return block

    async def fetch(
        self, ranges: Sequence[range], *, priority: Priority = Priority.URGENT, hint: Hint | None = None
    ) -> None:
        missing = [index for blocks in ranges for index in blocks if self.get_local(index) is None]
        if not missing:
            return
        self.questions += 1
        for count, index in enumerate(missing):
            if not self.is_far or index not in self._away or count >= self.brings_at_once:
                await trio.sleep(self.silent_seconds)
                raise BlockNotAvailable(f"block {index} is not here")
            self.blocks[index] = self._away.pop(index)

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        blocks = [await self.get(index) for index in run.blocks]
        start = sum(self._sizes[: run.blocks.start])
        assert start == run.byte_offset or not run.size
        return b"".join(blocks)[: run.size][position : position + size]

    def read_now(self, run: Run, position: int, size: int) -> bytes | None:
        blocks = [block for index in run.blocks if (block := self.get_local(index)) is not None]
        if len(blocks) < len(run.blocks) or sum(self._sizes[: run.blocks.start]) != run.byte_offset:
            return None
        return b"".join(blocks)[: run.size][position : position + size]

    def prefetch(self, ranges: Sequence[range], *, hint: Hint | None = None) -> None:
        pass

    async def ahead(self, run: Run, position: int, size: int) -> None:
        pass

    async def update(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_longer(self, length: int) -> None:
        while self.length <= length:
            await self._grown.wait()

    async def append(self, blocks: Sequence[bytes], *, expected_length: int | None = None) -> int:
        if expected_length is not None and expected_length != self.length:
            raise ConflictingLength("somebody else appended")
        start = self.length
        self.blocks.extend(map(bytes, blocks))
        self._sizes.extend(map(len, blocks))
        *_, self.byte_length = accumulate(map(len, blocks), initial=self.byte_length)
        self._grown.set()
        self._grown = trio.Event()
        return start

    def cut(self, length: int) -> "MemoryCore":
        """Return a copy as it was when it was so long, less what was cleared since."""
        copy = MemoryCore(self.key)
        copy.blocks, copy._sizes = self.blocks[:length], self._sizes[:length]
        copy.byte_length = sum(copy._sizes)
        return copy

    async def clear_all(self, cleared: Sequence[range]) -> None:
        for index in (index for blocks in cleared for index in blocks):
            self.blocks[index] = None

    def sync_after(self, other: "MemoryCore") -> None:
        self.synced_first = other

    async def sync(self) -> None:
        if self.synced_first is not None:
            await self.synced_first.sync()
        self.synced = self.length


class MemoryCores:
    """A `CoreProvider` of memory cores."""

    def __init__(self) -> None:
        self.cores: dict[bytes, MemoryCore] = {}
        self._made = 0

    async def open_core(self, key: bytes) -> MemoryCore:
        return self.cores.setdefault(key, MemoryCore(key, writable=False))

    def create(self) -> MemoryCore:
        """Make a writable core, the same key in each run of a test."""
        self._made += 1
        core = MemoryCore(key_pair(self._made.to_bytes(32, "big")).public)
        return self.cores.setdefault(core.key, core)
