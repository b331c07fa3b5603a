"""Ways that are kept open: a router forgets within minutes whom it lets in, and who is to pass hole punches on must be.

The rule: those who keep what we announced are sent a datagram each `KEEP_OPEN_SECONDS`, which nobody answers, while
something may be between us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Final

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.timers import Timer, Timers

KEEP_OPEN_SECONDS: Final = 25.0
"""Shorter than the 30 s after which the most impatient of home routers forget."""
MAX_KEPT: Final = 256
"""Addresses that are sent something, whatever is announced."""


class OpenWays:
    """Keeps the ways open from whom `keep` names. ``send`` sends an address something, if ``is_needed`` says so."""

    def __init__(self, timers: Timers, send: Callable[[Address], None], is_needed: Callable[[], bool]) -> None:
        self._timers = timers
        self._send = send
        self._is_needed = is_needed
        self._kept: dict[bytes, Sequence[Address]] = {}
        self._timer: Timer | None = None

    @property
    def addresses(self) -> list[Address]:
        """From whom ways are kept open, if that is needed."""
        newest_first = chain.from_iterable(reversed(self._kept.values()))
        return list(islice(dict.fromkeys(newest_first), MAX_KEPT))

    def keep(self, topic: bytes, addresses: Sequence[Address]) -> None:
        """Keep the ways open from those who keep what was announced of a topic: these, and no others any more."""
        self._kept.pop(topic, None)
        if addresses:
            self._kept[topic] = tuple(addresses)
        if self._kept and self._timer is None:
            self._timer = self._timers.after(KEEP_OPEN_SECONDS, self._open)

    def close(self) -> None:
        """Keep none open any more."""
        self._kept.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _open(self) -> None:
        self._timer = None
        if not self._kept:
            return
        if self._is_needed():
            for address in self.addresses:
                self._send(address)
        self._timer = self._timers.after(KEEP_OPEN_SECONDS, self._open)
