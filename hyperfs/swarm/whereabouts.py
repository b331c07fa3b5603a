"""Whether this machine has come to be elsewhere: on another network, at another public address, or awake from a sleep.

The rule: how it stands now is compared with how it stood, so that nothing is missed that an event would have told of.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.interfaces import Interface, interfaces

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
MOVED_SECONDS: Final = 10.0
"""After a move so much time passes before the next one counts, whoever says where he sees us."""
SLEPT_SECONDS: Final = 30.0
"""A sleep that was shorter has broken nothing."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """How a machine stands: the ``interfaces`` that have an IPv4 address, loopback aside; ``public``, where others see
    it, None when they do not agree; and for how many seconds in all it has slept since it was started.
    """

    interfaces: frozenset[Interface]
    public: Address | None
    slept_seconds: float

    def is_elsewhere(self, before: Whereabouts) -> bool:
        """Tell whether what was announced, or dialled, ``before`` may be of no use now. That a network went is none."""
        has_come = bool(self.interfaces - before.interfaces)
        is_seen_elsewhere = None not in (self.public, before.public) and self.public != before.public
        return has_come or is_seen_elsewhere or self.slept_seconds - before.slept_seconds >= SLEPT_SECONDS

    def since(self, before: Whereabouts) -> Whereabouts:
        """Return what the next ones are compared with: while others do not agree where they see us, it is there."""
        return self if self.public is not None else Whereabouts(self.interfaces, before.public, self.slept_seconds)


def whereabouts(public: Address | None) -> Whereabouts:
    """Return how this machine stands now, and where others see it."""
    near = frozenset(one for one in interfaces() if one.host is not None and not one.is_loopback)
    return Whereabouts(near, public, time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC))


async def tell_moves(look: Callable[[], Whereabouts], moved: Callable[[], None]) -> None:
    """Call ``moved`` when ``look`` says that this machine has come to be elsewhere, until cancelled.

    While ``look`` raises OSError, as where no file can be opened any more, the machine is taken to be where it was.
    """
    before: Whereabouts | None = None
    pause = LOOK_SECONDS
    while True:
        try:
            now = look()
        except OSError as error:
            logger.debug("where this machine is cannot be told: %s", error)
            await trio.sleep(LOOK_SECONDS)
            continue
        has_moved = before is not None and now.is_elsewhere(before)
        before, pause = now.since(before or now), MOVED_SECONDS if has_moved else LOOK_SECONDS
        if has_moved:
            moved()
        await trio.sleep(pause)
