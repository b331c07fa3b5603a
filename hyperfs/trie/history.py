"""The nodes of a trie in the order in which they were written.

What is missing is fetched in runs that grow, as the history is really read.
"""

import trio

from hyperfs.core.reader import CoreReader
from hyperfs.errors import DamagedTrie
from hyperfs.trie.loader import ALLOWANCE, Loader
from hyperfs.trie.node import Entry, Node, decode_entry

_FIRST_RUN = 16
_LONGEST_RUN = 1024
_ENTRY_COST = 5
_BYTES_A_MICROSECOND_SHIFT = 7


async def entries_here(core: CoreReader, stop: int, *, byte_budget: int) -> list[Entry] | None:
    """Return what the blocks 1 to ``stop`` - 1 put, oldest first, and None if not all of them are here.

    None also when one is damaged, or they take more than ``byte_budget`` bytes.
    """
    if not core.has(1, stop):
        return None
    entries: list[Entry] = []
    allowance = ALLOWANCE
    for seq in range(1, stop):
        if allowance <= 0:
            await trio.lowlevel.checkpoint()
            allowance = ALLOWANCE
        block = core.get_local(seq)
        if block is None:
            block = await core.get(seq)  # which waits for the disk
        byte_budget -= len(block)
        if byte_budget < 0:
            return None
        try:
            entries.append(decode_entry(block, seq))
        except DamagedTrie:
            return None
        allowance -= _ENTRY_COST + (len(block) >> _BYTES_A_MICROSECOND_SHIFT)
    return entries


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
