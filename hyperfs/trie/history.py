"""The nodes of a trie in the order in which they were written.

What is missing is fetched in runs that grow, as the history is really read.
"""

from hyperfs.trie.loader import Loader
from hyperfs.trie.node import Node

_FIRST_RUN = 16
_LONGEST_RUN = 1024


class HistoryIterator:
    """An async iterator over nodes by their sequence numbers; see `hyperfs.trie.trie.Trie.history`."""

    def __init__(self, loader: Loader, seqs: range, *, reverse: bool) -> None:
        self._loader = loader
        self._seqs = seqs[::-1] if reverse else seqs
        self._next = 0
        self._run = _FIRST_RUN

    def __aiter__(self) -> "HistoryIterator":
        return self

    async def __anext__(self) -> Node:
        if self._next >= len(self._seqs):
            raise StopAsyncIteration
        seq = self._seqs[self._next]
        if self._loader.allowance <= 0:
            await self._loader.rest()
        node = self._loader.find(seq)
        if node is None:
            self._loader.unpin()
            await self._loader.fetch(self._seqs[self._next : self._next + self._run])
            self._run = min(2 * self._run, _LONGEST_RUN)
            node = self._loader.node(seq)
        self._loader.allowance -= 1
        self._next += 1
        return node
