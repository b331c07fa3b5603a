"""The drives that are offered to peers, with everything that is mounted inside them.

The rule: serving fetches nothing for its own sake except what tells which cores belong to a drive; peers get what is
here.
"""

import logging
from contextlib import aclosing
from dataclasses import dataclass, field

import trio

from hyperfs.core.core import Core
from hyperfs.daemon.registry import CoreRegistry, User
from hyperfs.drive.drive import Drive
from hyperfs.errors import HyperfsError, short

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Offer:
    """One served drive: whose cores these are, and the task that keeps up with it."""

    user: User
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    seen: set[bytes] = field(default_factory=set)


class Serving:
    """Owns what is offered. Its tasks run in ``nursery``."""

    def __init__(self, registry: CoreRegistry, nursery: trio.Nursery) -> None:
        self._registry = registry
        self._nursery = nursery
        self._offers: dict[bytes, _Offer] = {}

    async def add(self, key: bytes) -> None:
        """Offer the drive of ``key`` from now on. Raises what opening its core raises."""
        if key in self._offers:
            return
        offer = _Offer(User(offers=True))
        self._offers[key] = offer
        try:
            await self._registry.open(key, offer.user)
        except BaseException:  # who is cancelled while it opens offers nothing
            self.remove(key)
            raise
        self._nursery.start_soon(self._keep_up, offer, key)

    def remove(self, key: bytes) -> None:
        """Offer the drive of ``key`` no more."""
        offer = self._offers.pop(key)
        offer.scope.cancel()
        self._registry.release(offer.user)

    async def _keep_up(self, offer: _Offer, key: bytes) -> None:
        with offer.scope:
            async with trio.open_nursery() as nursery:
                offer.seen.add(key)
                await self._follow(offer, key, nursery)

    async def _follow(self, offer: _Offer, key: bytes, nursery: trio.Nursery) -> None:
        """Offer a drive's content, and the drives mounted in it, now and as new ones are mounted."""
        cores = _Cores(self._registry, offer.user)
        length = 0
        while True:
            try:
                core = await cores.open_core(key)
            except (HyperfsError, OSError) as error:
                _log.error("cannot serve %s: %s", short(key), error)
                return
            try:
                drive = await Drive.open(cores, key)
                async with aclosing(drive.watch()) as snapshots:
                    async for snapshot in snapshots:
                        await drive.content()
                        length = core.length
                        for target in (await snapshot.mounts()).targets.values():
                            if target.key in offer.seen:
                                continue
                            offer.seen.add(target.key)
                            if target.is_core:
                                await cores.open_core(target.key)
                            else:
                                nursery.start_soon(self._follow, offer, target.key, nursery)
            except (HyperfsError, OSError) as error:
                _log.info("serving %s as far as it is here: %s", short(key), error)
            await core.wait_longer(max(length, core.length))


@dataclass(frozen=True, slots=True)
class _Cores:
    """Opens cores for the sake of one offer: a `CoreProvider`."""

    registry: CoreRegistry
    user: User

    async def open_core(self, key: bytes) -> Core:
        """Return the core of ``key``."""
        return await self.registry.open(key, self.user)
