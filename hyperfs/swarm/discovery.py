"""Where routes to peers come from when nobody named any: the seam for a DHT, multicast DNS, or whatever comes.

The one rule: a discovery finds and announces; whether, when and how often somebody is dialled is the swarm's to decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.routes import Route


@dataclass(frozen=True, slots=True)
class Found:
    """A route to somebody who has a topic; ``address`` is where it leads, of which the host ``told_by`` told.

    ``told_by`` is None for what this process knew itself.
    """

    route: Route
    address: Address
    told_by: str | None


class LookTimer:
    """When a discovery looks, and announces, the next time: sooner than it would where somebody waits for what it may
    find, as ``somebody_waits`` says, or what it found and announced last counts no more.
    """

    def __init__(self, somebody_waits: Callable[[], bool]) -> None:
        self._somebody_waits = somebody_waits
        self._is_outdated = False
        self._began = trio.Event()

    def hurry(self) -> None:
        """Somebody has begun to wait."""
        self._began.set()
        self._began = trio.Event()

    def outdate(self) -> None:
        """What was found and announced, also by a look that is under way, counts no more."""
        self._is_outdated = True
        self.hurry()

    async def pause(self, seconds: float, *, least_seconds: float) -> None:
        """Return after ``seconds``, or as soon as a look is wanted, but not before ``least_seconds``."""
        with trio.move_on_after(seconds):
            await trio.sleep(min(seconds, least_seconds))
            if not (self._is_outdated or self._somebody_waits()):
                await self._began.wait()
        self._is_outdated = False


@dataclass(frozen=True, slots=True)
class Interest:
    """What is wanted for one topic: the 32-byte discovery key of a drive's metadata core.

    It is announced at the TCP ``port`` of this host, unless that is None; others are looked for if ``looks``, and told
    to ``found``, the same ones again as often as a discovery likes. ``looked`` is told, in words, how each look went
    once it is over, whoever was found; None says that nobody is asked at all.
    """

    topic: bytes
    port: int | None
    looks: bool
    found: Callable[[Found], None]
    looked: Callable[[str | None], None]
    timer: LookTimer


class Discovery(Protocol):
    """One way to find peers, and to be found."""

    @property
    def name(self) -> str:
        """How users know it."""
        ...

    async def follow(self, interest: Interest) -> None:
        """Look and announce, again and again, until cancelled; then take back what was announced.

        Never raises for anything that a network does.
        """
        ...
