"""Reading a core: one implementation for its owner and for those who only look at its files.

The rule: bits are checked, bytes are read, then generation and bits are checked again; what changed meanwhile is asked
of the source instead. So a reader never returns the zeros of a block that was cleared under it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVarTuple

import trio

from hyperfs import flat_tree
from hyperfs.core.nonblocking import NonblockingFile, WouldWait, run_with_reads
from hyperfs.core.offsets import BlockBits, Offsets
from hyperfs.core.proofs import MAX_LENGTH
from hyperfs.core.reader import Hint, Priority, Run, Source
from hyperfs.core.sleep import TreeFile
from hyperfs.errors import BlockNotAvailable, Closed, DamagedStore, InvalidRun, short

_MAX_RUNS = 4096
_MAX_READ_BYTES = 1 << 20
_MAX_ROUNDS = 64
_Arguments = TypeVarTuple("_Arguments")


class LocalReader:
    """Implements `CoreReader` over a tree file, a data file and the bits that say what is in them."""

    def __init__(
        self,
        *,
        key: bytes,
        discovery_key: bytes,
        writable: bool,
        length: int,
        byte_length: int,
        tree: TreeFile,
        data: NonblockingFile,
        bits: BlockBits,
        source: Source | None,
    ) -> None:
        self.key = key
        self.discovery_key = discovery_key
        self.writable = writable
        self.length = length
        self.byte_length = byte_length
        self.source = source
        self._tree = tree
        self._data = data
        self._bits = bits
        self._offsets = Offsets(tree, bits, self._trusts)
        self._longer = trio.Event()
        self._awaiting = 0
        self._whole_runs: dict[Run, int] = {}
        self._closed = False
        self._waits: set[trio.CancelScope] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {short(self.key)} length={self.length}>"

    @property
    def closed(self) -> bool:
        """Whether this was closed: nothing can be read any more."""
        return self._closed

    def has(self, start: int, end: int) -> bool:
        """See `CoreReader.has`."""
        return self._bits.has(start, end)

    def count(self, start: int, end: int) -> int:
        """See `CoreReader.count`."""
        return self._bits.count(start, end)

    def get_local(self, index: int) -> bytes | None:
        """See `CoreReader.get_local`."""
        try:
            return self._get_now(index)
        except WouldWait:
            return None

    async def get(self, index: int, *, priority: Priority = Priority.URGENT, hint: Hint | None = None) -> bytes:
        """See `CoreReader.get`."""
        if index < 0:
            raise BlockNotAvailable(f"core {short(self.key)} has no block {index}")
        for _ in range(_MAX_ROUNDS):
            block = await self.get_here(index)
            if block is not None:
                return block
            await self._ask([range(index, index + 1)], priority, hint)
        raise BlockNotAvailable(f"block {index} of core {short(self.key)} goes away as fast as it comes")

    async def get_here(self, index: int) -> bytes | None:
        """Return block ``index``, or None when it is not here: at most the disk is waited for."""
        for _ in range(_MAX_ROUNDS):
            generation = self._bits.generation
            if not self._bits.get(index):
                return None
            try:
                block = self._get_now(index)
            except WouldWait:
                block = await run_with_reads(self._get_now, index)
            # What was read in a thread may have been read before the block went away, and came again.
            if block is not None and self._bits.generation == generation:
                return block
        raise BlockNotAvailable(f"block {index} of core {short(self.key)} goes away as fast as it comes")

    async def fetch(
        self, ranges: Sequence[range], *, priority: Priority = Priority.URGENT, hint: Hint | None = None
    ) -> None:
        """See `CoreReader.fetch`."""
        missing = [blocks for blocks in ranges if not self._bits.has(blocks.start, blocks.stop)]
        if missing:
            await self._ask(missing, priority, hint)

    def prefetch(self, ranges: Sequence[range], *, hint: Hint | None = None) -> None:
        """See `CoreReader.prefetch`."""
        missing = [blocks for blocks in ranges if not self._bits.has(blocks.start, blocks.stop)]
        if missing and self.source is not None and not (self.writable or self._closed):
            self.source.prefetch(self, missing, hint)

    async def update(self) -> None:
        """See `CoreReader.update`."""
        if self.source is not None:
            await self._until_closed(self.source.update, self)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for it to grow."""
        return self._awaiting > 0

    async def wait_longer(self, length: int) -> None:
        """See `CoreReader.wait_longer`."""
        self._awaiting += 1
        try:
            while self.length <= length:
                await self._until_closed(self._longer.wait)
        finally:
            self._awaiting -= 1

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        """See `CoreReader.read`."""
        size = min(size, run.size - position)
        if size <= 0 or position < 0:
            return b""
        start = run.byte_offset + position
        for _ in range(_MAX_ROUNDS):
            generation = self._bits.generation
            if self._whole_runs.get(run) == generation or await self._ready(run, start, size, priority):
                data = self._data.file.read_nowait(start, size) if size <= _MAX_READ_BYTES else None
                if data is None:
                    data = await trio.to_thread.run_sync(self._data.file.read, start, size)
                if self._bits.generation != generation:
                    continue
                if len(data) != size:
                    raise DamagedStore(f"{self._data.name} ends before byte {start + size}, which its tree has")
                return data
        raise BlockNotAvailable(f"blocks {run.blocks} of core {short(self.key)} go away as fast as they come")

    def read_now(self, run: Run, position: int, size: int) -> bytes | None:
        """See `CoreReader.read_now`. What is odd is left to `read`."""
        size = min(size, run.size - position)
        if size <= 0 or position < 0:
            return b""
        generation = self._bits.generation
        if self._whole_runs.get(run) != generation:
            try:
                if not self._is_whole(run):
                    return None
            except (WouldWait, InvalidRun, DamagedStore):
                return None
        data = self._data.file.read_nowait(run.byte_offset + position, size) if size <= _MAX_READ_BYTES else None
        return data if data is not None and len(data) == size and self._bits.generation == generation else None

    async def ahead(self, run: Run, position: int, size: int) -> None:
        """See `CoreReader.ahead`. Which blocks hold the bytes is estimated: nothing waits for it to be exact."""
        if position >= run.size or size <= 0 or self._whole_runs.get(run) == self._bits.generation:
            return
        blocks = len(run.blocks)
        first = run.blocks.start + position * blocks // run.size
        last = run.blocks.start + min(position + size, run.size) * blocks // run.size
        await self.fetch([range(first, min(last + 1, run.blocks.stop))], priority=Priority.AHEAD)

    def seek_local(self, byte_offset: int) -> tuple[int, int] | None:
        """Return (block index, offset in it) of ``byte_offset``, or None when the tree here does not tell.

        The end of the core is (length, 0) and its start (0, 0), even before an empty block, as in the reference.
        Raises `WouldWait` when the tree is not in memory: use it through `run_with_reads`.
        """
        if byte_offset == self.byte_length:
            return self.length, 0
        if byte_offset == 0:
            return 0, 0
        blocks, start = self._locate(byte_offset)
        return (blocks.start, byte_offset - start) if len(blocks) == 1 else None

    async def locate(self, byte_offset: int) -> range:
        """Return the blocks of which one holds ``byte_offset``, as few as the tree here tells; none past the end."""
        blocks, _start = await run_with_reads(self._locate, byte_offset)
        return blocks

    async def seek(self, byte_offset: int, *, priority: Priority = Priority.URGENT) -> tuple[int, int]:
        """Return (block index, offset in it) of ``byte_offset``, asking the source where the tree does not tell.

        Raises `BlockNotAvailable`, and ValueError for an offset past the end.
        """
        if not 0 <= byte_offset <= self.byte_length:
            raise ValueError(f"byte {byte_offset} is not within the {self.byte_length} of core {short(self.key)}")
        for _ in range(_MAX_ROUNDS):
            found = await run_with_reads(self.seek_local, byte_offset)
            if found is not None:
                return found
            blocks = await self.locate(byte_offset)
            if self.source is None:
                break
            await self._until_closed(self.source.seek, self, byte_offset, blocks, priority)
        raise BlockNotAvailable(f"core {short(self.key)}: nobody tells which block holds byte {byte_offset}")

    def _extend(self, length: int, byte_length: int) -> None:
        """Switch to a newer head, and wake who waits for one."""
        self.length, self.byte_length = length, byte_length
        woken, self._longer = self._longer, trio.Event()
        woken.set()

    def _get_now(self, index: int) -> bytes | None:
        """Return a block, or None when it is not here, or may have gone meanwhile. Raises `WouldWait`."""
        generation = self._bits.generation
        if not self._bits.get(index):
            return None
        start, size = self._offsets.of(index)
        data = self._data.read(start, size) if size else b""
        if self._bits.generation != generation:
            return None
        if len(data) != size:
            raise DamagedStore(f"{self._data.name} ends before byte {start + size}, the end of block {index}")
        return data

    async def _ask(self, ranges: Sequence[range], priority: Priority, hint: Hint | None) -> None:
        if self.source is None:
            first = ranges[0].start
            if self.writable and first < self.length:
                raise BlockNotAvailable(
                    f"block {first} of core {short(self.key)} was pruned from this store, where it was made"
                )
            raise BlockNotAvailable(f"block {first} of core {short(self.key)} is not here, and there is nobody to ask")
        await self._until_closed(self.source.fetch, self, ranges, priority, hint)

    async def _until_closed(self, wait: Callable[[*_Arguments], Awaitable[None]], *arguments: *_Arguments) -> None:
        """Wait for what others do; raise `Closed` as soon as this is closed, which nobody can tell them."""
        if not self._closed:
            with trio.CancelScope() as scope:
                self._waits.add(scope)
                try:
                    return await wait(*arguments)
                finally:
                    self._waits.discard(scope)
        raise Closed(f"core {short(self.key)} is closed")

    def _end_waits(self) -> None:
        """Have everybody who waits for something to come, now or later, raise `Closed`."""
        self._closed = True
        for scope in self._waits:
            scope.cancel()

    async def _ready(self, run: Run, start: int, size: int, priority: Priority) -> bool:
        """Bring the blocks that hold ``size`` bytes at ``start``; tell whether all are here, and in place."""
        blocks = run.blocks
        if blocks and self._bits.has(blocks.start, blocks.stop):
            return await run_with_reads(self._is_whole, run)
        first_block = await self._hold(run, start, range(blocks.start, blocks.stop), priority, start + size)
        if first_block is None:
            return False
        last_block = await self._hold(run, start + size - 1, range(first_block, blocks.stop), priority, start + size)
        if last_block is None:
            return False
        if not self._bits.has(first_block, last_block + 1):
            await self.fetch([range(first_block, last_block + 1)], priority=priority)
            return False
        return True

    def _is_whole(self, run: Run) -> bool:
        """Tell whether all of a run is here, and in place, and remember it. Raises `WouldWait`, `InvalidRun`."""
        blocks = run.blocks
        generation = self._bits.generation
        if not blocks or not self._bits.has(blocks.start, blocks.stop):
            return False
        first = self._offsets.of(blocks.start)
        last = self._offsets.of(blocks.stop - 1) if len(blocks) > 1 else first
        if self._bits.generation != generation:
            return False
        # A file that was cut off keeps its blocks, so the run may end before they do, but not behind them.
        if first[0] != run.byte_offset or sum(last) < run.byte_offset + run.size:
            raise InvalidRun(
                f"core {short(self.key)}: blocks {blocks.start} to {blocks.stop - 1} hold bytes {first[0]} to "
                f"{sum(last)}, where {run.byte_offset} to {run.byte_offset + run.size} are claimed"
            )
        if len(self._whole_runs) >= _MAX_RUNS:
            self._whole_runs.clear()
        self._whole_runs[run] = generation
        return True

    async def _hold(self, run: Run, byte_offset: int, blocks: range, priority: Priority, end: int) -> int | None:
        """Return the present block that holds ``byte_offset``; None after something was brought that may tell more."""
        if byte_offset >= self.byte_length:
            found, start = range(self.length, MAX_LENGTH), self.byte_length  # a head that we have not heard of yet
        else:
            found, start = await run_with_reads(self._locate, byte_offset)
        low, high = max(found.start, blocks.start), min(found.stop, blocks.stop)
        if low >= high:
            raise InvalidRun(
                f"core {short(self.key)}: byte {byte_offset} lies in blocks {found.start} to {found.stop - 1}, outside "
                f"of {run.blocks.start} to {run.blocks.stop - 1}, which are claimed to hold it"
            )
        if len(found) == 1:
            if not self._bits.get(low):
                await self.fetch([self._guess(run, low, low, end)], priority=priority)
                return None
            # The walk down may have met a node that a crash left half written; from the block up, all is verified.
            place, size = await run_with_reads(self._offsets.of, low)
            if not place <= byte_offset < place + size:
                raise DamagedStore(f"{self._tree.name}: its nodes do not agree on where block {low} lies")
            return low
        # The tree does not tell yet. Runs are mostly cut evenly, so guess before asking for the exact block.
        guess = run.blocks.start + (byte_offset - run.byte_offset) * len(run.blocks) // max(run.size, 1)
        guess = low if byte_offset == start else min(max(guess, low), high - 1)
        if not self._bits.get(guess):
            await self.fetch([self._guess(run, guess, low, end)], priority=priority)
            return None
        while low < high and self._bits.get(guess):
            # Blocks that are here tell where they lie, whatever the tree above them lacks.
            place, size = await run_with_reads(self._offsets.of, guess)
            if place <= byte_offset < place + size:
                return guess
            low, high = (low, guess) if byte_offset < place else (guess + 1, high)
            guess = (low + high) // 2
        if low >= high:
            raise InvalidRun(
                f"core {short(self.key)}: byte {byte_offset} lies in none of the blocks {run.blocks.start} to "
                f"{run.blocks.stop - 1}, which are claimed to hold it"
            )
        if self.source is None:
            await self._ask([range(low, high)], priority, None)
        else:
            await self._until_closed(self.source.seek, self, byte_offset, range(low, high), priority)
        return None

    def _guess(self, run: Run, block: int, low: int, end: int) -> range:
        """Return ``block`` and those after it that hold the bytes up to ``end``, if the run is cut evenly."""
        last = run.blocks.start + (end - 1 - run.byte_offset) * len(run.blocks) // max(run.size, 1)
        return range(max(block, low), max(block + 1, min(last + 1, run.blocks.stop)))

    def _locate(self, byte_offset: int) -> tuple[range, int]:
        """Return the smallest known subtree's blocks that hold ``byte_offset``, and where it begins.

        Raises `WouldWait`.
        """
        start = 0
        for root in flat_tree.full_roots(self.length):
            node = self._tree.node(root)
            if node is None:
                raise DamagedStore(f"{self._tree.name} lacks node {root}, a root at length {self.length}")
            if byte_offset < start + node.size:
                return self._locate_under(root, start, byte_offset)
            start += node.size
        return range(self.length, self.length), start

    def _locate_under(self, tree_index: int, start: int, byte_offset: int) -> tuple[range, int]:
        while tree_index & 1:
            left = flat_tree.left_child(tree_index)
            node = self._tree.node(left)
            if node is None or not self._trusts(left):
                break
            if byte_offset < start + node.size:
                tree_index = left
            else:
                start += node.size
                tree_index = flat_tree.sibling(left)
        return flat_tree.block_range(tree_index), start

    def _trusts(self, tree_index: int) -> bool:
        """Tell whether a node that the tree file has was verified, as far as can be told here."""
        return True
