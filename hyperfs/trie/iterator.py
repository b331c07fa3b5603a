"""Walking a trie, in the order of its digits.

The rule: a node comes once. Every link that is followed goes to an older node that shares all digits and parts before
the link and has the digit of its slot, so the states of a walk are a tree, however hostile the nodes are.

A walk is a stack of places, the next one last: a node and the digit position from which its own links count, or the
link by which it will be reached. A place is a node's alone as soon as it has no bucket at or after its position.
Where a node is missing, all that the walk is going to need and can know of are fetched together, few at first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from hyperfs.core.reader import Hint
from hyperfs.errors import DamagedTrie
from hyperfs.trie.links import DIGITS, bucket_at, check, damaged
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.lookup import find_prefix
from hyperfs.trie.node import Node
from hyperfs.trie.paths import DIGITS_PER_PART, PAST_END, Path, first_difference, is_terminator

_FIRST_READAHEAD = 16
_MOST_READAHEAD = 1024
_VISITS_PER_NODE_AHEAD = 4
_FIRST_BATCH = 16
_LARGEST_BATCH = 256
_NODES_PER_HINT = 2048

_ORDER = (4, 0, 1, 2, 3)
_REVERSE_ORDER = (3, 2, 1, 0, 4)


@dataclass(frozen=True, slots=True)
class Walk:
    """Which nodes an iteration yields, and in which order; see `hyperfs.trie.trie.Trie.iterate`."""

    recursive: bool = True
    reverse: bool = False
    gt: bool = False


@dataclass(slots=True, eq=False)
class Link:
    """The way to a node not looked at yet: from ``parent`` (None: from outside) by the slot of ``digit``."""

    seq: int
    parent: Node | None
    position: int
    digit: int


Place = tuple[int, "Node | Link"]
Stack = list[tuple[int, int]]
"""A stack as it is told to peers: position and sequence number of each place, the next one last."""


def _steps(order: tuple[int, ...]) -> list[tuple[tuple[int, int], ...]]:
    """Return, for each mask * 5 + own digit, what to push: (word offset, -1 for the node itself; digit)."""
    table = []
    for mask in range(1 << DIGITS):
        for own in range(DIGITS):
            offsets = {digit: 2 + (mask & ((1 << digit) - 1)).bit_count() for digit in range(DIGITS)}
            table.append(
                tuple(
                    (-1 if digit == own else offsets[digit], digit)
                    for digit in reversed(order)
                    if digit == own or mask >> digit & 1
                )
            )
    return table


_STEPS = _steps(_ORDER)
_REVERSE_STEPS = _steps(_REVERSE_ORDER)


class LinkCheck:
    """Tells whether a node may be where it is linked; owns the text that neighbours' keys have in common."""

    __slots__ = ("_shared", "_shared_count")

    def __init__(self) -> None:
        self._shared = ""
        self._shared_count = 0

    def __call__(self, link: Link, node: Node) -> None:
        """Raise `DamagedTrie` unless ``node`` has the digits and parts that its link needs."""
        parent = link.parent
        if parent is None:
            return
        position = link.position
        difference = first_difference(parent.digits, parent.count, node.digits, node.count)
        if difference < position or node.digit(position) != link.digit:
            raise damaged(parent, f"it links block {node.seq} at digit {position}, where its key has no place")
        count = (position - 1) // DIGITS_PER_PART
        if count <= 0:
            return
        if count != self._shared_count or not parent.key.startswith(self._shared):
            self._shared = "/".join(parent.parts[:count]) + "/"
            self._shared_count = count
        if not node.key.startswith(self._shared) and node.parts[:count] != parent.parts[:count]:
            raise damaged(parent, f"it links block {node.seq}, whose key {node.key[:80]!r} begins otherwise")


class NodeIterator:
    """An async iterator over nodes. `next_batch` is the faster way to read many."""

    def __init__(
        self, loader: Loader, head: int, path: Path, walk: Walk, question: Callable[[Stack | None], Hint] | None = None
    ) -> None:
        self._loader = loader
        self._head = head
        self._path = path
        self._walk = walk
        self._question = question
        self._start = path.length - 1
        self._stack: list[Place] | None = None
        self._steps = _REVERSE_STEPS if walk.reverse else _STEPS
        self._buffer: list[Node] = []
        self._batch = _FIRST_BATCH
        self._readahead = _FIRST_READAHEAD
        self._hint_credit = 0
        self._fetches = 0
        self._verify = LinkCheck()

    def __aiter__(self) -> "NodeIterator":
        return self

    async def __anext__(self) -> Node:
        if not self._buffer:
            self._buffer = await self.next_batch(self._batch)
            self._buffer.reverse()
            self._batch = min(2 * self._batch, _LARGEST_BATCH)
            if not self._buffer:
                raise StopAsyncIteration
        return self._buffer.pop()

    async def next_batch(self, limit: int) -> list[Node]:
        """Return the next nodes, at most ``limit`` and at least one, or none at the end. Lets other tasks run."""
        if self._fetches or self._batch > _FIRST_BATCH:
            await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.advance(limit)
            except MissingNodes as missing:
                needed = missing
            await self._fetch(needed)

    def resume(self, entries: Stack) -> None:
        """Go on from a stack that another iteration had."""
        self._stack = [(position, Link(seq, None, position, 0)) for position, seq in entries]

    def checkpoint(self) -> Stack | None:
        """Return the stack as `resume` takes it; None as long as the first node has not been found."""
        if self._stack is None:
            return None
        return [(position, target.seq) for position, target in self._stack]

    def advance(self, limit: int) -> list[Node]:
        """Return the next nodes that are here, at most ``limit``, or none at the end.

        Raises `MissingNodes` when the very next one is not here, and `DamagedTrie`; both leave the place as it is.
        """
        stack = self._open()
        find = self._loader.find
        flat_end = self._start + DIGITS_PER_PART if not self._walk.recursive else None
        found: list[Node] = []
        while stack and len(found) < limit:
            position, target = stack[-1]
            if isinstance(target, Link):
                node = find(target.seq)
                if node is None:
                    if found:
                        break
                    raise MissingNodes((target.seq,))
                if not node.key:
                    stack.pop()
                    continue
                self._verify(target, node)
            else:
                node = target
            index = _seek(node, position, flat_end)
            if index >= 0:
                try:
                    places = self._places(node, position, index)
                except MissingNodes:
                    if found:
                        break
                    raise
                stack.pop()
                stack.extend(places)
                continue
            stack.pop()
            if position != self._start or not self._walk.gt or node.count != self._path.count:
                found.append(node)
        return found

    def _open(self) -> list[Place]:
        if self._stack is None:
            first = find_prefix(self._loader, self._head, self._path)
            self._stack = [] if first is None else [(self._start, first)]
        return self._stack

    def _places(self, node: Node, position: int, index: int) -> list[Place]:
        """Return what to push for the bucket at word ``index``, the first at or after ``position``."""
        words = node.words
        here = words[index]
        check(node, index)
        if is_terminator(here):
            return self._places_where_parts_end(node, here, bucket_at(words, index))
        mask = words[index + 1]
        own = node.digit(here)
        if mask >> DIGITS or mask >> own & 1:
            raise damaged(node, f"nodes collide at digit {here}, where none can")
        following = here + 1
        places: list[Place] = [
            (following, node if offset < 0 else Link(words[index + offset], node, here, digit))
            for offset, digit in self._steps[mask * DIGITS + own]
        ]
        if self._walk.gt and here == self._start:
            leave_out = [digit == PAST_END for _, digit in self._steps[mask * DIGITS + own]]
            places = [place for place, left_out in zip(places, leave_out, strict=True) if not left_out]
        return places

    def _places_where_parts_end(self, node: Node, here: int, slots: list[int]) -> list[Place]:
        places: list[Place] = []
        part = here // DIGITS_PER_PART - 1
        own = node.digit(here)
        for digit in _ORDER if self._walk.reverse else _REVERSE_ORDER:
            group: list[Node | Link] = [node] if digit == own else []
            group += [Link(seq, node, here, digit) for seq in slots[digit::DIGITS] if seq]
            if len(group) > 1:
                nodes = self._colliding(group)
                if len({colliding.parts[part] for colliding in nodes}) < len(nodes):
                    raise damaged(node, f"two nodes at digit {here} have the same key up to there")
                nodes.sort(key=_utf16, reverse=True)
                places.extend((here + 1, colliding) for colliding in nodes)
            else:
                places.extend((here + 1, target) for target in group)
        return places

    def _colliding(self, group: "list[Node | Link]") -> list[Node]:
        nodes: list[Node] = []
        missing: list[int] = []
        for target in group:
            if isinstance(target, Node):
                nodes.append(target)
                continue
            node = self._loader.find(target.seq)
            if node is None:
                missing.append(target.seq)
            elif node.key:
                self._verify(target, node)
                nodes.append(node)
        if missing:
            raise MissingNodes(missing)
        return nodes

    async def _fetch(self, missing: MissingNodes) -> None:
        hint = self._hint()
        seqs = list(dict.fromkeys([*missing.seqs, *self._plan()]))
        self._hint_credit -= len(seqs)
        self._readahead = min(2 * self._readahead, _MOST_READAHEAD)
        self._fetches += 1
        if self._stack is not None:
            self._loader.unpin()
        await self._loader.fetch(seqs, hint)

    def _hint(self) -> Hint | None:
        # A peer may answer with all that is below a folder, so ask for a listing only when one fetch is not enough.
        if self._hint_credit > 0 or not (self._walk.recursive or self._fetches):
            return None
        self._hint_credit = _NODES_PER_HINT
        return self._question(self.checkpoint()) if self._question else None

    def _plan(self) -> list[int]:
        """Return nodes that are not here and that the walk is going to need, nearest first."""
        work = list(self._stack or ())
        missing: list[int] = []
        end = self._start + DIGITS_PER_PART if not self._walk.recursive else None
        for _ in range(_VISITS_PER_NODE_AHEAD * self._readahead):
            if not work or len(missing) >= self._readahead:
                break
            position, target = work.pop()
            try:
                node = self._loader.find(target.seq)
                if node is None:
                    missing.append(target.seq)
                    continue
                index = _seek(node, position, end)
                if index >= 0:
                    work.extend(self._places(node, position, index))
            except MissingNodes as collision:
                missing.extend(collision.seqs)
            except DamagedTrie:
                break  # the walk itself will say so when it gets there
        return missing


def _seek(node: Node, position: int, end: int | None) -> int:
    """Return the word index of the first bucket in [position, end), or -1."""
    words = node.words
    index = 1
    size = len(words)
    try:
        while index < size:
            here = words[index]
            if here >= position:
                return index if end is None or here < end else -1
            index += 2 + words[index + 1].bit_count()
    except IndexError as error:
        raise damaged(node, "its links are cut short") from error
    return -1


def _utf16(node: Node) -> bytes:
    return node.key.encode("utf-16-be", "surrogatepass")
