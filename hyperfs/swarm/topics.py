"""What is looked for and announced, and who of those that were found is dialled.

The rules: of one topic at most `TARGET` found routes are dialled at one time, and up to `MAX_WAITING` more wait for one
of these to be given up; one host has its share of both, since ports cost it nothing. Who dials us does not count: he
could keep us from dialling others. What was announced one way is taken back before it is announced another way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from hyperfs.swarm.dialler import Dialler
from hyperfs.swarm.discovery import Discovery, Found, Interest, LookTimer
from hyperfs.swarm.routes import Route

TARGET: Final = 24
"""Routes of one topic that are dialled, or connected, at one time: as many connections as the reference has in all."""
TARGET_OF_HOST: Final = 8
"""Of these, to one host."""
MAX_WAITING: Final = 256
MAX_WAITING_OF_HOST: Final = 32
FIRST_LOOK_SECONDS: Final = 8.0
"""After so long the first look counts as over, whoever has not answered: a request of the DHT has 7 s for that."""
ALONE_SECONDS: Final = (15.0, 300.0)
"""When all who were found are given up, others are looked for at once; then at least so much later, and so on, each
time after twice as long, up to so long."""
NO_ANSWER: Final = "nobody has answered yet"


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """How a topic is followed: whether others are looked for, at which port it is announced, if it is.

    ``found`` is how many found routes are dialled, or connected. ``looked`` says by the names of discoveries how the
    newest look of each went, or that the first one takes longer than it should; those that are off are left out.
    """

    looks: bool
    port: int | None
    found: int
    looked: dict[str, str]


class Topic:
    """One 32-byte topic, followed by ``discoveries`` while `run` runs; a `Holder` of what it has dialled.

    ``ended`` is set once what it announced is taken back, or could not be.
    """

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
        self.ended = trio.Event()
        self._discoveries = discoveries
        self._dialler = dialler
        self._may_dial = may_dial
        self._dialled: dict[Route, str] = {}
        """With the host that each leads to, here and below."""
        self._waiting: dict[Route, str] = {}
        self._timers = [LookTimer(somebody_waits) for _ in discoveries]
        self._looked: dict[str, str | None] = {}
        self._first_look = trio.Event()
        self._alone = trio.Event()
        """Set while all who were found are given up."""
        self._scope = trio.CancelScope()
        self._turn = trio.CancelScope()

    @property
    def stays(self) -> bool:
        """What was only found is given up after a few failures; see `Holder`."""
        return False

    @property
    def status(self) -> TopicStatus:
        """How it stands."""
        looked = {name: how for name, how in self._looked.items() if how is not None}
        if not self.is_first_look:
            silent = [one.name for one in self._discoveries if one.name not in self._looked]
            looked |= dict.fromkeys(silent, NO_ANSWER)
        return TopicStatus(self.looks, self.port, len(self._dialled), looked)

    @property
    def is_first_look(self) -> bool:
        """Whether it is not over yet that everybody is asked for the first time."""
        return not self._first_look.is_set()

    async def run(self, *, after: Topic | None = None) -> None:
        """Look and announce until `stop`, and take back then what was announced. Begins when ``after`` has ended."""
        try:
            if after is not None:
                await after.ended.wait()
            if self._scope.cancel_called:
                return
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._end_first_look)
                    nursery.start_soon(self._look_when_alone)
                    while True:
                        self._turn = trio.CancelScope()
                        with self._turn:
                            await self._follow()
        finally:
            self._first_look.set()
            self.ended.set()

    async def _follow(self) -> None:
        async with trio.open_nursery() as nursery:
            for discovery, timer in zip(self._discoveries, self._timers, strict=True):
                looked = partial(self._note_look, discovery.name)
                interest = Interest(self.topic, self.port, self.looks, self._found, looked, timer)
                nursery.start_soon(discovery.follow, interest)
            nursery.start_soon(trio.sleep_forever)

    def change(self, *, port: int | None, looks: bool) -> None:
        """Announce and look as said now; who was found stays."""
        self.port, self.looks = port, looks
        self._turn.cancel()

    def stop(self) -> None:
        """Look, announce, and dial no more. Connections that only this topic held end."""
        self._scope.cancel()
        self._waiting.clear()
        dialled, self._dialled = self._dialled, {}
        for route in dialled:
            self._dialler.release(route, self)

    def hurry(self) -> None:
        """Somebody waits for a peer: look again soon."""
        for timer in self._timers:
            timer.hurry()

    def outdate(self) -> None:
        """What was found and announced counts no more: look and announce again soon."""
        for timer in self._timers:
            timer.outdate()

    async def wait_looked(self) -> None:
        """Return once each discovery has looked for the first time, or has had `FIRST_LOOK_SECONDS` for that."""
        await self._first_look.wait()

    async def wait_tried(self) -> None:
        """Return once each route that the first look found was opened, or could not be."""
        await self.wait_looked()
        for route in list(self._dialled):
            await self._dialler.wait_tried(route)

    def given_up(self, route: Route) -> None:
        """See `Holder`: another one takes its place."""
        self._dialled.pop(route, None)
        following = next((other for other, host in self._waiting.items() if self._has_room(host)), None)
        if following is not None:
            self._dial(following, self._waiting.pop(following))
        elif not self._dialled:
            self._alone.set()

    async def _end_first_look(self) -> None:
        await trio.sleep(FIRST_LOOK_SECONDS)
        self._first_look.set()

    async def _look_when_alone(self) -> None:
        shortest, longest = ALONE_SECONDS
        pause, quiet_at = shortest, trio.current_time()
        while True:
            await self._alone.wait()
            if trio.current_time() >= quiet_at:
                pause = shortest
            self.outdate()
            await trio.sleep(pause)
            pause = min(2 * pause, longest)
            quiet_at = trio.current_time() + longest

    def _note_look(self, name: str, how: str | None) -> None:
        self._looked[name] = how
        if len(self._looked) == len(self._discoveries):
            self._first_look.set()

    def _found(self, found: Found) -> None:
        route = found.route
        if self._scope.cancel_called or route in self._dialled or route in self._waiting or not self._may_dial(found):
            return
        host = found.address.host
        if self._has_room(host):
            self._dial(route, host)
        elif len(self._waiting) < MAX_WAITING and _count(self._waiting, host) < MAX_WAITING_OF_HOST:
            self._waiting[route] = host

    def _has_room(self, host: str) -> bool:
        return len(self._dialled) < TARGET and _count(self._dialled, host) < TARGET_OF_HOST

    def _dial(self, route: Route, host: str) -> None:
        self._dialled[route] = host
        if self._alone.is_set():
            self._alone = trio.Event()
        self._dialler.hold(route, self)


def _count(routes: dict[Route, str], host: str) -> int:
    """Return how many lead to a host."""
    return sum(other == host for other in routes.values())
