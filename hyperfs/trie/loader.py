"""Where walks get their nodes: the cache, then the core's own disk, and only then somebody else.

`Loader.node` never waits. What is not here raises `MissingNodes`; the operation that caught it awaits `Loader.fetch`,
which pins what came until the operation is done, and goes on. So a walk over what is here awaits nothing, and one over
what is not ends even if the cache is too small to hold its way.

The nodes of a trie are made by its owner, who may mean harm: that a walk is long, and its nodes are large, must hold up
nobody else. So a walk has an allowance of work. When it is used up, what is not decoded yet counts as not here, and
`Loader.fetch`, which lets other tasks run, gives it another.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from hyperfs.core.reader import CoreReader, Hint
from hyperfs.errors import BlockNotAvailable, DamagedTrie, HyperfsError, short
from hyperfs.trie.cache import NodeCache, byte_size
from hyperfs.trie.node import Node
from hyperfs.trie.paths import Path

ALLOWANCE = 4000
"""What a walk may do before other tasks have their turn, in microseconds as they are estimated for CPython."""
_DECODING_COST = 10
_BYTES_A_MICROSECOND_SHIFT = 7
MAX_PINNED_BYTES = 4 << 20
"""Nodes that one `Loader.fetch` keeps decoded; the others of it are read again when the walk comes to them."""


class MissingNodes(HyperfsError):
    """Nodes that a walk needs and that are not here, or not read yet; ``seqs[0]`` is what it cannot go on without."""

    def __init__(self, seqs: Sequence[int]) -> None:
        super().__init__(f"nodes {list(seqs[:8])} are not here")
        self.seqs = seqs


class Waypoint(NamedTuple):
    """How far the lookup of ``path`` under ``head``, up to digit ``end``, came before it had to wait."""

    head: int
    path: Path
    end: int
    node: Node
    position: int
    terminator: int


class Loader:
    """The nodes that one operation reads."""

    __slots__ = ("_core", "_needed", "_pinned", "_table", "allowance", "cached", "waypoint")

    def __init__(self, core: CoreReader, cache: NodeCache) -> None:
        self._core = core
        self._table = cache.table(core.key)
        self._pinned: dict[int, Node] = {}
        self.cached: Callable[[int], Node | None] = self._table.get_young
        """Returns a node that was used lately, or None: `find` may still have it. For the inner loops of walks."""
        self.allowance = ALLOWANCE
        """The work that is left until other tasks have their turn; walks subtract what they do."""
        self._needed: Sequence[int] = ()
        self.waypoint: Waypoint | None = None
        """Where the operation's lookup goes on."""

    def node(self, seq: int) -> Node:
        """Return node ``seq``. Raises `MissingNodes`, and `DamagedTrie` when the block is no node."""
        node = self.find(seq)
        if node is None:
            raise MissingNodes((seq,))
        return node

    def find(self, seq: int) -> Node | None:
        """Return node ``seq``, or None when it is not here or there is no time to read it.

        Raises `DamagedTrie` when the block is no node.
        """
        node = self._table.get(seq)
        if node is not None:
            return node
        node = self._pinned.get(seq)
        if node is not None:
            return node
        block = self._core.get_local(seq) if self.allowance > 0 else None
        return None if block is None else self._decode(block, seq)

    async def rest(self) -> None:
        """Let other tasks run, and give the walk another allowance."""
        await trio.lowlevel.checkpoint()
        self.allowance = ALLOWANCE

    async def resume(self, needed: MissingNodes) -> None:
        """Let a walk go on whose allowance is used up; `rest`, unless one allowance is too little for its next step."""
        if needed.seqs == self._needed:
            await self.fetch(needed.seqs)
        else:
            self._needed = needed.seqs
            await self.rest()

    async def fetch(self, seqs: Sequence[int], hint: Hint | None = None) -> None:
        """Bring the nodes ``seqs`` here, in one question. Raises `BlockNotAvailable` when the first one cannot be had.

        The others are readahead: if not all of them can be had, the first alone is asked for.
        """
        await self.rest()
        self.read_ahead(seqs[0])
        if len(seqs) > 1:
            try:
                await self._core.fetch(_ranges(seqs), hint=hint)
            except BlockNotAvailable:
                seqs = seqs[:1]
            hint = None
        pinned_bytes = 0
        for position, seq in enumerate(seqs):
            if pinned_bytes > MAX_PINNED_BYTES:
                break
            if seq in self._pinned:
                continue  # it was read for the attempt before, and that took all the time there was
            if self.allowance <= 0:
                await self.rest()
            block = self._core.get_local(seq)
            if block is None:
                block = await self._core.get(seq, hint=hint)
            try:
                node = self._pinned[seq] = self._decode(block, seq)
                pinned_bytes += byte_size(node)
            except DamagedTrie:
                if position == 0:
                    raise

    def read_ahead(self, seq: int) -> None:
        """Have asked for what is likely to be wanted after node ``seq``; nobody waits for it."""
        core = self._core
        if not core.writable and not core.has(1, core.length):
            planned = self._table.readahead.plan(seq, core.length, core.byte_length)
            if planned:
                core.prefetch(planned)

    def unpin(self) -> None:
        """Forget what was fetched for this operation; the cache may still have it."""
        self._pinned.clear()

    def _decode(self, block: bytes, seq: int) -> Node:
        self.allowance -= _DECODING_COST + (len(block) >> _BYTES_A_MICROSECOND_SHIFT)
        try:
            node = self._table.decode(block, seq)
            self.allowance -= node.count + node.cost
            return node
        except DamagedTrie as error:
            raise DamagedTrie(f"core {short(self._core.key)}: {error}") from error


def _ranges(seqs: Sequence[int]) -> list[range]:
    ranges: list[range] = []
    for seq in sorted(set(seqs)):
        if ranges and ranges[-1].stop == seq:
            ranges[-1] = range(ranges[-1].start, seq + 1)
        else:
            ranges.append(range(seq, seq + 1))
    return ranges
