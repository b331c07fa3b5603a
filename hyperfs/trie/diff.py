"""What changed between two versions of a trie.

What both versions share is never walked, and nothing is walked twice.

Both tries are walked side by side, on one stack of pairs of places; a pair that is the same node on both sides is
dropped, with all that is below it. Where the digits, or at the end of a part the parts, of two nodes differ, the pair
is split. Order: by digits 4, 3, 2, 1, 0, as in the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from hyperfs.trie.iterator import Link, LinkCheck
from hyperfs.trie.links import DIGITS, bucket_at, check, damaged, seek
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.lookup import find_prefix
from hyperfs.trie.node import Node
from hyperfs.trie.paths import DIGITS_PER_PART, Path, first_difference, is_terminator, next_terminator

_FIRST_READAHEAD = 16
_MOST_READAHEAD = 1024
_FIRST_BATCH = 16
_LARGEST_BATCH = 256


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose node differs between two versions; None on the side that does not have it."""

    key: str
    newer: Node | None
    older: Node | None


Target = Node | Link | None


class DiffIterator:
    """An async iterator over changes; see `hyperfs.trie.trie.Trie.diff`."""

    def __init__(self, loader: Loader, newer_head: int, older_head: int, path: Path) -> None:
        self._loader = loader
        self._heads = (newer_head, older_head)
        self._path = path
        self._verify = LinkCheck()
        self._tops: list[Node | None] = []
        self._stack: list[tuple[int, Target, Target]] | None = None
        self._buffer: list[Change] = []
        self._batch = _FIRST_BATCH
        self._readahead = _FIRST_READAHEAD

    def __aiter__(self) -> "DiffIterator":
        return self

    async def __anext__(self) -> Change:
        if not self._buffer:
            self._buffer = await self.next_batch(self._batch)
            self._buffer.reverse()
            self._batch = min(2 * self._batch, _LARGEST_BATCH)
            if not self._buffer:
                raise StopAsyncIteration
        return self._buffer.pop()

    async def next_batch(self, limit: int) -> list[Change]:
        """Return the next changes, at most ``limit`` and at least one, or none at the end. Lets other tasks run."""
        if self._batch > _FIRST_BATCH:
            await self._loader.rest()
        while True:
            try:
                return self.advance(limit)
            except MissingNodes as missing:
                needed = missing
            if self._loader.allowance <= 0:
                await self._loader.resume(needed)
                continue
            await self._loader.rest()
            seqs = list(dict.fromkeys([*needed.seqs, *self._ahead()]))
            if self._stack is not None:
                self._loader.unpin()
            await self._loader.fetch(seqs)
            self._readahead = min(2 * self._readahead, _MOST_READAHEAD)

    def advance(self, limit: int) -> list[Change]:
        """Return the next changes that can be told from what is here, at most ``limit``, or none at the end.

        Raises `MissingNodes` when the very next one cannot, or the loader's allowance is used up, and `DamagedTrie`;
        both leave the place as it is.
        """
        stack = self._open()
        loader = self._loader
        found: list[Change] = []
        while stack and len(found) < limit:
            position, newer_target, older_target = stack[-1]
            if _seq(newer_target) == _seq(older_target):
                stack.pop()
                continue
            try:
                newer, older = self._resolve([newer_target, older_target])
                if loader.allowance <= 0:
                    raise MissingNodes((_seq(newer_target) or _seq(older_target),))
                loader.allowance -= sum([node.cost for node in (newer, older) if node is not None])
                change, pairs = self._step(position, newer, older)
            except MissingNodes:
                if found:
                    break
                raise
            stack.pop()
            stack.extend(pairs)
            if change is not None:
                found.append(change)
        return found

    def _open(self) -> list[tuple[int, Target, Target]]:
        if self._stack is None:
            while len(self._tops) < len(self._heads):
                self._tops.append(find_prefix(self._loader, self._heads[len(self._tops)], self._path))
            newer, older = self._tops
            self._stack = [(self._path.length - 1, newer, older)]
        return self._stack

    def _resolve(self, targets: list[Target]) -> list[Node | None]:
        """Return the nodes of ``targets``; None for an empty one. Raises `MissingNodes`, and `DamagedTrie`."""
        nodes: list[Node | None] = []
        missing: list[int] = []
        for target in targets:
            node = self._loader.find(target.seq) if isinstance(target, Link) else target
            if isinstance(target, Link):
                if node is None:
                    missing.append(target.seq)
                elif not node.key:
                    node = None
                elif target.parent is not None:
                    self._verify(target.parent, node, target.position, target.digit)
            nodes.append(node)
        if missing:
            raise MissingNodes(missing)
        return nodes

    def _step(
        self, position: int, newer: Node | None, older: Node | None
    ) -> tuple[Change | None, list[tuple[int, Target, Target]]]:
        """Return the change that a pair is, or else the pairs that it falls into."""
        one = newer or older
        if one is None or _seq(newer) == _seq(older):
            return None, []
        indices = [-1 if node is None else seek(node, position) for node in (newer, older)]
        here = min(
            (
                node.words[index]
                for node, index in zip((newer, older), indices, strict=True)
                if node is not None and index >= 0
            ),
            default=one.length,
        )
        if newer is not None and older is not None:
            here = min(here, _parting(newer, older, position))
        if here >= one.length:
            return Change(one.key, newer, older), []
        sides = [_by_digit(node, here, index) for node, index in zip((newer, older), indices, strict=True)]
        pairs: list[tuple[int, Target, Target]] = []
        for digit in range(DIGITS):
            newer_seqs, older_seqs = ({target.seq for target in side[digit]} for side in sides)
            left = [target for target in sides[0][digit] if target.seq not in older_seqs]
            right = [target for target in sides[1][digit] if target.seq not in newer_seqs]
            if left and right and is_terminator(here):
                pairs += [(here + 1, *pair) for pair in self._pairs_by_part(left, right, here)]
            else:
                pairs += [(here + 1, *pair) for pair in zip_longest(left, right)]
        return None, pairs

    def _pairs_by_part(
        self, newer: Sequence[Node | Link], older: Sequence[Node | Link], terminator: int
    ) -> list[tuple[Node | None, Node | None]]:
        """Return the nodes whose parts that end at ``terminator`` are equal in pairs, and the others alone."""
        part = terminator // DIGITS_PER_PART - 1
        nodes = self._resolve([*newer, *older])
        others = {node.parts[part]: node for node in nodes[len(newer) :] if node is not None}
        pairs: list[tuple[Node | None, Node | None]] = [
            (node, others.pop(node.parts[part], None)) for node in nodes[: len(newer)] if node is not None
        ]
        return [*pairs, *((None, node) for node in others.values())]

    def _ahead(self) -> list[int]:
        """Return nodes that are not here and that the walk is going to need, nearest first."""
        missing: list[int] = []
        for _, newer, older in reversed(self._stack or ()):
            if _seq(newer) == _seq(older):
                continue
            links = (target for target in (newer, older) if isinstance(target, Link))
            missing.extend(link.seq for link in links if self._loader.find(link.seq) is None)
            if len(missing) >= self._readahead or self._loader.allowance <= 0:
                break
        return missing


def _seq(target: Target) -> int:
    return 0 if target is None else target.seq


def _parting(newer: Node, older: Node, position: int) -> int:
    """Return the first position at or after ``position`` at which two nodes part, by digit or by part."""
    difference = first_difference(newer.digits, newer.count, older.digits, older.count)
    terminator = next_terminator(position)
    if terminator < difference and newer.key != older.key:
        newer_parts, older_parts = newer.parts, older.parts
        while terminator < difference:
            part = terminator // DIGITS_PER_PART - 1
            if newer_parts[part] != older_parts[part]:
                return terminator
            terminator += DIGITS_PER_PART
    return difference


def _by_digit(node: Node | None, position: int, index: int) -> list[list[Node | Link]]:
    """Return the places that follow ``node`` at ``position``, by digit; ``index`` is its first bucket from there on."""
    places: list[list[Node | Link]] = [[] for _ in range(DIGITS)]
    if node is None:
        return places
    own = node.digit(position)
    places[own].append(node)
    if index >= 0 and node.words[index] == position:
        check(node, index)
        for slot, seq in enumerate(bucket_at(node.words, index)):
            if seq:
                places[slot % DIGITS].append(Link(seq, node, position, slot % DIGITS))
        if not is_terminator(position) and any(len(group) > 1 for group in places):
            raise damaged(node, f"nodes collide at digit {position}, where none can")
    return places
