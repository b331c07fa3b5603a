"""Whom this process dials, and for whose sake.

The rules: a route is dialled by one task of its own for as long as somebody holds it, whoever that is and however many
they are; what leads to this very process is not dialled again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from hyperfs.replication.replicator import Replicator
from hyperfs.swarm.dialling import Dialling
from hyperfs.swarm.routes import Route

ATTEMPTS: Final = 4
"""Failures in a row after which a route is given up that nobody insists on."""
MAX_AT_ONCE: Final = 16
"""Connections that are being made at one time to those that nobody insists on."""
_MAX_OWN: Final = 256


class Holder(Protocol):
    """For whose sake a route is dialled."""

    @property
    def stays(self) -> bool:
        """Whether it is dialled however often that fails."""
        ...

    def given_up(self, route: Route) -> None:
        """A route that was held is dialled no more, and held no more."""
        ...


@dataclass(slots=True)
class _Held:
    dialling: Dialling
    holders: set[Holder] = field(default_factory=set)

    def adapt(self) -> None:
        """Let it be dialled as often as its holders want."""
        self.dialling.attempts = None if any(holder.stays for holder in self.holders) else ATTEMPTS


class Dialler:
    """Owns the diallings of ``replicator``'s process; their tasks run in ``nursery``."""

    def __init__(self, replicator: Replicator, nursery: trio.Nursery) -> None:
        self._replicator = replicator
        self._nursery = nursery
        self._held: dict[Route, _Held] = {}
        self._own: dict[Route, None] = {}
        self._limit = trio.CapacityLimiter(MAX_AT_ONCE)

    @property
    def diallings(self) -> list[Dialling]:
        """What is dialled now, connected or not."""
        return [held.dialling for held in self._held.values()]

    def hold(self, route: Route, holder: Holder) -> None:
        """Dial a route for the sake of ``holder``; at once, if it insists and it is dialled already."""
        if route in self._own and not holder.stays:
            self._nursery.start_soon(self._refuse, route, holder)
            return
        held = self._held.get(route)
        if held is None:
            held = self._held[route] = _Held(Dialling(self._replicator, route, limit=self._limit))
            self._nursery.start_soon(self._run, route, held)
        elif holder.stays:
            held.dialling.hurry()
        held.holders.add(holder)
        held.adapt()

    def release(self, route: Route, holder: Holder) -> None:
        """Dial a route no more for the sake of ``holder``; when nobody else holds it, its connection ends."""
        held = self._held.get(route)
        if held is None:
            return
        held.holders.discard(holder)
        if held.holders:
            held.adapt()
        else:
            del self._held[route]
            held.dialling.stop()

    def hurry(self) -> None:
        """Dial now whoever is not connected: the network is another one."""
        for held in self._held.values():
            held.dialling.skip_pause()

    def want(self) -> None:
        """Dial soon what somebody insists on: a reader waits."""
        for held in self._held.values():
            held.dialling.want()

    async def wait_tried(self, route: Route) -> None:
        """Return once a route was opened since it was (last) held, could not be, or is held no more."""
        held = self._held.get(route)
        if held is not None:
            await held.dialling.tried.wait()

    async def wait_named_tried(self) -> None:
        """Return once each route that somebody insists on was opened since it was (last) held, or could not be."""
        for held in list(self._held.values()):
            if any(holder.stays for holder in held.holders):
                await held.dialling.tried.wait()

    async def _refuse(self, route: Route, holder: Holder) -> None:
        holder.given_up(route)

    async def _run(self, route: Route, held: _Held) -> None:
        try:
            await held.dialling.run()
        finally:
            if held.dialling.is_own:
                self._own[route] = None
                while len(self._own) > _MAX_OWN:
                    del self._own[next(iter(self._own))]
            if self._held.get(route) is held:
                del self._held[route]
                for holder in held.holders:
                    holder.given_up(route)
