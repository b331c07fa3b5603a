"""Finding directories in a trie: one walk down tells both what a path is and what is below it.

The rule: as long as the nodes are here, nothing waits. See docs/formats.md, "The trie": the node from which everything
with a prefix is reached is the newest of them, and its links name the prefix's own node.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from hyperfs.errors import DamagedTrie
from hyperfs.trie import Node, Trie
from hyperfs.trie.extension import get_question
from hyperfs.trie.links import bucket
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.lookup import find_prefix
from hyperfs.trie.paths import DIGITS_PER_PART, PAST_END, Path


@dataclass(frozen=True, slots=True)
class Child:
    """One name in a directory: the newest node at or below it, and its own node, if it has one."""

    name: str
    newest: Node
    own: Node | None


async def newest_at(trie: Trie, path: str, *, hidden: bool = False) -> Node | None:
    """Return the newest node whose key is ``path`` or below it, or None.

    Raises `BlockNotAvailable`, `DamagedTrie`, and `EncodingError` for what cannot be a key.
    """
    target = Path.of(path, trie.cache.hashing, hidden=hidden)
    loader = Loader(trie.core, trie.cache)
    hint = None if hidden or not path else get_question(trie.head_seq, target.key)
    while True:
        try:
            return find_prefix(loader, trie.head_seq, target)
        except MissingNodes as missing:
            seqs = missing.seqs
        await loader.fetch(seqs, hint)
        hint = None


async def own_node(trie: Trie, newest: Node, part_count: int) -> Node | None:
    """Return the node of the path of ``part_count`` parts at or below which ``newest`` is the newest, or None."""
    if newest.count == part_count:
        return newest
    slots = bucket(newest, DIGITS_PER_PART * part_count + 1)
    seq = slots[PAST_END] if len(slots) > PAST_END else 0
    if not seq:
        return None
    loader = Loader(trie.core, trie.cache)
    node = loader.find(seq)
    if node is None:
        await loader.fetch((seq,))
        node = loader.node(seq)
    if node.count != part_count or node.parts != newest.parts[:part_count]:
        raise DamagedTrie(f"the node in block {newest.seq} links {node.key[:80]!r} as one of the paths above its own")
    return node


async def children(trie: Trie, path: str) -> AsyncGenerator[Child, None]:
    """Yield each name in directory ``path`` once, in the trie's order."""
    part_count = path.count("/") + 1 if path else 0
    async for newest in trie.iterate(path, recursive=False, gt=True):
        yield Child(newest.parts[part_count], newest, await own_node(trie, newest, part_count + 1))
