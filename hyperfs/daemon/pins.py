"""The drives that are kept here whole: everything that peers have of them, of all versions, now and as they grow.

The rule: what is fetched so comes after all that anybody waits for, and goes on wanted for as long as the drive is
pinned, whether a peer is there or not; on a disk that is full it waits until there is room. Nothing is fetched of a
drive of ours: what is not here of that was pruned.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

import trio

from hyperfs.core.core import Core
from hyperfs.core.reader import Priority
from hyperfs.core.reserve import Reserve
from hyperfs.daemon.registry import CoreRegistry, User
from hyperfs.errors import HyperfsError, short
from hyperfs.replication import Replicator

_log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 5.0
"""How long after a failure something is asked for again, and how often it is looked whether a full disk has room."""
NO_ROOM: Final = "there is no room on the disk for more of it"
LOOK_AGAIN_SECONDS: Final = 60.0
"""How often it is looked whether something is missing again, that was damaged, and whether peers have more."""

MAX_ASKED: Final = 8
"""In how many pieces a core is asked for, as it grows while some of it is nowhere to be had."""


@dataclass(slots=True, eq=False)
class _Pin:
    user: User = field(default_factory=User)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    problem: str | None = None
    """Why what is missing does not come, in words; None while it comes, or nobody is there to send it."""


class Pins:
    """Owns what keeps the pinned drives here, in tasks of ``nursery``. ``reserve`` is of the store they are kept in."""

    def __init__(self, registry: CoreRegistry, replicator: Replicator, reserve: Reserve, nursery: trio.Nursery) -> None:
        self._registry = registry
        self._replicator = replicator
        self._reserve = reserve
        self._nursery = nursery
        self._pins: dict[bytes, _Pin] = {}

    def drives(self) -> Collection[bytes]:
        """Return the keys of the pinned drives."""
        return self._pins.keys()

    def problem(self, key: bytes) -> str | None:
        """Return why what is missing of a pinned drive does not come, in words, as far as that is known."""
        pin = self._pins.get(key)
        return None if pin is None else pin.problem

    def user_of(self, key: bytes) -> User | None:
        """Return who keeps a drive here, None for one that is not pinned."""
        pin = self._pins.get(key)
        return None if pin is None else pin.user

    def follow(self, keys: Iterable[bytes]) -> None:
        """Keep these drives from now on, and no others."""
        wanted = set(keys)
        for key in self._pins.keys() - wanted:
            pin = self._pins.pop(key)
            pin.scope.cancel()
            self._registry.release(pin.user)
        for key in wanted - self._pins.keys():
            pin = self._pins[key] = _Pin()
            self._nursery.start_soon(self._keep, key, pin)

    async def _keep(self, key: bytes, pin: _Pin) -> None:
        with pin.scope:
            while True:
                try:
                    metadata = await self._registry.open(key, pin.user)
                    if metadata.writable:
                        return
                    await metadata.wait_longer(0)
                    if not metadata.has(0, 1):
                        await self._fetch(pin, metadata, range(1))
                    content_key = await self._registry.find_content_key(metadata)
                    if content_key is None:
                        pin.problem = "it is no drive"
                        _log.error("%s is pinned, and is no drive", short(key))
                        return
                    content = await self._registry.open(content_key, pin.user, is_content=True)
                    break
                except (HyperfsError, OSError) as error:
                    pin.problem = str(error)
                    _log.error("drive %s cannot be kept here just now: %s", short(key), error)
                    await trio.sleep(AGAIN_SECONDS)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_core, pin, metadata)
                nursery.start_soon(self._keep_core, pin, content)
                nursery.start_soon(self._learn_of_content, metadata, content)

    async def _keep_core(self, pin: _Pin, core: Core) -> None:
        """Have what is missing of ``core`` fetched, as it grows, and goes."""
        asked: set[trio.CancelScope] = set()
        covered = 0
        async with trio.open_nursery() as nursery:
            while True:
                length = core.length
                if not asked or len(asked) >= MAX_ASKED:
                    for scope in asked:
                        scope.cancel()
                    covered = 0
                if covered < length and not core.has(covered, length):
                    asked.add(scope := trio.CancelScope())
                    nursery.start_soon(self._fetch_within, scope, asked, pin, core, range(covered, length))
                covered = length
                with trio.move_on_after(LOOK_AGAIN_SECONDS):
                    await core.wait_longer(length)

    async def _fetch_within(
        self, scope: trio.CancelScope, asked: set[trio.CancelScope], pin: _Pin, core: Core, blocks: range
    ) -> None:
        try:
            with scope:
                await self._fetch(pin, core, blocks)
        finally:
            asked.discard(scope)

    async def _fetch(self, pin: _Pin, core: Core, blocks: range) -> None:
        """Return once ``blocks`` of ``core`` are here; wait for room, and for peers, when there is none."""
        while not core.has(blocks.start, blocks.stop):
            try:
                if await self._reserve.has_room():
                    pin.problem = None
                    await core.fetch([blocks], priority=Priority.BACKGROUND)
                    continue
                pin.problem = NO_ROOM
            except (HyperfsError, OSError) as error:
                pin.problem = str(error)
                _log.info("core %s: not all of it can be fetched just now: %s", short(core.key), error)
            await trio.sleep(AGAIN_SECONDS)
            await self._wait_peer(core)

    async def _learn_of_content(self, metadata: Core, content: Core) -> None:
        """Ask how long the content is whenever there is a new version: only that names it."""
        while True:
            length = metadata.length
            await self._wait_peer(content)
            with trio.move_on_after(LOOK_AGAIN_SECONDS):
                await content.update()
            with trio.move_on_after(LOOK_AGAIN_SECONDS):
                await metadata.wait_longer(length)

    async def _wait_peer(self, core: Core) -> None:
        exchange = self._replicator.exchange_of(core.discovery_key)
        if exchange is not None:
            await exchange.wait_peer()
