"""A file that is being written: dirty extents over the run that it had.

The rules: nothing of the old run is copied; memory grows with the number of extents, never with the file. What was
frozen for a commit is not written to any more: later writes lie in extents above it, until the commit is done.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from hyperfs.mount.staging.segments import OWN_SEGMENT_BYTES, Segment, Segments


class Readable(Protocol):
    """What lies below the extents: an `OpenFile` of the drive, or a `Frozen`."""

    @property
    def size(self) -> int:
        """The size in bytes."""
        ...

    async def read(self, position: int, size: int) -> bytes:
        """Return ``size`` bytes from ``position``, fewer at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes ``start`` to ``end`` of a file, from ``place`` of a segment on."""

    start: int
    end: int
    segment: Segment
    place: int


class ExtentMap:
    """Extents that do not overlap, in order. Counts the references to segments."""

    __slots__ = ("_extents", "_starts", "dirty_bytes")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._extents: list[Extent] = []
        self.dirty_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._extents)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    def __len__(self) -> int:
        return len(self._extents)

    @property
    def first(self) -> int:
        """Where the first extent begins. There must be one."""
        return self._starts[0]

    def holding(self, start: int, end: int) -> Extent | None:
        """Return the extent that holds all of ``start`` to ``end``, or None."""
        index = bisect_right(self._starts, start) - 1
        if index >= 0 and self._extents[index].end >= end:
            return self._extents[index]
        return None

    def within(self, start: int, end: int) -> Iterator[Extent]:
        """Yield the extents that overlap ``start`` to ``end``, whole."""
        index = max(0, bisect_right(self._starts, start) - 1)
        while index < len(self._extents):
            extent = self._extents[index]
            if extent.start >= end:
                return
            if extent.end > start:
                yield extent
            index += 1

    def add(self, extent: Extent) -> None:
        """Lay an extent over those that are there."""
        extents, starts = self._extents, self._starts
        behind = extents and extent.start >= extents[-1].end
        index = len(extents) if behind else self._cut(extent.start, extent.end)
        self.dirty_bytes += extent.end - extent.start
        if index:
            before = extents[index - 1]
            if (
                before.end == extent.start
                and before.segment is extent.segment
                and before.place + before.end - before.start == extent.place
            ):
                extents[index - 1] = Extent(before.start, extent.end, before.segment, before.place)
                return
        extent.segment.references += 1
        extents.insert(index, extent)
        starts.insert(index, extent.start)

    def cut(self, size: int) -> None:
        """Drop everything from ``size`` on."""
        if self._extents and self._extents[-1].end > size:
            self._cut(size, self._extents[-1].end)

    def clear(self) -> None:
        """Drop everything."""
        for extent in self._extents:
            extent.segment.references -= 1
        self._extents.clear()
        self._starts.clear()
        self.dirty_bytes = 0

    def _cut(self, start: int, end: int) -> int:
        """Drop what overlaps ``start`` to ``end``; return the index at which an extent from ``start`` belongs."""
        extents, starts = self._extents, self._starts
        first = bisect_right(starts, start) - 1
        if first < 0 or extents[first].end <= start:
            first += 1
        last = first
        left: list[Extent] = []
        index = first
        while last < len(extents) and extents[last].start < end:
            cut = extents[last]
            if cut.start < start:
                left.append(Extent(cut.start, start, cut.segment, cut.place))
                index += 1
            if cut.end > end:
                left.append(Extent(end, cut.end, cut.segment, cut.place + end - cut.start))
            self.dirty_bytes -= min(cut.end, end) - max(cut.start, start)
            cut.segment.references -= 1
            last += 1
        if last > first:
            for extent in left:
                extent.segment.references += 1
            extents[first:last] = left
            starts[first:last] = [extent.start for extent in left]
        return index


class _Layer:
    """Extents over ``limit`` bytes of what is ``below``; zeros where there is neither, up to ``size``."""

    __slots__ = ("below", "extents", "limit", "size")

    def __init__(self, below: Readable | None, limit: int, size: int) -> None:
        self.below = below
        self.limit = limit
        self.size = size
        self.extents = ExtentMap()

    async def read(self, position: int, size: int) -> bytes:
        """Return ``size`` bytes from ``position``, fewer at the end. Raises what reading the drive does."""
        end = min(position + size, self.size)
        if position >= end:
            return b""
        whole = self.extents.holding(position, end)
        if whole is not None:
            return await whole.segment.read(whole.place + position - whole.start, end - position)
        if not self.extents and self.below is not None and end <= self.limit:
            return await self.below.read(position, end - position)
        # While the drive is waited for, the extents may be cut or committed: they are looked at once, and kept.
        extents = list(self.extents.within(position, end))
        for extent in extents:
            extent.segment.references += 1
        try:
            return await self._read_through(extents, position, end)
        finally:
            for extent in extents:
                extent.segment.references -= 1

    async def _read_through(self, extents: list[Extent], at: int, end: int) -> bytes:
        parts: list[bytes] = []
        for extent in extents:
            if extent.start > at:
                parts.append(await self._read_below(at, extent.start))
                at = extent.start
            stop = min(extent.end, end)
            parts.append(await extent.segment.read(extent.place + at - extent.start, stop - at))
            at = stop
        if at < end:
            parts.append(await self._read_below(at, end))
        return b"".join(parts)

    async def _read_below(self, start: int, end: int) -> bytes:
        stop = min(end, self.limit)
        data = b""
        if self.below is not None and start < stop:
            data = await self.below.read(start, stop - start)
        return data + bytes(end - start - len(data))


class Frozen(_Layer):
    """A file as it was when a commit began; nobody writes to it."""

    __slots__ = ()

    def only_adds(self) -> bool:
        """Tell whether it is all of what is below, and more behind it."""
        if self.below is None or self.limit != self.below.size or self.size < self.limit:
            return False
        return not self.extents or self.extents.first >= self.limit


class Content(_Layer):
    """The bytes of a file of the mount, as its readers see them now."""

    __slots__ = ("_is_dropped", "_segment", "low", "to_log")

    def __init__(self, below: Readable | None, size: int) -> None:
        super().__init__(below, size, size)
        self._is_dropped = False
        self._segment: Segment | None = None
        self.low = size
        """The smallest size since it was logged."""
        self.to_log: list[tuple[int, int]] | None = None
        """The ranges written since it was logged; None when nothing was changed."""

    @property
    def is_dirty(self) -> bool:
        """Whether a commit would have to append or shorten something."""
        return bool(self.extents) or self.size != self.limit or self.below is None or self.limit != self.below.size

    @property
    def frozen(self) -> Frozen | None:
        """What is being committed, if anything is."""
        return self.below if isinstance(self.below, Frozen) else None

    @property
    def uncommitted_bytes(self) -> int:
        """Return how much a commit may have to append."""
        frozen = self.frozen
        own = self.size if self.is_dirty and not self._is_dropped else 0
        return own + (frozen.size if frozen is not None else 0)

    def growth(self, end: int) -> int:
        """Return how much `uncommitted_bytes` becomes more by a write up to ``end``."""
        size = max(self.size, end)
        return size - self.size if self.is_dirty else size

    def growth_to(self, size: int) -> int:
        """Return how much `uncommitted_bytes` becomes more when it is given another size."""
        return max(0, size - (self.size if self.is_dirty else 0)) if size != self.size else 0

    async def put(self, position: int, data: bytes | memoryview, segments: Segments) -> Extent | None:
        """Write ``data``, to be read at ``position``; return the extent that `lay` needs for that, None for none.

        Without waiting for anything where the disk takes it at once. Raises OSError. Failed or cancelled, the file is
        as it was, but where ``data`` was to replace other staged bytes it may have done so in part.
        """
        end = position + len(data)
        there = self.extents.holding(position, end)
        if there is not None and not there.segment.is_closed_to_writes:
            place = there.place + position - there.start
            await segments.overwrite(there.segment, place, data)
            now = self.extents.holding(position, end)
            if now is not None and now.segment is there.segment and now.place + position - now.start == place:
                return None
            # A commit has what was overwritten, or it was cut off: it has to be somewhere else.
        segment = self._segment
        if segment is None:
            if self.extents.dirty_bytes + len(data) > OWN_SEGMENT_BYTES:
                segment = self._segment = segments.own()
            else:
                segment = segments.shared()
        return Extent(position, end, segment, await segments.append(segment, data))

    def lay(self, extent: Extent | None) -> None:
        """Have the file read what `put` wrote."""
        if extent is not None:
            self.extents.add(extent)
            self.size = max(self.size, extent.end)
            self._note(extent.start, extent.end)
        elif self.to_log is None:
            self.to_log = []

    def truncate(self, size: int) -> None:
        """Give it another size, which was written down; what is new reads as zeros."""
        if size < self.size:
            self.extents.cut(size)
            self.limit = min(self.limit, size)
        self.size = self.low = size

    def freeze(self) -> Frozen:
        """Return what it is now, for a commit; writes go above it from now on. It must not be frozen already."""
        frozen = Frozen(self.below, self.limit, self.size)
        frozen.extents, self.extents = self.extents, ExtentMap()
        self.below = frozen
        self.limit = self.size
        self._segment = None
        return frozen

    def thaw(self) -> None:
        """Take back `freeze`, after a commit that failed: one layer again."""
        frozen = self.frozen
        if frozen is None:
            return
        merged = frozen.extents
        merged.cut(self.limit)
        for extent in self.extents:
            merged.add(extent)
        self.extents.clear()
        self.extents = merged
        self.below = frozen.below
        self.limit = min(frozen.limit, self.limit)

    def settle(self, below: Readable | None) -> None:
        """The frozen bytes are in the drive now, where ``below`` reads them."""
        frozen = self.frozen
        self.below = below
        if frozen is not None:
            frozen.extents.clear()

    def rebase(self, below: Readable) -> None:
        """Somebody else gave the file other bytes; nothing of it is staged here."""
        self.below = below
        self.limit = self.size = self.low = below.size

    def drop(self) -> None:
        """Nobody reads it any more. What is frozen stays until its commit is over."""
        self.extents.clear()
        self._is_dropped = True

    def restore(self, below: Readable | None, size: int, limit: int, low: int, extents: list[Extent]) -> None:
        """Do again what a journal says was done; with None over what is below it already."""
        if below is not None:
            self.below = below
        else:
            limit = min(limit, self.limit)
        self.extents.cut(low)
        for extent in extents:
            self.extents.add(extent)
        self.size = size
        self.limit = limit
        self.low = size

    def revert(self, below: Readable | None) -> None:
        """Have it be what is ``below``, None for nothing."""
        self.below = below
        size = 0 if below is None else below.size
        self.restore(None, size, size, 0, [])
        self.limit = size

    def take_log(self, *, whole: bool = False) -> tuple[int, list[Extent]]:
        """Return the smallest size since the last call, and the extents written since (``whole``: all)."""
        low, self.low = self.low, self.size
        ranges, self.to_log = self.to_log or [], None
        if whole or len(ranges) >= len(self.extents):
            return (0 if whole else low), list(self.extents)
        found: dict[int, Extent] = {}
        for start, end in ranges:
            for extent in self.extents.within(start, end):
                found[extent.start] = extent
        return low, list(found.values())

    def log_all(self) -> None:
        """Have the next `take_log` return everything: what the last one did was not written down."""
        self.low, self.to_log = 0, [(0, self.size)]

    def _note(self, start: int, end: int) -> None:
        ranges = self.to_log
        if ranges is None:
            self.to_log = [(start, end)]
        elif ranges and ranges[-1][1] == start:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
