"""Which content a drive can do without when only some of its versions are kept.

The rule: what a kept version shows stays readable, and what no version ever named is left alone, because a writer may
be about to name it. Looking costs two bits for each block of content, whatever the number of files.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hyperfs.core import bits
from hyperfs.core.reader import CoreReader
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import Stat, stat_or_none
from hyperfs.errors import HyperfsError, UsageError, short
from hyperfs.trie import Node, Trie

MAX_BLOCKS = 1 << 33
TOLD_EVERY = 1024
"""After how many entries the one who waits hears how many were looked at."""
_WINDOW_BITS = 1 << 20
_UNITS = {"h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


@dataclass(frozen=True, slots=True)
class Keep:
    """What to keep besides the newest version: the newest ``count``, all since ``seconds`` ago, those with tags."""

    count: int = 1
    seconds: int | None = None
    tags: bool = False

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Keep":
        """Read ``10``, ``30d`` (or ``h``, ``w``, ``y``), ``tags``, in any number and order. Raises `UsageError`."""
        count, seconds, tags = 1, None, False
        for text in texts:
            age = re.fullmatch(r"([0-9]{1,6})([hdwy])", text)
            if text == "tags":
                tags = True
            elif age:
                seconds = max(seconds or 0, int(age[1]) * _UNITS[age[2]])
            elif re.fullmatch(r"[0-9]{1,15}", text) and int(text):
                count = max(count, int(text))
            else:
                raise UsageError(
                    f"{text!r} does not say what to keep: a number of versions (10), an age (30d, 12h, 8w, 1y), or tags"
                )
        return cls(count, seconds, tags)


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What a prune keeps and what it clears. ``files`` counts contents of files, each once, and is None for a copy of
    somebody else's drive, of which not every version need be here.
    """

    key: bytes
    version: int
    content_key: bytes
    kept: tuple[range, ...]
    cleared: tuple[range, ...]
    files: int | None
    blocks: int
    byte_count: int

    @property
    def lost_versions(self) -> int:
        """How many versions may lose something."""
        return self.version - sum(map(len, self.kept))


async def plan_prune(
    newest: Snapshot,
    keep: Keep,
    *,
    now: int,
    also: Iterable[int] = (),
    in_use: Iterable[range] = (),
    on_progress: Callable[[int], None] | None = None,
) -> PrunePlan:
    """Return what a drive at its ``newest`` version can do without. ``now`` is in milliseconds since 1970.

    ``also`` are further versions to keep, ``in_use`` further blocks of the content. ``on_progress`` hears now and then
    how many entries were looked at. Drives mounted inside are not. Raises `BlockNotAvailable` when metadata is missing
    here and no peer brings it.
    """
    content = await newest.volume.content()
    if content.length > MAX_BLOCKS:
        raise HyperfsError(f"core {short(content.key)} claims {content.length} blocks: too many to look at")
    kept = await _kept_versions(newest, keep, now, also)
    looked = _Looked(on_progress)
    wanted = _Marks(content.length, looked)
    await _mark_kept(newest.trie, kept, wanted)
    for run in in_use:
        bits.set_range(wanted.bitmap, run.start, min(run.stop, content.length))
    if newest.volume.metadata.writable:
        named = _Marks(content.length, looked)
        files, byte_count = await _name_lost(newest.trie, content, wanted, named)
        spare = named.bitmap
    else:
        files, byte_count = None, 0
        spare = bytearray(b"\xff") * len(wanted.bitmap)
        bits.clear_range(spare, content.length, 8 * len(spare))
    cleared = []
    blocks = 0
    for run in _runs_without(spare, wanted.bitmap):
        here = content.count(run.start, run.stop)
        if here:
            cleared.append(run)
            blocks += here
    if files is None and content.length:
        byte_count = content.byte_length * blocks // content.length
    return PrunePlan(newest.key, newest.version, content.key, tuple(kept), tuple(cleared), files, blocks, byte_count)


async def _kept_versions(newest: Snapshot, keep: Keep, now: int, also: Iterable[int]) -> list[range]:
    """Return the versions to keep as ranges, the newest first."""
    versions = set(also)
    if keep.tags:
        versions.update((await newest.tags()).values())
    oldest = max(1, newest.version - keep.count + 1)
    if keep.seconds is not None:
        oldest = min(oldest, await _version_at(newest.trie, now - 1000 * keep.seconds))
    ranges = [range(oldest, newest.version + 1)]
    for version in sorted((version for version in versions if 1 <= version < oldest), reverse=True):
        if ranges[-1].start == version + 1:
            ranges[-1] = range(version, ranges[-1].stop)
        else:
            ranges.append(range(version, version + 1))
    return ranges


async def _version_at(trie: Trie, time: int) -> int:
    """Return the newest version that is sure to be older than ``time``, or 1.

    Only what is put says when; what was moved or deleted does not. So a version counts as old only when it put
    something that was changed later than all that was put before, and yet before ``time``.
    """
    found = 1
    newest = -1
    async for node in trie.history():
        stat = _stat_of(node)
        if stat is not None and stat.ctime > newest:
            newest = stat.ctime
            if newest < time:
                found = node.seq + 1
    return found


async def _mark_kept(newest: Trie, kept: Sequence[range], wanted: "_Marks") -> None:
    """Mark the content of all files of the kept versions."""
    async for node in newest.iterate():
        wanted.mark(_file_of(node))
    current = newest
    for versions in kept:
        for version in dict.fromkeys((versions.stop - 1, versions.start)):
            older = newest.checkout(version)
            if version != current.version:
                async for change in current.diff(older):
                    wanted.mark(_file_of(change.older))
            current = older
        async for node in newest.history(versions.start, versions.stop - 1):
            wanted.mark(_file_of(node))


async def _name_lost(trie: Trie, content: CoreReader, wanted: "_Marks", named: "_Marks") -> tuple[int, int]:
    """Mark the content of all files that any version had; return how many lose how many bytes."""
    files = byte_count = 0
    async for node in trie.history():
        stat = _file_of(node)
        blocks = named.blocks_of(stat)
        if stat is None or not blocks or bits.all_set(named.bitmap, blocks.start, blocks.stop):
            continue
        bits.set_range(named.bitmap, blocks.start, blocks.stop)
        here = content.count(blocks.start, blocks.stop)
        if here and not bits.all_set(wanted.bitmap, blocks.start, blocks.stop):
            files += 1
            byte_count += stat.size * here // len(blocks)
    return files, byte_count


class _Looked:
    """Counts the entries that were looked at, and tells of it now and then."""

    def __init__(self, on_progress: Callable[[int], None] | None) -> None:
        self._on_progress = on_progress
        self._count = 0

    def one_more(self) -> None:
        """Count one."""
        self._count += 1
        if self._on_progress is not None and self._count % TOLD_EVERY == 0:
            self._on_progress(self._count)


class _Marks:
    """A bit for each block of a content core."""

    def __init__(self, length: int, looked: "_Looked") -> None:
        self.length = length
        self._looked = looked
        self.bitmap = bytearray((length + 7) // 8)

    def blocks_of(self, stat: Stat | None) -> range:
        """Return the blocks that a file says it has, as far as there are such: one more entry is looked at."""
        self._looked.one_more()
        if stat is None:
            return range(0)
        return range(min(stat.offset, self.length), min(stat.offset + stat.blocks, self.length))

    def mark(self, stat: Stat | None) -> None:
        """Mark the blocks of a file."""
        blocks = self.blocks_of(stat)
        bits.set_range(self.bitmap, blocks.start, blocks.stop)


def _runs_without(bitmap: bytearray, wanted: bytearray) -> Iterator[range]:
    """Yield the longest ranges of bits that are set in ``bitmap`` and not in ``wanted``."""
    start = -1
    window = _WINDOW_BITS // 8
    for offset in range(0, len(bitmap), window):
        low = np.frombuffer(bitmap, np.uint8, min(window, len(bitmap) - offset), offset)
        high = np.frombuffer(wanted, np.uint8, len(low), offset)
        spare = np.unpackbits(low & ~high).astype(np.int8)
        edges = np.flatnonzero(np.diff(spare, prepend=np.int8(start >= 0))) + 8 * offset
        for edge in edges.tolist():
            if start < 0:
                start = edge
            else:
                yield range(start, edge)
                start = -1
    if start >= 0:
        yield range(start, 8 * len(bitmap))


def _stat_of(node: Node | None) -> Stat | None:
    return None if node is None or node.hidden or not node.key else stat_or_none(node.value)


def _file_of(node: Node | None) -> Stat | None:
    stat = _stat_of(node)
    return stat if stat is not None and stat.has_content else None
