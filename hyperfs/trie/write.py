"""Putting and deleting: what the next node of a trie is.

Nothing here changes anything. An operation returns the node that is to be appended, and may be tried again after the
nodes that it missed have come.

Format, with the reference's order of placing in buckets: docs/formats.md, "The trie".
"""

from hyperfs.trie.links import DIGITS, append_bucket, bucket_at, check, damaged, link, place, seek
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.lookup import first_other_part, same_part
from hyperfs.trie.node import Node
from hyperfs.trie.paths import DIGITS_PER_PART, Hashing, Path, first_difference, is_terminator


def links_of(loader: Loader, head: Node | None, path: Path, *, without: int = 0) -> list[int]:
    """Return the words of a node put at ``path`` into the trie of ``head``, leaving out the links to one node.

    Raises `MissingNodes` and `DamagedTrie`.
    """
    links = _Links(loader, path, without)
    node = head
    position = 0
    terminator = DIGITS_PER_PART
    while node is not None and node.key:
        stop = first_difference(node.digits, node.count, path.digits, path.count)
        if stop < position:
            raise damaged(node, f"it is linked at digit {position - 1}, but its digits part at {stop}")
        if terminator < stop:
            stop = first_other_part(node, path, terminator, stop)
        index = links.copy(node, position, stop)
        if stop >= path.length:
            break
        node = links.part(node, index, stop)
        position = stop + 1
        while terminator < position:
            terminator += DIGITS_PER_PART
    return links.words


class _Links:
    """The links of a node that is being made; owns their words."""

    __slots__ = ("_loader", "_path", "_without", "words")

    def __init__(self, loader: Loader, path: Path, without: int) -> None:
        self._loader = loader
        self._path = path
        self._without = without
        self.words = [0]

    def copy(self, node: Node, position: int, stop: int) -> int:
        """Copy the buckets of [position, stop), where ``node`` agrees with the path; return the index behind them."""
        source = node.words
        size = len(source)
        index = 1
        while index < size and source[index] < position:
            index += 2 + source[min(index + 1, size - 1)].bit_count()
        words = self.words
        begin = index
        while index < size:
            here = source[index]
            if here >= stop:
                break
            check(node, index)
            if here < words[0]:
                raise damaged(node, f"its links at position {here} are out of order")
            following = index + 2 + source[index + 1].bit_count()
            if self._without or not here % DIGITS_PER_PART:
                words += source[begin:index]
                self._copy_bucket(node, index)
                begin = following
            else:
                words[0] = here + 1
            index = following
        if begin < index:
            words += source[begin:index]
        return index

    def _copy_bucket(self, node: Node, index: int) -> None:
        position = node.words[index]
        slots = bucket_at(node.words, index)
        if is_terminator(position):
            copied: list[int] = []
            self._place_other_parts(copied, slots, position)
        else:
            copied = _others(slots, self._path.digit(position), self._without)
        append_bucket(self.words, position, copied)

    def part(self, node: Node, index: int, position: int) -> Node | None:
        """Write the bucket of the position at which ``node`` parts from the path; return the node to go on with.

        ``index`` is that of the first bucket of ``node`` from there on.
        """
        words = node.words
        present = index < len(words) and words[index] == position
        if present:
            check(node, index)
        digit = self._path.digit(position)
        own = node.digit(position)
        if self._without or is_terminator(position):
            slots = bucket_at(words, index) if present else []
            return self._part_slots(node, slots, position, digit, own)
        # Most buckets by far: as they are, less the slot of the path's digit and plus that of the node's own.
        mask = words[index + 1] if present else 0
        if mask >> DIGITS or mask >> own & 1:
            raise damaged(node, f"nodes collide at digit {position}, where none can")
        seqs = list(words[index + 2 : index + 2 + mask.bit_count()])
        following = seqs.pop((mask & ((1 << digit) - 1)).bit_count()) if mask >> digit & 1 else 0
        mask &= ~(1 << digit)
        seqs.insert((mask & ((1 << own) - 1)).bit_count(), node.seq)
        made = self.words
        made[0] = position + 1
        made += (position, mask | 1 << own)
        made += seqs
        return self._loader.node(following) if following else None

    def _part_slots(self, node: Node, slots: list[int], position: int, digit: int, own: int) -> Node | None:
        terminates = is_terminator(position)
        copied = [] if terminates else _others(slots, digit, self._without)
        if node.seq != self._without:
            place(copied, own, node.seq)
        if terminates:
            self._place_other_parts(copied, slots, position)
        append_bucket(self.words, position, copied)
        if terminates:
            return same_part(self._loader, slots, self._path, position)
        return self._loader.node(slots[digit]) if digit < len(slots) and slots[digit] else None

    def _place_other_parts(self, copied: list[int], slots: list[int], terminator: int) -> None:
        """Place, in ascending slot order, the nodes of a bucket where a part ends whose part is not the path's."""
        part = terminator // DIGITS_PER_PART - 1
        wanted = self._path.parts[part]
        missing: list[int] = []
        for slot, seq in enumerate(slots):
            if not seq or seq == self._without:
                continue
            node = self._loader.find(seq)
            if node is None:
                missing.append(seq)
            elif part >= node.count or node.parts[part] != wanted:
                place(copied, slot % DIGITS, seq)
        if missing:
            raise MissingNodes(missing)


def _others(slots: list[int], digit: int, without: int) -> list[int]:
    """Return a copy of a bucket without the slot of ``digit`` and without one node."""
    if len(slots) <= DIGITS and (not without or without not in slots):
        copied = slots.copy()
        if digit < len(copied):
            copied[digit] = 0
        return copied
    copied = []
    for slot, seq in enumerate(slots):
        if seq and seq != without and slot != digit:
            place(copied, slot % DIGITS, seq)
    return copied


def delete(loader: Loader, head: Node | None, path: Path, hashing: Hashing) -> Node | None:
    """Return the node, without its place in the core, that drops ``path`` from the trie of ``head``.

    None when there is nothing to delete; so also for a key behind a collision. Deleting the newer of two keys that
    collide, or a key below it, drops the older one too: the format's rule for the closest node does not look at the
    slot that the other one is in, and the reference does the same, block for block. Raises `MissingNodes` and
    `DamagedTrie`.
    """
    return _drop(loader, head, path, hashing, path.length)


def delete_tree(loader: Loader, head: Node | None, path: Path, hashing: Hashing) -> Node | None:
    """Return the node that drops ``path`` and every key below it from the trie of ``head``; None when there is none.

    It is the same walk as `delete`'s, ended where the path's own digits end: all the keys with that prefix hang from
    one link, that of the newest of them, so the closest node outside, written again without that link, drops them all.
    """
    return _drop(loader, head, path, hashing, path.length - 1)


def _drop(loader: Loader, head: Node | None, path: Path, hashing: Hashing, end: int) -> Node | None:
    node = head
    closest = 0
    position = 0
    while True:
        if node is None or not node.key:
            return None
        stop = first_difference(node.digits, node.count, path.digits, path.count)
        if stop < position:
            raise damaged(node, f"it is linked at digit {position - 1}, but its digits part at {stop}")
        index = seek(node, position)
        closest = _last_neighbour(node, index, min(stop, end), path) or closest
        if stop >= end:
            break
        seq = link(node, stop, path.digit(stop))
        if not seq:
            return None
        closest = node.seq
        node = loader.node(seq)
        position = stop + 1
    if end == path.length and node.key != path.key:
        return None
    if node.parts[: path.count] != path.parts:
        return None
    neighbour = loader.node(closest) if closest else None
    if neighbour is None or not neighbour.key:
        key, value, flags, hidden = "", None, 0, node.hidden
    else:
        key, value, flags, hidden = neighbour.key, neighbour.value, neighbour.flags, neighbour.hidden
    target = Path.of(key, hashing, hidden=hidden)
    words = links_of(loader, head, target, without=node.seq)
    return Node(target.key, value, 0, flags, hidden, target.digits, target.count, words)


def _last_neighbour(node: Node, index: int, stop: int, path: Path) -> int:
    """Return the lowest slot other than the path's in the last bucket before ``stop`` that has one, or 0."""
    words = node.words
    last = 0
    while 0 <= index < len(words):
        check(node, index)
        if words[index] >= stop:
            break
        digit = path.digit(words[index])
        for slot, seq in enumerate(bucket_at(words, index)):
            if seq and slot != digit:
                last = seq
                break
        index += 2 + words[index + 1].bit_count()
    return last
