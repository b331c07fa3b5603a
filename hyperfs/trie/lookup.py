"""Finding one node: from the head down, following the slot of the wanted digit where the digits part.

Every step goes to an older node and a later digit, and that node must share all digits before it, so a lookup ends
after at most as many steps as the key has digits, whatever the nodes hold. It uses up the loader's allowance as it
goes; when that is gone, or a node is missing, it leaves a waypoint with the loader, where the next attempt begins.

This is the hottest loop of all; it does by hand what `hyperfs.trie.paths` and `hyperfs.trie.links` have names for.
"""

from hyperfs.trie.links import DIGITS, bucket, damaged, link
from hyperfs.trie.loader import Loader, MissingNodes, Waypoint
from hyperfs.trie.node import Node
from hyperfs.trie.paths import DIGITS_PER_PART, PAST_END, Path


def find(loader: Loader, head: int, path: Path) -> Node | None:
    """Return the node of ``path`` in the trie whose newest node is block ``head``, or None.

    Raises `MissingNodes` and `DamagedTrie`.
    """
    return _find(loader, head, path, path.length)


def find_prefix(loader: Loader, head: int, path: Path) -> Node | None:
    """Return a node whose key begins with the parts of ``path``, the one from which all of those are reached, or None.

    Raises `MissingNodes` and `DamagedTrie`.
    """
    return _find(loader, head, path, path.length - 1)


def _find(loader: Loader, head: int, path: Path, end: int) -> Node | None:
    if head < 1:
        return None
    waypoint = loader.waypoint
    if waypoint is not None and waypoint.path is path and waypoint.head == head and waypoint.end == end:
        return _walk(loader, *waypoint)
    return _walk(loader, head, path, end, loader.cached(head) or loader.node(head), 0, DIGITS_PER_PART)


def _walk(loader: Loader, head: int, path: Path, end: int, node: Node, position: int, terminator: int) -> Node | None:
    cached = loader.cached
    digits = path.digits
    count = path.count
    try:
        while node.key:
            if loader.allowance <= 0:
                raise MissingNodes((node.seq,))
            loader.allowance -= node.cost
            difference = node.digits ^ digits
            stop = ((difference & -difference).bit_length() - 1) >> 1 if difference else end
            if node.count != count:
                stop = min(stop, DIGITS_PER_PART * min(node.count, count) + 1)
            if stop < position:
                raise damaged(node, f"it is linked at digit {position - 1}, but its digits part at {stop}")
            if stop > end:
                stop = end
            if terminator < stop:
                stop = first_other_part(node, path, terminator, stop)
            if stop == end:
                if node.key != path.key and node.parts[:count] != path.parts:
                    raise damaged(node, f"it is linked as {path.key[:80]!r}")
                return node
            if stop and not stop % DIGITS_PER_PART:
                colliding = same_part(loader, bucket(node, stop), path, stop)
                if colliding is None:
                    return None
                node = colliding
            else:
                digit = PAST_END if stop > DIGITS_PER_PART * count else (digits >> 2 * stop) & 3
                seq = link(node, stop, digit)
                if not seq:
                    return None
                node = cached(seq) or loader.node(seq)
            position = stop + 1
            while terminator < position:
                terminator += DIGITS_PER_PART
    except MissingNodes:
        loader.waypoint = Waypoint(head, path, end, node, position, terminator)
        raise
    return None


def first_other_part(node: Node, path: Path, terminator: int, stop: int) -> int:
    """Return the first of the positions ``terminator``, + 32, … below ``stop`` whose parts differ, or ``stop``.

    Both paths have the same digits up to ``stop``.
    """
    wanted = path.parts
    last = (stop - 1) // DIGITS_PER_PART
    if node.key == path.key or (last < len(wanted) and node.key.startswith("/".join(wanted[:last]) + "/")):
        return stop
    parts = node.parts
    while terminator < stop:
        part = terminator // DIGITS_PER_PART - 1
        if parts[part] != wanted[part]:
            return terminator
        terminator += DIGITS_PER_PART
    return stop


def same_part(loader: Loader, slots: list[int], path: Path, terminator: int) -> Node | None:
    """Return the node, among those of ``path``'s digit in a bucket where a part ends, whose part is ``path``'s."""
    part = terminator // DIGITS_PER_PART - 1
    wanted = path.parts[part]
    found = None
    missing: list[int] = []
    for slot in range(path.digit(terminator), len(slots), DIGITS):
        seq = slots[slot]
        if not seq:
            break
        node = loader.find(seq)
        if node is None:
            missing.append(seq)
        elif part < node.count and node.parts[part] == wanted:
            found = node
    if missing:
        raise MissingNodes(missing)
    return found
