"""Peers that broke the rules and are not talked to for a while.

The table is bounded and every entry expires: when it is full, the entry that expires first goes.
"""

from __future__ import annotations

from typing import Final

import trio

BAN_SECONDS: Final = 600.0
MAX_BANS: Final = 1024


class Bans:
    """Names, of addresses, networks or keys there, of peers that misbehaved, with how long that counts."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, peer: str) -> None:
        """Ban a name for `BAN_SECONDS`."""
        self._until.pop(peer, None)
        while len(self._until) >= MAX_BANS:
            # entries last equally long, so the oldest one is the first
            del self._until[next(iter(self._until))]
        self._until[peer] = trio.current_time() + BAN_SECONDS

    def __contains__(self, peer: str | None) -> bool:
        until = None if peer is None else self._until.get(peer)
        if peer is None or until is None:
            return False
        if until <= trio.current_time():
            del self._until[peer]
            return False
        return True
