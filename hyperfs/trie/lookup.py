"""Finding one node: from the head down, following the slot of the wanted digit where the digits part.

The rule: every step goes to an older node and a later digit, and that node must share all digits before it, so a lookup
ends after at most as many steps as the key has digits, whatever the nodes hold.
"""

from hyperfs.trie.links import DIGITS, bucket, damaged, link
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.node import Node
from hyperfs.trie.paths import DIGITS_PER_PART, Path, first_difference, next_terminator


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
    node = loader.node(head)
    digits = path.digits
    count = path.count
    position = 0
    parts: list[str] | None = None
    while node.key:
        difference = first_difference(node.digits, node.count, digits, count)
        if difference < position:
            raise damaged(node, f"it is linked at digit {position - 1}, but its digits part at {difference}")
        stop = difference if difference < end else end
        terminator = next_terminator(position)
        while terminator < stop:
            if parts is None:
                parts = path.parts
            part = terminator // DIGITS_PER_PART - 1
            if node.parts[part] != parts[part]:
                stop = terminator
                break
            terminator += DIGITS_PER_PART
        if stop == end:
            if node.key != path.key and node.parts[:count] != path.parts:
                raise damaged(node, f"it is linked as {path.key[:80]!r}")
            return node
        if stop and not stop % DIGITS_PER_PART:
            candidate = same_part(loader, bucket(node, stop), path, stop)
            if candidate is None:
                return None
            node = candidate
        else:
            seq = link(node, stop, path.digit(stop))
            if not seq:
                return None
            node = loader.node(seq)
        position = stop + 1
    return None


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
