"""Finding directories in a trie: one walk down tells both what a path is and what is below it.

The rule: as long as the nodes are here, nothing waits. See docs/formats.md, "The trie": the node from which everything
with a prefix is reached is the newest of them, and its links name the prefix's own node.
"""

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import NamedTuple

from hyperfs.core.reader import Hint
from hyperfs.errors import DamagedTrie, EncodingError
from hyperfs.trie import Node, Trie
from hyperfs.trie.extension import get_question, iterator_question
from hyperfs.trie.iterator import Walk
from hyperfs.trie.links import bucket
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.lookup import find_prefix
from hyperfs.trie.paths import DIGITS_PER_PART, PAST_END, Path

LISTED_AT_ONCE = 128
"""Names that are read, or asked for, before others have their turn."""


class Child(NamedTuple):
    """One name in a directory: the newest node at or below it, and its own node, if it has one."""

    name: str
    newest: Node
    own: Node | None


def expect(trie: Trie, path: str, *, hidden: bool = False) -> None:
    """Have asked for what `newest_at` will be missing first, if anything: whoever looks two paths up waits once."""
    with suppress(DamagedTrie, EncodingError):  # who looks it up hears of it
        target = Path.of(path, trie.cache.hashing, hidden=hidden)
        loader = Loader(trie.core, trie.cache)
        try:
            find_prefix(loader, trie.head_seq, target)
        except MissingNodes as missing:
            trie.core.prefetch([range(seq, seq + 1) for seq in missing.seqs], hint=_question(trie, target))


async def newest_at(trie: Trie, path: str, *, hidden: bool = False) -> Node | None:
    """Return the newest node whose key is ``path`` or below it, or None.

    Raises `BlockNotAvailable`, `DamagedTrie`, and `EncodingError` for what cannot be a key.
    """
    target = Path.of(path, trie.cache.hashing, hidden=hidden)
    loader = Loader(trie.core, trie.cache)
    hint = _question(trie, target)
    while True:
        try:
            return find_prefix(loader, trie.head_seq, target)
        except MissingNodes as missing:
            seqs = missing.seqs
        await loader.fetch(seqs, hint)
        hint = None


def _question(trie: Trie, target: Path) -> Hint | None:
    """Return what peers are asked who may know which nodes the lookup of ``target`` reads.

    Of hidden paths they look no single one up, but list what is below it.
    """
    if target.hidden:
        return iterator_question(trie.head_seq, target, Walk(), None)
    return get_question(trie.head_seq, target.key)


def newest_now(trie: Trie, path: str, above_seq: int) -> Node | None:
    """Return what `newest_at` would, of what is here. Raises `MissingNodes`, otherwise as it does.

    ``above_seq`` is the block of a node from which all in the directory of ``path`` is reached.
    """
    return find_prefix(Loader(trie.core, trie.cache), above_seq, Path.of(path, trie.cache.hashing))


def own_now(trie: Trie, newest: Node, part_count: int) -> Node | None:
    """Return what `own_node` would, of what is here. Raises `MissingNodes`, otherwise as it does."""
    seq = _own_seq(newest, part_count)
    if seq in (0, newest.seq):
        return newest if seq else None
    return _checked(Loader(trie.core, trie.cache).node(seq), newest, part_count)


async def own_node(trie: Trie, newest: Node, part_count: int) -> Node | None:
    """Return the node of the path of ``part_count`` parts at or below which ``newest`` is the newest, or None."""
    seq = _own_seq(newest, part_count)
    if seq in (0, newest.seq):
        return newest if seq else None
    return await _fetched(Loader(trie.core, trie.cache), newest, seq, part_count)


async def children(trie: Trie, path: str, newest_seq: int) -> AsyncGenerator[list[Child], None]:
    """Yield each name in directory ``path`` once, in the trie's order, as many at a time as are here.

    ``newest_seq`` is the block of the newest node at or below it, near which the others are likely to lie. Nodes of the
    names' own that are not here are brought many at a time: a far peer is not asked once for each.
    """
    part_count = path.count("/") + 2 if path else 1
    loader = Loader(trie.core, trie.cache)
    readahead = trie.cache.table(trie.core.key).readahead
    readahead.listing()
    loader.read_ahead(newest_seq)
    walk = trie.iterate(path, recursive=False, gt=True)
    waiting: list[tuple[Node, int]] = []
    while nodes := await walk.next_batch(LISTED_AT_ONCE):
        readahead.listed(len(nodes))
        found: list[Child] = []
        for newest in nodes:
            seq = _own_seq(newest, part_count)
            own = newest if seq == newest.seq else loader.find(seq) if seq else None
            if waiting or (own is None and seq):
                waiting.append((newest, seq))
            else:
                found.append(_child(newest, own, part_count))
        if found:
            yield found
        if len(waiting) >= LISTED_AT_ONCE:
            yield await _own_nodes(loader, waiting, part_count)
            waiting = []
    if waiting:
        yield await _own_nodes(loader, waiting, part_count)


async def _own_nodes(loader: Loader, waiting: list[tuple[Node, int]], part_count: int) -> list[Child]:
    missing = [seq for newest, seq in waiting if seq not in (0, newest.seq) and loader.find(seq) is None]
    if missing:
        await loader.fetch(missing)
    found = []
    for newest, seq in waiting:
        own = newest if seq == newest.seq else None
        if own is None and seq:
            own = await _fetched(loader, newest, seq, part_count)
        found.append(_child(newest, own, part_count))
    loader.unpin()
    return found


async def _fetched(loader: Loader, newest: Node, seq: int, part_count: int) -> Node:
    node = loader.find(seq)
    if node is None:
        await loader.fetch((seq,))
        node = loader.node(seq)
    return _checked(node, newest, part_count)


def _child(newest: Node, own: Node | None, part_count: int) -> Child:
    if own is not None and own is not newest:
        _checked(own, newest, part_count)
    return Child(newest.parts[part_count - 1], newest, own)


def _own_seq(newest: Node, part_count: int) -> int:
    """Return the block of the node of the first ``part_count`` parts of ``newest``'s key, 0 when there is none."""
    if newest.count == part_count:
        return newest.seq
    slots = bucket(newest, DIGITS_PER_PART * part_count + 1)
    return slots[PAST_END] if len(slots) > PAST_END else 0


def _checked(node: Node, newest: Node, part_count: int) -> Node:
    if node.count != part_count or node.parts != newest.parts[:part_count]:
        raise DamagedTrie(f"the node in block {newest.seq} links {node.key[:80]!r} as one of the paths above its own")
    return node
