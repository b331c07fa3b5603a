"""Walking a trie, in the order of its digits.

A node comes once: every link that is followed goes to an older node that shares all digits and parts before the link
and has the digit of its slot, so the states of a walk are a tree, however hostile the nodes are.

A walk is a stack of places, the next one last: a node and the digit position from which its own links count, or the
link by which it will be reached. A place is a node's alone as soon as it has no bucket at or after its position.
Where a node is missing, all that the walk is going to need and can know of are fetched together, few at first.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hyperfs.core.reader import Hint
from hyperfs.errors import DamagedTrie
from hyperfs.trie.links import DIGITS, bucket_at, check, damaged
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.lookup import find_prefix
from hyperfs.trie.node import Node
from hyperfs.trie.paths import DIGITS_PER_PART, PAST_END, Path, is_terminator

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


Place = tuple[int, "Node | None", int, "Node | None", int]
"""A position, and either a node, its number, None and 0; or None, the number of a node that is linked at the position
before from a parent (None: from outside), and the digit of its slot."""
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

    __slots__ = ("_count", "_text")

    def __init__(self) -> None:
        self._text = ""
        self._count = 0

    def __call__(self, parent: Node, node: Node, position: int, digit: int) -> None:
        """Raise `DamagedTrie` unless ``node`` may be in a slot of ``digit`` at ``position`` of ``parent``.

        That is: it has this digit there, and up to there the digits and parts of ``parent``.
        """
        difference = node.digits ^ parent.digits
        end = DIGITS_PER_PART * node.count + 1
        here = PAST_END if position == end else (node.digits >> 2 * position) & 3
        if difference & ((1 << 2 * position) - 1) or here != digit or position > end:
            raise damaged(parent, f"it links block {node.seq} at digit {position}, where its key has no place")
        count = (position - 1) // DIGITS_PER_PART
        if count <= 0:
            return
        text = self._text
        if count != self._count or not parent.key.startswith(text):
            self._text = text = "/".join(parent.parts[:count]) + "/"
            self._count = count
        if not node.key.startswith(text) and node.parts[:count] != parent.parts[:count]:
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
        self._end = None if walk.recursive else self._start + DIGITS_PER_PART
        self._stack: list[Place] | None = None
        self._steps = _REVERSE_STEPS if walk.reverse else _STEPS
        self._buffer: list[Node] = []
        self._batch = _FIRST_BATCH
        self._readahead = _FIRST_READAHEAD
        self._hint_credit = 0
        self._fetches = 0
        self._yielded = 0
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
        if self._stack and (self._yielded or self._fetches):
            await self._loader.rest()
        while True:
            try:
                nodes = self.advance(limit)
                self._yielded += len(nodes)
                return nodes
            except MissingNodes as missing:
                needed = missing
            if self._loader.allowance > 0:
                await self._fetch(needed)
            else:
                await self._loader.resume(needed)

    def resume(self, entries: Stack) -> None:
        """Go on from a stack that another iteration had."""
        self._stack = [(position, None, seq, None, 0) for position, seq in entries]

    def checkpoint(self) -> Stack | None:
        """Return the stack as `resume` takes it; None as long as the first node has not been found."""
        if self._stack is None:
            return None
        return [(place[0], place[2]) for place in self._stack]

    def advance(self, limit: int) -> list[Node]:
        """Return the next nodes that are here, at most ``limit``, or none at the end.

        Raises `MissingNodes` when the very next one is not here, or the loader's allowance is used up, and
        `DamagedTrie`; both leave the place as it is.
        """
        stack = self._open()
        loader = self._loader
        cached = loader.cached
        find = loader.find
        found: list[Node] = []
        while stack and len(found) < limit:
            position, node, seq, parent, digit = stack[-1]
            if node is None:
                node = cached(seq) or find(seq)
                if node is None:
                    if found:
                        break
                    raise MissingNodes((seq,))
                if not node.key:
                    stack.pop()
                    continue
                if parent is not None:
                    self._verify(parent, node, position - 1, digit)
            if loader.allowance <= 0:
                if found:
                    break
                raise MissingNodes((seq,))
            loader.allowance -= node.cost
            # Most nodes have no bucket from here on: then they are leaves, and the first word says so.
            index = _seek(node, position, self._end) if node.words[0] > position else -1
            if index < 0:
                stack.pop()
                if position != self._start or not self._walk.gt or node.count != self._path.count:
                    found.append(node)
                continue
            try:
                places = self._places(node, index)
            except MissingNodes:
                if found:
                    break
                raise
            stack.pop()
            stack += places
        return found

    def _open(self) -> list[Place]:
        if self._stack is None:
            first = find_prefix(self._loader, self._head, self._path)
            self._stack = [] if first is None else [(self._start, first, first.seq, None, 0)]
        return self._stack

    def _places(self, node: Node, index: int) -> list[Place]:
        """Return what to push for the bucket at word ``index``."""
        words = node.words
        position = words[index]
        if is_terminator(position):
            check(node, index)
            return self._places_where_parts_end(node, position, bucket_at(words, index))
        end = DIGITS_PER_PART * node.count
        own = PAST_END if position > end else (node.digits >> 2 * position) & 3
        following = position + 1
        mask = words[index + 1] if index + 1 < len(words) else -1
        if mask >> DIGITS or index + 2 + mask.bit_count() > len(words) or position >= words[0] or position > end + 1:
            check(node, index)
        if mask >> DIGITS or mask >> own & 1:
            raise damaged(node, f"nodes collide at digit {position}, where none can")
        places: list[Place] = []
        for offset, digit in self._steps[mask * DIGITS + own]:
            if offset < 0:
                places.append((following, node, node.seq, None, 0))
                continue
            seq = words[index + offset]
            if not 0 < seq < node.seq:
                check(node, index)
            places.append((following, None, seq, node, digit))
        if self._walk.gt and position == self._start and (own == PAST_END or mask >> PAST_END):
            places.pop(0 if self._walk.reverse else -1)
        return places

    def _places_where_parts_end(self, node: Node, position: int, slots: list[int]) -> list[Place]:
        places: list[Place] = []
        part = position // DIGITS_PER_PART - 1
        own = node.digit(position)
        following = position + 1
        for digit in _ORDER if self._walk.reverse else _REVERSE_ORDER:
            seqs = [seq for seq in slots[digit::DIGITS] if seq]
            if len(seqs) + (digit == own) > 1:
                nodes = self._colliding(node, position, digit, seqs)
                if len({colliding.parts[part] for colliding in nodes}) < len(nodes):
                    raise damaged(node, f"two nodes at digit {position} have the same key up to there")
                nodes.sort(key=_utf16, reverse=True)
                places.extend((following, colliding, colliding.seq, None, 0) for colliding in nodes)
            elif digit == own:
                places.append((following, node, node.seq, None, 0))
            elif seqs:
                places.append((following, None, seqs[0], node, digit))
        return places

    def _colliding(self, node: Node, position: int, digit: int, seqs: list[int]) -> list[Node]:
        """Return the nodes ``seqs`` in the slots of one digit, and ``node`` itself if it has that digit."""
        nodes = [node] if node.digit(position) == digit else []
        missing: list[int] = []
        for seq in seqs:
            other = self._loader.find(seq)
            if other is None:
                missing.append(seq)
            elif other.key:
                self._verify(node, other, position, digit)
                nodes.append(other)
        if missing:
            raise MissingNodes(missing)
        return nodes

    async def _fetch(self, missing: MissingNodes) -> None:
        hint = self._hint()
        await self._loader.rest()
        seqs = list(dict.fromkeys([*missing.seqs, *self._plan()]))
        self._hint_credit -= len(seqs)
        # A folder is listed to its end, as a rule; a walk of all that is below it may stop at any time.
        wanted = 2 * (self._yielded if self._walk.recursive else self._readahead)
        self._readahead = min(max(wanted, _FIRST_READAHEAD), _MOST_READAHEAD)
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
        for _ in range(_VISITS_PER_NODE_AHEAD * self._readahead):
            if not work or len(missing) >= self._readahead or self._loader.allowance <= 0:
                break
            position, node, seq, _, _ = work.pop()
            try:
                node = node or self._loader.find(seq)
                if node is None:
                    missing.append(seq)
                    continue
                self._loader.allowance -= node.cost
                index = _seek(node, position, self._end)
                if index >= 0:
                    work += self._places(node, index)
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
