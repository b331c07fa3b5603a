"""Which blocks of a trie to ask for ahead, given what was read of it.

A trie's nodes are small, and those that were written together lie together, while a far peer's answer takes as long for
one as for a thousand. So the neighbours of a missing node are asked for with it, and the newest nodes with the first
one, since the upper steps of every lookup lie there. Of a directory that is listed the newest node is known, and the
others mostly lie before it. Whoever lists a second directory walks, and everything is asked for. So does who looks up
path after path without listing anything, as a program with an index of its own: with each one that is missing, more.

The rule: what is asked for ahead has a bound, which grows only with what was really read. Pure: it plans, others ask.
"""

from collections.abc import Iterator

CHUNK_BLOCKS = 32
"""Blocks are asked for by so many, from a multiple of it on."""
SMALL_BYTES = 64 << 10
"""A trie that takes no more is asked for as a whole."""
NEWEST_BYTES = 16 << 10
"""What is asked for of the newest nodes, with the first one that is missing."""
LOOKUPS_BYTES = 128 << 10
"""What is asked for, in all, for who only looks paths up, and not many."""
FEW_LOOKUPS = 16
"""Missing nodes that looking one path up may come across."""
LOOKUP_BYTES = 64 << 10
"""What is asked for with each one that is missing beyond `FEW_LOOKUPS`."""
FIRST_LISTING_BYTES = 32 << 10
"""What is asked for when a directory is listed, and twice as much each time that it was not enough."""
LISTING_BYTES = 512 << 10
"""What is asked for, in all, for who has listed one directory."""
WALK_BYTES = 1 << 20
"""The same for who has listed more than one, and `WALK_FACTOR` times what he has listed besides."""
WALK_FACTOR = 32
MOST_BLOCKS = 64 << 10
"""What one plan names, at most."""


class Readahead:
    """The plan for one trie, in all its versions. A node's number is that of its block."""

    __slots__ = ("_asked", "_asked_bytes", "_length", "_listed", "_listings", "_missed", "_step")

    def __init__(self) -> None:
        self._asked: set[int] = set()
        self._asked_bytes = 0
        self._length = 0
        self._missed = 0
        self._listings = 0
        self._listed = 0
        self._step = FIRST_LISTING_BYTES

    def listing(self) -> None:
        """Note that a directory is being listed."""
        self._listings += 1

    def listed(self, count: int) -> None:
        """Note that ``count`` entries of one were found."""
        self._listed += count

    def plan(self, seq: int, length: int, byte_length: int) -> list[range]:
        """Return what to ask for ahead because node ``seq`` is missing, or is the newest of a directory to be listed.

        ``length`` (blocks) and ``byte_length`` are those of the newest head. No block is planned for twice.
        """
        if not 0 < seq < length:
            return []
        self._grow(length)
        self._missed += 1
        chunk_bytes = CHUNK_BLOCKS * max(1, byte_length // length)
        room = min(
            self._allowed(byte_length, chunk_bytes) - self._asked_bytes, MOST_BLOCKS // CHUNK_BLOCKS * chunk_bytes
        )
        if room <= 0 or len(self._asked) * CHUNK_BLOCKS >= length:
            return []
        chunks: list[int] = []
        for chunk in self._wished_for(seq, length, byte_length, chunk_bytes):
            if chunk not in self._asked:
                self._asked.add(chunk)
                chunks.append(chunk)
                room -= chunk_bytes
                if room <= 0:
                    break
        self._asked_bytes += len(chunks) * chunk_bytes
        return _ranges(sorted(chunks), length)

    def _grow(self, length: int) -> None:
        if length > self._length:
            self._asked.discard(self._length // CHUNK_BLOCKS)
            self._length = length

    def _allowed(self, byte_length: int, chunk_bytes: int) -> int:
        if byte_length <= SMALL_BYTES:
            return 2 * SMALL_BYTES
        if self._listings > 1:
            return WALK_BYTES + WALK_FACTOR * self._listed * chunk_bytes // CHUNK_BLOCKS
        if self._listings:
            step, self._step = self._step, 2 * self._step
            return min(self._asked_bytes + step, LISTING_BYTES)
        return LOOKUPS_BYTES + LOOKUP_BYTES * self._beyond_few

    @property
    def _beyond_few(self) -> int:
        return max(0, self._missed - FEW_LOOKUPS)

    def _wished_for(self, seq: int, length: int, byte_length: int, chunk_bytes: int) -> Iterator[int]:
        """Yield the chunks that are likely to be wanted, the likeliest first."""
        here, last = seq // CHUNK_BLOCKS, (length - 1) // CHUNK_BLOCKS
        yield here
        if self._listings or self._beyond_few or byte_length <= SMALL_BYTES:
            yield from range(here - 1, -1, -1)
            yield from range(last, here, -1)
        elif not self._asked_bytes:
            yield from range(last, max(-1, last - 1 - NEWEST_BYTES // chunk_bytes), -1)


def _ranges(chunks: list[int], length: int) -> list[range]:
    ranges: list[range] = []
    for chunk in chunks:
        start, stop = max(1, chunk * CHUNK_BLOCKS), min((chunk + 1) * CHUNK_BLOCKS, length)
        if ranges and ranges[-1].stop == start:
            start = ranges.pop().start
        ranges.append(range(start, stop))
    return ranges
