"""How much of others' content is kept here: a limit in bytes for the whole store.

The rule: only copies of others' content go, never metadata and nothing that is ours or of a pinned drive, and last what
came last. What arrived within `FRESH_SECONDS` stays even past the limit: somebody is about to read it.
"""

import logging
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import trio

from hyperfs.core.core import Core
from hyperfs.core.store import Store
from hyperfs.daemon.answers import CachedDrive
from hyperfs.daemon.registry import CoreRegistry
from hyperfs.drive.volume import content_key_in
from hyperfs.errors import HyperfsError, short
from hyperfs.slices import Slices, in_slices

_log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 10.0
CHECK_SECONDS: Final = 1.0
_LEFT: Final = 0.9
"""The share of the limit that clearing goes down to, so that it does not begin again at once."""
_SEGMENT_BLOCKS: Final = 64
_MAX_SEGMENTS: Final = 1 << 17


class Cache:
    """Owns the limit. Is a `CoreListener` of every core that the registry opens."""

    def __init__(
        self, store: Store, registry: CoreRegistry, pinned: Callable[[], Collection[bytes]] = frozenset
    ) -> None:
        """``pinned`` tells the keys of the drives that are kept whole."""
        self.limit: int | None = None
        self._store = store
        self._pinned = pinned
        self._last_arrival: dict[bytes, float] = {}
        self._arrived: OrderedDict[tuple[bytes, int], float] = OrderedDict()
        self._wake = trio.Event()
        self._tidying = trio.Lock()
        registry.watch(self)

    def set_limit(self, limit: int | None) -> None:
        """Keep at most ``limit`` bytes from now on; None: any amount."""
        self.limit = limit
        self._wake.set()

    async def run(self) -> None:
        """Clear whenever there is too much, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            try:
                settled = self.limit is None or await self.tidy(self.limit)
            except (HyperfsError, OSError) as error:
                _log.error("the cache could not be kept within its limit: %s", error)
                settled = True
            await trio.sleep(CHECK_SECONDS if settled else FRESH_SECONDS)
            if not settled:
                self._wake.set()

    async def drives(self) -> list[CachedDrive]:
        """Return for each drive of others that is here and not pinned its key, and the bytes that its content takes."""
        told = []
        pinned = self._pinned()
        for key in await trio.to_thread.run_sync(self._store.keys):
            with await self._store.lease(key) as core:
                content = await _content_of(core)
                is_others = not core.writable
            if content is not None and is_others and key not in pinned:
                told.append(CachedDrive(key.hex(), await trio.to_thread.run_sync(self._allocated, content)))
        return told

    async def tidy(self, limit: int) -> bool:
        """Clear until at most ``limit`` bytes are here; False when fresh content keeps more than that here.

        Cancelled, some of it is cleared.
        """
        async with self._tidying:
            return await self._tidy(limit)

    async def _tidy(self, limit: int) -> bool:
        sizes = await trio.to_thread.run_sync(self._sizes)
        used = sum(sizes.values())
        if used <= limit:
            return True
        copies = set()
        pinned = await self._pinned_contents()
        for key in sizes:
            with await self._store.lease(key) as core:
                if core.writable or key in pinned or await _content_of(core) is not None:
                    used -= sizes[key]
                else:
                    copies.add(key)
        if used <= limit:
            return True
        excess = used - math.floor(limit * _LEFT)
        now = trio.current_time()
        noted = list(self._arrived.items())
        fresh: dict[bytes, list[int]] = {}
        async for (key, segment), _ in in_slices(noted):
            fresh.setdefault(key, []).append(segment)
        for key in sorted(copies, key=lambda key: self._last_arrival.get(key, -math.inf)):
            if excess > 0:
                with await self._store.lease(key) as core:
                    excess -= await self._clear(core, excess, _between(fresh.get(key, []), core.length))
        slices = Slices()
        for (key, segment), arrived in noted:
            await slices.next()
            if excess <= 0 or now - arrived < FRESH_SECONDS:
                break
            if self._arrived.get((key, segment)) != arrived:
                continue  # something of it came again meanwhile, or so much else that it is not known any more
            del self._arrived[key, segment]
            if key in copies:
                blocks = range(segment * _SEGMENT_BLOCKS, (segment + 1) * _SEGMENT_BLOCKS)
                with await self._store.lease(key) as core:
                    excess -= await self._clear(core, excess, [blocks])
        return excess <= 0

    async def _clear(self, core: Core, excess: int, candidates: list[range]) -> int:
        """Clear blocks of ``candidates``, the first ones first, for ``excess`` bytes; return how many are free now."""
        if not core.length:
            return 0
        block_bytes = max(1, core.byte_length // core.length)
        enough = -(-excess // block_bytes)
        chosen = []
        count = 0
        slices = Slices()
        for here in (run for blocks in candidates for run in core.present(blocks.start, min(blocks.stop, core.length))):
            chosen.append(here[: enough - count])
            count += len(chosen[-1])
            if count >= enough:
                break
            await slices.next()
        if not chosen:
            return 0
        before = core.allocated()
        await core.clear_all(chosen)
        freed = before - core.allocated()
        _log.info("cleared %d blocks (%d bytes) of core %s from the cache", count, freed, short(core.key))
        return freed

    async def _pinned_contents(self) -> set[bytes]:
        """Return the keys of the content cores of pinned drives, as far as they are known."""
        found = set()
        for key in list(self._pinned()):
            with await self._store.lease(key) as core:
                content = await _content_of(core)
            if content is not None:
                found.add(content)
        return found

    def _sizes(self) -> dict[bytes, int]:
        """Return how many bytes each core's blocks take. Waits for the disk."""
        keys = self._store.keys()
        return {key: size for key in keys if (size := self._allocated(key))}

    def _allocated(self, key: bytes) -> int:
        try:
            return os.stat(Path(self._store.core_directory(key)) / "data").st_blocks * 512
        except FileNotFoundError:
            return 0

    # What cores tell

    def came(self, core: Core) -> None:
        """Hear what is stored in a core that is opened."""
        core.add_listener(self)
        self._wake.set()

    def changed(self, core: Core) -> None:
        """Nothing: whose it is is looked at when something is stored."""

    def went(self, core: Core) -> None:
        """Hear no more of a core that nobody uses."""
        core.remove_listener(self)

    def extended(self, core: Core, old_length: int, new_length: int) -> None:
        """Nothing: a head takes no space."""

    def stored(self, core: Core, start: int, end: int, origin: object) -> None:
        """Note what came, and when."""
        if core.writable or self.limit is None:
            return
        now = self._last_arrival[core.key] = trio.current_time()
        for segment in range(start // _SEGMENT_BLOCKS, (end - 1) // _SEGMENT_BLOCKS + 1):
            self._arrived[core.key, segment] = now
            self._arrived.move_to_end((core.key, segment))
        while len(self._arrived) > _MAX_SEGMENTS:
            self._arrived.popitem(last=False)
        self._wake.set()

    def cleared(self, core: Core, start: int, end: int) -> None:
        """Nothing: what is gone is looked for on the disk."""

    def durable(self, core: Core, length: int) -> None:
        """Nothing: that concerns peers."""


def _between(segments: list[int], length: int) -> list[range]:
    """Return the blocks of which it is not known when they came, before this daemon or long ago: in no segment."""
    ranges = []
    start = 0
    for segment in sorted(segments):
        ranges.append(range(start, segment * _SEGMENT_BLOCKS))
        start = (segment + 1) * _SEGMENT_BLOCKS
    ranges.append(range(start, max(start, length)))
    return ranges


async def _content_of(core: Core) -> bytes | None:
    """Return the content core's key that ``core`` names when it is a drive's metadata."""
    return content_key_in(await core.get(0)) if core.has(0, 1) else None
