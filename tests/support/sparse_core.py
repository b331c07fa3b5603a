"""A core whose blocks are a list, of which only some are here: the rest is fetched as from peers.

The rule: it keeps the contract of `hyperfs.core.reader.CoreReader` and remembers what was asked of it.
"""

from collections.abc import Iterable, Sequence

import trio

from hyperfs.core.reader import Hint, Priority, Run
from hyperfs.errors import BlockNotAvailable


class SparseCore:
    """``held`` are the blocks that are here (None: all of them); those in ``lost`` nobody has."""

    def __init__(self, blocks: Iterable[bytes], *, held: Iterable[int] | None = None, key: bytes = b"k" * 32) -> None:
        self.blocks = list(blocks)
        self.key = key
        self.discovery_key = bytes(reversed(key))
        self.writable = True
        self.held = None if held is None else set(held)
        self.lost: set[int] = set()
        self.read_blocks: set[int] = set()
        self.fetches: list[list[int]] = []
        self.hints: list[Hint] = []

    @property
    def length(self) -> int:
        return len(self.blocks)

    @property
    def byte_length(self) -> int:
        return sum(map(len, self.blocks))

    @property
    def fetched(self) -> set[int]:
        """All blocks that were fetched so far."""
        return {index for fetch in self.fetches for index in fetch}

    def append(self, blocks: Sequence[bytes]) -> None:
        self.blocks += blocks

    def has(self, start: int, end: int) -> bool:
        return self.count(start, end) == end - start

    def count(self, start: int, end: int) -> int:
        return sum(1 for index in range(start, end) if self._is_here(index))

    def get_local(self, index: int) -> bytes | None:
        if not self._is_here(index):
            return None
        self.read_blocks.add(index)
        return self.blocks[index]

    async def get(self, index: int, *, priority: Priority = Priority.URGENT, hint: Hint | None = None) -> bytes:
        if not self._is_here(index):
            await self.fetch([range(index, index + 1)], priority=priority, hint=hint)
        return self.blocks[index]

    async def fetch(
        self, ranges: Sequence[range], *, priority: Priority = Priority.URGENT, hint: Hint | None = None
    ) -> None:
        await trio.lowlevel.checkpoint()
        indices = [index for wanted in ranges for index in wanted if not self._is_here(index)]
        self.fetches.append(indices)
        if hint is not None:
            self.hints.append(hint)
        for index in indices:
            if index in self.lost or index >= len(self.blocks):
                raise BlockNotAvailable(f"block {index} is nowhere")
        if self.held is not None:
            self.held.update(indices)

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        content = b"".join([await self.get(index, priority=priority) for index in run.blocks])
        return content[: run.size][position : position + size]

    def read_now(self, run: Run, position: int, size: int) -> bytes | None:
        return None

    def prefetch(self, ranges: Sequence[range], *, hint: Hint | None = None) -> None:
        pass

    async def ahead(self, run: Run, position: int, size: int) -> None:
        await self.fetch([run.blocks], priority=Priority.AHEAD)

    async def update(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_longer(self, length: int) -> None:
        while len(self.blocks) <= length:
            await trio.lowlevel.checkpoint()

    def _is_here(self, index: int) -> bool:
        return 0 <= index < len(self.blocks) and (self.held is None or index in self.held)
