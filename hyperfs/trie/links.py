"""A node's links: finding the bucket of a position in the words of a node, and writing words.

Every function ends after at most as many steps as there are words, whatever is in them, and what cannot have been
written by a trie raises `DamagedTrie`.

A bucket is a list of sequence numbers by slot, 0 for an empty one; slots 0 to 4 are digits, slot + 5, + 10, … hold
nodes that collide with the one in the slot.
"""

from collections.abc import Sequence

from hyperfs.errors import DamagedTrie
from hyperfs.trie.node import Node

DIGITS = 5
MAX_SLOTS = 31
"""The reference makes a bit mask with 32-bit operators, so a bucket cannot have more slots."""
_MAX_MASK = (1 << MAX_SLOTS) - 1


def damaged(node: Node, reason: str) -> DamagedTrie:
    """Return the error that says what is wrong with ``node``."""
    return DamagedTrie(f"the node in block {node.seq} (key {node.key[:80]!r}) is damaged: {reason}")


def seek(node: Node, position: int) -> int:
    """Return the index into ``node.words`` of the first bucket at or after ``position``, or -1."""
    words = node.words
    index = 1
    size = len(words)
    try:
        while index < size:
            if words[index] >= position:
                check(node, index)
                return index
            index += 2 + words[index + 1].bit_count()
    except IndexError as error:
        raise damaged(node, "its links are cut short") from error
    return -1


def check(node: Node, index: int) -> None:
    """Raise `DamagedTrie` unless the bucket at word ``index`` is one that a writer makes."""
    words = node.words
    position = words[index]
    if position >= words[0] or position >= node.length:
        raise damaged(node, f"it has links at position {position} of {min(words[0], node.length)}")
    if index + 1 >= len(words):
        raise damaged(node, "its links are cut short")
    mask = words[index + 1]
    if mask > _MAX_MASK:
        raise damaged(node, f"a bucket has more than {MAX_SLOTS} slots")
    end = index + 2 + mask.bit_count()
    if end > len(words):
        raise damaged(node, "its links are cut short")
    limit = node.seq
    for seq in words[index + 2 : end]:
        if not 0 < seq < limit:
            raise damaged(node, f"it links block {seq}, which is not older than itself")


def bucket(node: Node, position: int) -> list[int]:
    """Return the bucket of ``position``; an empty list when it has none."""
    index = seek(node, position)
    if index < 0 or node.words[index] != position:
        return []
    return bucket_at(node.words, index)


def bucket_at(words: Sequence[int], index: int) -> list[int]:
    """Return the bucket whose words begin at ``index``, checked before."""
    mask = words[index + 1]
    slots = []
    index += 2
    while mask:
        if mask & 1:
            slots.append(words[index])
            index += 1
        else:
            slots.append(0)
        mask >>= 1
    return slots


def link(node: Node, position: int, slot: int) -> int:
    """Return the sequence number in one slot of the bucket of ``position``, or 0. Raises `DamagedTrie`."""
    words = node.words
    index = 1
    try:
        while words[index] < position:
            index += 2 + words[index + 1].bit_count()
        if words[index] != position:
            return 0
        mask = words[index + 1]
        if not mask >> slot & 1:
            return 0
        seq = words[index + 2 + (mask & ((1 << slot) - 1)).bit_count()]
    except IndexError as error:
        if index == len(words):
            return 0
        raise damaged(node, "its links are cut short") from error
    if not 0 < seq < node.seq or position >= words[0]:
        check(node, index)
    return seq


def place(slots: list[int], digit: int, seq: int) -> None:
    """Put ``seq`` into the first free slot of ``digit``, unless the bucket already has it."""
    if seq in slots:
        return
    slot = digit
    while slot < len(slots) and slots[slot]:
        slot += DIGITS
    if slot >= len(slots):
        slots.extend([0] * (slot + 1 - len(slots)))
    slots[slot] = seq


def append_bucket(words: list[int], position: int, slots: list[int]) -> None:
    """Append a bucket to ``words``, unless it is empty; ``words[0]`` is set to the number of positions so far."""
    if len(slots) > MAX_SLOTS:
        raise DamagedTrie(f"more than {MAX_SLOTS // DIGITS} keys collide at digit {position}; no node can hold that")
    mask = 0
    bit = 1
    seqs = []
    for seq in slots:
        if seq:
            mask |= bit
            seqs.append(seq)
        bit += bit
    if mask:
        words[0] = position + 1
        words.append(position)
        words.append(mask)
        words += seqs
