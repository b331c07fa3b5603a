"""Where walks get their nodes: the cache, then the core's own disk, and only then somebody else.

The rule: `Loader.node` never waits. What is not here raises `MissingNodes`; the operation that caught it awaits
`Loader.fetch`, which pins what came until the operation is done, and goes on. So a walk over what is here awaits
nothing, and one over what is not ends even if the cache is too small to hold its way.
"""

from collections.abc import Callable, Sequence

from hyperfs.core.reader import CoreReader, Hint
from hyperfs.errors import BlockNotAvailable, DamagedTrie, HyperfsError, short
from hyperfs.trie.cache import NodeCache
from hyperfs.trie.node import Node


class MissingNodes(HyperfsError):
    """Nodes that a walk needs and that are not here; ``seqs[0]`` is the one it cannot go on without."""

    def __init__(self, seqs: Sequence[int]) -> None:
        super().__init__(f"nodes {list(seqs[:8])} are not here")
        self.seqs = seqs


class Loader:
    """The nodes that one operation reads."""

    __slots__ = ("_core", "_pinned", "_table", "cached")

    def __init__(self, core: CoreReader, cache: NodeCache) -> None:
        self._core = core
        self._table = cache.table(core.key)
        self._pinned: dict[int, Node] = {}
        self.cached: Callable[[int], Node | None] = self._table.get_young
        """Returns a node that was used lately, or None: `find` may still have it. For the inner loops of walks."""

    def node(self, seq: int) -> Node:
        """Return node ``seq``. Raises `MissingNodes`, and `DamagedTrie` when the block is no node."""
        node = self.find(seq)
        if node is None:
            raise MissingNodes((seq,))
        return node

    def find(self, seq: int) -> Node | None:
        """Return node ``seq``, or None when it is not here. Raises `DamagedTrie` when the block is no node."""
        node = self._table.get(seq)
        if node is not None:
            return node
        node = self._pinned.get(seq)
        if node is not None:
            return node
        block = self._core.get_local(seq)
        return None if block is None else self._decode(block, seq)

    async def fetch(self, seqs: Sequence[int], hint: Hint | None = None) -> None:
        """Bring the nodes ``seqs`` here, in one question. Raises `BlockNotAvailable` when the first one cannot be had.

        The others are readahead: if not all of them can be had, the first alone is asked for.
        """
        if len(seqs) > 1:
            try:
                await self._core.fetch(_ranges(seqs), hint=hint)
            except BlockNotAvailable:
                seqs = seqs[:1]
            hint = None
        for position, seq in enumerate(seqs):
            block = self._core.get_local(seq)
            if block is None:
                block = await self._core.get(seq, hint=hint)
            try:
                self._pinned[seq] = self._decode(block, seq)
            except DamagedTrie:
                if position == 0:
                    raise

    def unpin(self) -> None:
        """Forget what was fetched for this operation; the cache may still have it."""
        self._pinned.clear()

    def _decode(self, block: bytes, seq: int) -> Node:
        try:
            return self._table.decode(block, seq)
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
