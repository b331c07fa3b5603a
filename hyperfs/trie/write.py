"""Putting and deleting: what the next node of a trie is.

The rule: nothing here changes anything. An operation returns the node that is to be appended, and may be tried again
after the nodes that it missed have come.

Format, with the reference's order of placing in buckets: docs/formats.md, "The trie".
"""

from hyperfs.trie.links import DIGITS, append_bucket, bucket_at, check, damaged, link, place, seek
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.lookup import same_part
from hyperfs.trie.node import Node
from hyperfs.trie.paths import DIGITS_PER_PART, Hashing, Path, first_difference, is_terminator, next_terminator


def links_of(loader: Loader, head: Node | None, path: Path, *, without: int = 0) -> list[int]:
    """Return the words of a node put at ``path`` into the trie of ``head``, leaving out the links to one node.

    Raises `MissingNodes` and `DamagedTrie`.
    """
    words = [0]
    node = head
    position = 0
    parts: list[str] | None = None
    while node is not None and node.key:
        difference = first_difference(node.digits, node.count, path.digits, path.count)
        if difference < position:
            raise damaged(node, f"it is linked at digit {position - 1}, but its digits part at {difference}")
        stop = difference
        terminator = next_terminator(position)
        while terminator < stop:
            if parts is None:
                parts = path.parts
            part = terminator // DIGITS_PER_PART - 1
            if node.parts[part] != parts[part]:
                stop = terminator
                break
            terminator += DIGITS_PER_PART
        index = _copy_agreeing(loader, words, node, path, (position, stop), without)
        if stop >= path.length:
            break
        slots = bucket_at(node.words, index) if index >= 0 and node.words[index] == stop else []
        node = _copy_parting(loader, words, node, path, stop, slots, without)
        position = stop + 1
    if len(words) > 1:
        words[0] = _last_position(words) + 1
    return words


def _copy_agreeing(
    loader: Loader, words: list[int], node: Node, path: Path, positions: tuple[int, int], without: int
) -> int:
    """Copy the buckets of the positions at which ``node`` stays; return the index of the bucket behind them, or -1."""
    source = node.words
    index = seek(node, positions[0])
    while 0 <= index < len(source):
        check(node, index)
        position = source[index]
        if position >= positions[1]:
            return index
        end = index + 2 + source[index + 1].bit_count()
        if is_terminator(position):
            slots: list[int] = []
            _place_other_parts(loader, slots, bucket_at(source, index), path, position, without)
            append_bucket(words, position, slots)
        elif source[index + 1] >> DIGITS or source[index + 1] >> path.digit(position) & 1 or without:
            append_bucket(words, position, _others(bucket_at(source, index), path.digit(position), without))
        else:
            words.extend(source[index:end])
        index = end
    return -1


def _copy_parting(
    loader: Loader, words: list[int], node: Node, path: Path, position: int, slots: list[int], without: int
) -> Node | None:
    """Write the bucket of the position at which ``node`` parts from ``path``; return the node to go on with."""
    digit = path.digit(position)
    if is_terminator(position):
        copied: list[int] = []
        if node.seq != without:
            place(copied, node.digit(position), node.seq)
        _place_other_parts(loader, copied, slots, path, position, without)
        append_bucket(words, position, copied)
        return same_part(loader, slots, path, position)
    following = loader.node(slots[digit]) if digit < len(slots) and slots[digit] else None
    copied = _others(slots, digit, without)
    if node.seq != without:
        place(copied, node.digit(position), node.seq)
    append_bucket(words, position, copied)
    return following


def _others(slots: list[int], digit: int, without: int) -> list[int]:
    copied: list[int] = []
    for slot, seq in enumerate(slots):
        if seq and seq != without and slot != digit:
            place(copied, slot % DIGITS, seq)
    return copied


def _place_other_parts(
    loader: Loader, copied: list[int], slots: list[int], path: Path, terminator: int, without: int
) -> None:
    """Place, in ascending slot order, the nodes of a bucket where a part ends whose part is not ``path``'s."""
    part = terminator // DIGITS_PER_PART - 1
    wanted = path.parts[part]
    missing: list[int] = []
    for slot, seq in enumerate(slots):
        if not seq or seq == without:
            continue
        node = loader.find(seq)
        if node is None:
            missing.append(seq)
        elif part >= node.count or node.parts[part] != wanted:
            place(copied, slot % DIGITS, seq)
    if missing:
        raise MissingNodes(missing)


def _last_position(words: list[int]) -> int:
    index = 1
    last = 0
    while index < len(words):
        last = words[index]
        index += 2 + words[index + 1].bit_count()
    return last


def delete(loader: Loader, head: Node | None, path: Path, hashing: Hashing) -> Node | None:
    """Return the node, without its place in the core, that drops ``path`` from the trie of ``head``.

    None when there is nothing to delete; so also for a key behind a collision. Raises `MissingNodes`, `DamagedTrie`.
    """
    node = head
    closest = 0
    position = 0
    while True:
        if node is None or not node.key:
            return None
        stop = first_difference(node.digits, node.count, path.digits, path.count)
        index = seek(node, position)
        closest = _last_neighbour(node, index, stop, path) or closest
        if stop >= path.length:
            break
        seq = link(node, stop, path.digit(stop))
        if not seq:
            return None
        closest = node.seq
        node = loader.node(seq)
        position = stop + 1
    if node.key != path.key:
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
