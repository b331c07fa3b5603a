"""What is looked for and announced, and who of those that were found is dialled.

The rule: of one topic at most `TARGET` found routes are dialled at one time, and as many more as `MAX_WAITING` wait for
one of these to be given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from hyperfs.swarm.dialler import Dialler
from hyperfs.swarm.discovery import Discovery, Found, Impatience, Interest
from hyperfs.swarm.routes import Route

TARGET: Final = 24
"""Routes of one topic that are dialled, or connected, at one time: as many connections as the reference has in all."""
MAX_WAITING: Final = 256


class Topic:
    """One 32-byte topic, followed by ``discoveries`` while `run` runs; a `Holder` of what it has dialled."""

    def __init__(
        self,
        topic: bytes,
        discoveries: Sequence[Discovery],
        dialler: Dialler,
        *,
        port: int | None,
        looks: bool,
        may_dial: Callable[[Found], bool],
        somebody_waits: Callable[[], bool],
    ) -> None:
        self.topic = topic
        self.port = port
        self.looks = looks
        self._discoveries = discoveries
        self._dialler = dialler
        self._may_dial = may_dial
        self._dialled: set[Route] = set()
        self._waiting: dict[Route, None] = {}
        self._impatience = Impatience(somebody_waits)
        self._scope = trio.CancelScope()

    @property
    def stays(self) -> bool:
        """What was only found is given up after a few failures; see `Holder`."""
        return False

    async def run(self) -> None:
        """Look and announce until `stop`, and take back then what was announced."""
        interest = Interest(self.topic, self.port, self.looks, self._found, self._impatience)
        with self._scope:
            async with trio.open_nursery() as nursery:
                for discovery in self._discoveries:
                    nursery.start_soon(discovery.follow, interest)

    def stop(self) -> None:
        """Look, announce, and dial no more. Connections that only this topic held end."""
        self._scope.cancel()
        self._waiting.clear()
        dialled, self._dialled = self._dialled, set()
        for route in dialled:
            self._dialler.release(route, self)

    def hurry(self) -> None:
        """Somebody waits for a peer: look again soon."""
        self._impatience.hurry()

    def given_up(self, route: Route) -> None:
        """See `Holder`: another one takes its place."""
        self._dialled.discard(route)
        if self._waiting and len(self._dialled) < TARGET:
            following = next(iter(self._waiting))
            del self._waiting[following]
            self._dial(following)

    def _found(self, found: Found) -> None:
        route = found.route
        if self._scope.cancel_called or route in self._dialled or route in self._waiting or not self._may_dial(found):
            return
        if len(self._dialled) < TARGET:
            self._dial(route)
        elif len(self._waiting) < MAX_WAITING:
            self._waiting[route] = None

    def _dial(self, route: Route) -> None:
        self._dialled.add(route)
        self._dialler.hold(route, self)
