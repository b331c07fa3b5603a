"""Which nodes of a proof need not be sent: said in requests, and remembered from them.

A node is only called known when the other side may rely on it: because it is on disk here, or because an earlier answer
on the same channel, which is handled before, is certain to bring it. The digest's form: docs/formats.md, "Proofs".
"""

from __future__ import annotations

from typing import Final

from hyperfs import flat_tree
from hyperfs.core.proofs import request_digest

MAX_REMEMBERED: Final = 1024
"""Tree nodes remembered of one peer and core; past that all are forgotten, which only makes proofs longer."""


class Remembered:
    """What a peer's digests said that it has, for the life of a channel.

    Who has an ancestor of a block has all the roots left of it too; so of all ancestors the rightmost one is kept, as
    the length of a tree whose roots the peer has. Siblings said without an ancestor are kept one by one.
    """

    __slots__ = ("_length", "_nodes")

    def __init__(self) -> None:
        self._length = 0
        self._nodes: set[int] = set()

    def merge(self, block_index: int, digest: int, tree_length: int) -> int:
        """Take in what ``digest`` says, and return the digest that says all that is known of the way up."""
        if digest & 1:
            # the way up ends at what is known: nothing remembered could shorten it
            if digest != 1:
                depth = digest.bit_length() - 2
                self._length = max(self._length, (block_index >> depth) + 1 << depth)
            return digest
        if digest:
            self._note_siblings(block_index, digest)
        if not self._nodes and not self._length:
            return digest
        known = self._nodes.union(flat_tree.full_roots(min(self._length, tree_length)))
        return request_digest(block_index, tree_length, known.__contains__)[0]

    def _note_siblings(self, block_index: int, digest: int) -> None:
        node = 2 * block_index
        bits = digest >> 1
        while bits:
            if bits & 1:
                if len(self._nodes) >= MAX_REMEMBERED:
                    self._nodes.clear()
                self._nodes.add(flat_tree.sibling(node))
            node = flat_tree.parent(node)
            bits >>= 1
