"""Batches: many operations made into the blocks that one append writes.

Each operation sees the nodes before it, and nothing of a batch is in a cache before it is in the core, since the append
may still be refused.
"""

import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperfs.errors import EncodingError, NotWritable
from hyperfs.trie.cache import NodeCache
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.node import Node, encode
from hyperfs.trie.paths import Path, normalize
from hyperfs.trie.write import delete, delete_tree, links_of

if TYPE_CHECKING:
    from hyperfs.trie.trie import Trie

SLICE_SECONDS = 0.002
"""How long operations are made into blocks before others have their turn."""
_MADE_BYTES = 4 << 20
"""What the nodes may take that a batch has made and keeps at hand."""


@dataclass(frozen=True, slots=True)
class Put:
    """Set ``path`` to ``value``; ``flags`` are the user's (less than 2**23)."""

    path: str
    value: bytes | None
    flags: int = 0
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove ``path``; nothing is written when it is not there, or only under another spelling of the same parts."""

    path: str
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class DeleteTree:
    """Remove ``path`` and every key below it, with one block; nothing is written when there is none."""

    path: str
    hidden: bool = False


Operation = Put | Delete | DeleteTree


class _BatchLoader(Loader):
    """The nodes of a trie and those that the batch has made on top of it.

    Of the latter all blocks stay, and as nodes only those that were used lately: many thousand live objects make the
    interpreter's collector stop everything for longer than a slice.
    """

    __slots__ = ("_base", "_made", "blocks")

    def __init__(self, trie: "Trie") -> None:
        super().__init__(trie.core, trie.cache)
        self._base = trie.version
        self._made = NodeCache(_MADE_BYTES, hashing=trie.cache.hashing).table(trie.core.key)
        self.blocks: list[bytes] = []
        self.cached = self.find

    def find(self, seq: int) -> Node | None:
        if seq < self._base:
            return super().find(seq)
        return self._made.get(seq) or self._made.decode(self.blocks[seq - self._base], seq)

    def append(self, node: Node) -> None:
        """Add ``node`` behind the others."""
        node.seq = self._base + len(self.blocks)
        self.blocks.append(encode(node))
        node.words = array("I" if node.seq < 1 << 32 else "Q", node.words)
        self._made.keep(node)


async def encode_batch(trie: "Trie", operations: Iterable[Operation]) -> list[bytes]:
    """Return the blocks that do ``operations``, in order, to be appended at block ``trie.version``, all at once.

    Operations that change nothing (deleting what is not there) make no block. Raises `EncodingError` for a path that
    cannot be a key, `BlockNotAvailable`, and `DamagedTrie`. Other tasks run after each slice of `SLICE_SECONDS`.
    Nothing is written here, so being cancelled leaves nothing.
    """
    if trie.version < 1:
        raise NotWritable("a trie without its header cannot be written to: append the header first")
    batch = _Batch(trie)
    slice_end = time.perf_counter() + SLICE_SECONDS
    for operation in operations:
        await batch.apply(operation)
        if time.perf_counter() >= slice_end:
            await batch.rest()
            slice_end = time.perf_counter() + SLICE_SECONDS
    return batch.blocks


class _Batch:
    def __init__(self, trie: "Trie") -> None:
        self._trie = trie
        self._loader = _BatchLoader(trie)
        self._head: Node | None = None

    @property
    def blocks(self) -> list[bytes]:
        """The blocks so far."""
        return self._loader.blocks

    async def rest(self) -> None:
        await self._loader.rest()

    async def apply(self, operation: Operation) -> None:
        while True:
            try:
                node = self._node_of(operation)
                break
            except MissingNodes as missing:
                await self._loader.fetch(missing.seqs)
        self._loader.unpin()
        if node is not None:
            self._loader.append(node)
            self._head = node

    def _node_of(self, operation: Operation) -> Node | None:
        hashing = self._trie.cache.hashing
        if self._head is None and self._trie.head_seq:
            self._head = self._loader.node(self._trie.head_seq)
        path = Path.of(operation.path, hashing, hidden=operation.hidden)
        if isinstance(operation, Delete):
            return delete(self._loader, self._head, path, hashing)
        if isinstance(operation, DeleteTree):
            if not path.count:
                raise EncodingError("the root of a trie cannot be deleted")
            return delete_tree(self._loader, self._head, path, hashing)
        if not normalize(path.key) or path.key.startswith("//"):
            raise EncodingError(f"{operation.path!r} cannot be put: readers would take it for another key, or none")
        words = links_of(self._loader, self._head, path)
        return Node(path.key, operation.value, 0, operation.flags, operation.hidden, path.digits, path.count, words)
