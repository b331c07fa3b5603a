"""What of a drive is to be here, as blocks of its cores: found by walking it, fetched in as few questions as can be.

The rule: what comes counts, however long it takes; only a wait in which nothing came gives up.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from hyperfs.core.reader import CoreReader, Priority
from hyperfs.drive.entry import Entry
from hyperfs.drive.fetching import MAX_BLOCKS_AT_ONCE
from hyperfs.drive.snapshot import Snapshot
from hyperfs.errors import BlockNotAvailable

_RANGES_AT_ONCE: Final = 1024


@dataclass(slots=True)
class Wanted:
    """The blocks of some files, in ranges that ascend and do not meet, by core; how many files, and their bytes."""

    blocks: dict[CoreReader, list[range]] = field(default_factory=dict)
    files: int = 0
    byte_count: int = 0

    @property
    def bytes_here(self) -> int:
        """How many of the bytes are here, about: blocks are taken to be of one size."""
        total = sum(len(run) for runs in self.blocks.values() for run in runs)
        here = sum(core.count(run.start, run.stop) for core, runs in self.blocks.items() for run in runs)
        return self.byte_count if here == total else self.byte_count * here // total


async def find_wanted(snapshot: Snapshot, paths: Iterable[str]) -> Wanted:
    """Return what all files at and below ``paths`` are made of, those in drives mounted there included.

    Raises `PathError`, and `BlockNotAvailable` when the index of the drive is not here and nobody has it.
    """
    found: dict[CoreReader, list[range]] = {}
    wanted = Wanted()
    seen: set[str] = set()
    for path in paths:
        async for entry in _files(snapshot, path):
            if entry.path in seen:
                continue
            seen.add(entry.path)
            file = await snapshot.open(entry)
            wanted.files += 1
            wanted.byte_count += file.size
            blocks = file.run.blocks[: min(file.size, MAX_BLOCKS_AT_ONCE)]
            if blocks:
                found.setdefault(file.core, []).append(blocks)
    wanted.blocks = {core: merged_runs(runs) for core, runs in found.items()}
    return wanted


async def bring(core: CoreReader, runs: Sequence[range]) -> str | None:
    """Have ``runs`` of blocks fetched, after all that anybody waits for; return why, when not all have come.

    Asks again as long as something comes. Cancelled, what has come stays.
    """
    why: str | None = None
    for start in range(0, len(runs), _RANGES_AT_ONCE):
        part = runs[start : start + _RANGES_AT_ONCE]
        while absent := [run for run in part if not core.has(run.start, run.stop)]:
            before = _count(core, absent)
            try:
                await core.fetch(absent, priority=Priority.BACKGROUND)
            except BlockNotAvailable as error:
                if _count(core, absent) == before:
                    why = str(error)
                    break
    return why


async def _files(snapshot: Snapshot, path: str) -> AsyncGenerator[Entry]:
    start = await snapshot.stat(path)
    if start.is_directory:
        async with aclosing(snapshot.walk(path)) as walked:
            async for entry in walked:
                if not entry.is_directory and entry.stat.is_file:
                    yield entry
    elif start.stat.is_file:
        yield start


def merged_runs(runs: list[range]) -> list[range]:
    """Return the runs of blocks in order, those as one that overlap or lie side by side."""
    merged: list[range] = []
    for run in sorted(runs, key=lambda run: run.start):
        if merged and run.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, run.stop))
        else:
            merged.append(run)
    return merged


def _count(core: CoreReader, runs: list[range]) -> int:
    return sum(core.count(run.start, run.stop) for run in runs)
