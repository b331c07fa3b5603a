"""Bringing many files' content here, of which some may be what nobody has.

The rule: one file that cannot be had holds up the others once, not each of them again.
"""

import math

import trio

from hyperfs.core.reader import CoreReader, Priority
from hyperfs.drive.snapshot import OpenFile
from hyperfs.errors import BlockNotAvailable, short

MAX_BLOCKS_AT_ONCE = 1 << 20
IN_VAIN_SECONDS = 3.0
"""How long to wait for what is missing after a wait that brought nothing, until something comes again."""


class Fetcher:
    """Brings the blocks of files, and knows whether asking is in vain at the moment."""

    def __init__(self) -> None:
        self.in_vain = False
        """Whether the last wait for missing blocks brought nothing."""
        self._updated: set[bytes] = set()

    async def length_of(self, file: OpenFile) -> int:
        """Return how many blocks the core of ``file`` has: peers are asked, once, when that is less than it names."""
        core = file.core
        if file.run.blocks.stop > core.length and core.key not in self._updated:
            self._updated.add(core.key)
            await core.update()
        return core.length

    async def bring(self, files: list[OpenFile]) -> BlockNotAvailable | None:
        """Bring all blocks of many files here, in one question for each core; return why, when not all have come.

        Asks again as long as something comes.
        """
        why_not: BlockNotAvailable | None = None
        for core in {file.core.key: file.core for file in files}.values():
            blocks = [blocks for file in files if file.core is core and (blocks := _blocks_of(file))]
            while absent := [run for run in blocks if not core.has(run.start, run.stop)]:
                before = _count(core, absent)
                try:
                    await self._fetch(core, absent)
                except BlockNotAvailable as error:
                    self.in_vain = _count(core, absent) == before
                    if self.in_vain:
                        why_not = error
                        break
                else:
                    self.in_vain = False
        return why_not

    async def _fetch(self, core: CoreReader, blocks: list[range]) -> None:
        with trio.move_on_after(IN_VAIN_SECONDS if self.in_vain else math.inf) as scope:
            await core.fetch(blocks, priority=Priority.URGENT)
        if scope.cancelled_caught:
            raise BlockNotAvailable(f"block {blocks[0].start} of core {short(core.key)}: no peer sends it")


def is_here(file: OpenFile) -> bool:
    """Tell whether all of a file that `Fetcher.bring` brings is here."""
    blocks = _blocks_of(file)
    return not blocks or file.core.has(blocks.start, blocks.stop)


def _blocks_of(file: OpenFile) -> range:
    """Return the blocks of a file that are fetched at once: what a drive claims of one is bounded by its size."""
    return file.run.blocks[: min(file.run.size, MAX_BLOCKS_AT_ONCE)]


def _count(core: CoreReader, blocks: list[range]) -> int:
    return sum(core.count(run.start, run.stop) for run in blocks)
