"""Decoded nodes, kept for all snapshots of a process.

The cache never holds more than its budget of bytes, and holds only what was decoded from a verified block.

A node is the same in every version, so it is kept by core and sequence number. What is kept is in two generations: a
node found in the old one moves to the young one; when the young one has filled half the budget, the old one is dropped
and the young one becomes the old. So what is used stays, a hit costs one look into a dict, and nothing is sorted.
"""

from sys import getsizeof

from hyperfs.trie.node import Node, decode
from hyperfs.trie.paths import Hashing
from hyperfs.trie.readahead import Readahead

DEFAULT_BYTE_BUDGET = 32 << 20
_NODE_OVERHEAD = 400
"""Bytes of a node beyond what it refers to: the object, its smaller numbers, its place in a dict."""


def byte_size(node: Node) -> int:
    """Return how many bytes of memory ``node`` takes, as CPython counts them."""
    size = _NODE_OVERHEAD + getsizeof(node.key) + getsizeof(node.digits) + getsizeof(node.words)
    return size if node.value is None else size + len(node.value)


class NodeTable:
    """One core's nodes in a `NodeCache`."""

    __slots__ = ("_cache", "_old", "_young", "get_young", "readahead")

    def __init__(self, cache: "NodeCache") -> None:
        self._cache = cache
        self._young: dict[int, Node] = {}
        self._old: dict[int, Node] = {}
        self.get_young = self._young.get
        """Returns a node of the young generation: the fast way for nodes in use. For others there is `get`."""
        self.readahead = Readahead()
        """What was asked for ahead of this core's nodes, by whom ever."""

    def get(self, seq: int) -> Node | None:
        """Return node ``seq`` if it is kept."""
        node = self._young.get(seq)
        if node is None:
            node = self._old.pop(seq, None)
            if node is not None:
                self.keep(node)
        return node

    def decode(self, block: bytes, seq: int) -> Node:
        """Return the node in ``block``, kept from now on. Raises `DamagedTrie`."""
        node = decode(block, seq, self._cache.hashing)
        self.keep(node)
        return node

    def age(self) -> None:
        """Drop the old generation and make the young one old."""
        self._old = self._young.copy()
        self._young.clear()

    def keep(self, node: Node) -> None:
        """Keep ``node``, which is in the block that its number says."""
        self._young[node.seq] = node
        self._cache.account(byte_size(node))


class NodeCache:
    """A bounded cache of decoded nodes, by core key and sequence number; one for a process.

    ``byte_budget`` is what it may hold, in bytes as they are estimated for CPython. ``hashing`` makes the digits.
    """

    def __init__(self, byte_budget: int = DEFAULT_BYTE_BUDGET, *, hashing: Hashing | None = None) -> None:
        self.hashing = hashing or Hashing()
        self._half_budget = max(byte_budget // 2, 1)
        self._young_bytes = 0
        self._old_bytes = 0
        self._tables: dict[bytes, NodeTable] = {}

    @property
    def byte_size(self) -> int:
        """How many bytes the nodes kept take, at most."""
        return self._young_bytes + self._old_bytes

    def table(self, core_key: bytes) -> NodeTable:
        """Return the part of the cache that belongs to one core."""
        table = self._tables.get(core_key)
        if table is None:
            table = self._tables[core_key] = NodeTable(self)
        return table

    def account(self, size: int) -> None:
        """Count ``size`` bytes as young, and drop the old generation when half the budget is reached."""
        self._young_bytes += size
        if self._young_bytes < self._half_budget:
            return
        self._old_bytes = self._young_bytes
        self._young_bytes = 0
        for table in self._tables.values():
            table.age()
