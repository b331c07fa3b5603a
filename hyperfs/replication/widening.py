"""How many connections to one peer pay, measured while it is asked for all that it can bring.

One TCP connection brings, a round trip, what its buffers hold, and after each lost packet much less than that. So to a
peer that is far away more are opened, twice as many each time, as long as that made what comes a quarter faster; when
it did not they stay as they are. To a peer that is very far several are opened at once: what one brings there is
known. Those that are not needed any more are closed after a while.

Pure: it decides, others open and close. Times are trio's clock in seconds.
"""

from __future__ import annotations

from typing import Final

MAX_LINKS: Final = 8
"""Connections to one peer, the first one included."""
FAR_SECONDS: Final = 0.01
"""A round trip from which on there may be more than one."""
VERY_FAR_SECONDS: Final = 0.15
"""A round trip for which the buffers of one connection do not do: common ones hold 4 MiB."""
AT_ONCE: Final = 4
"""How many there are to a peer that is very far, as soon as there is anything to do for them."""
IDLE_SECONDS: Final = 15.0
"""Those that brought nothing for so long are closed."""
PAYS: Final = 1.25
"""How much faster twice as many have to be."""
_WORSE_TIMES: Final = 2
"""So much slower than when the last of them did not pay, and it is found out anew whether more do."""
_SPELL_TRIPS: Final = 8
_SPELL_SECONDS: Final = 0.25
"""For as long as the longer of the two it is measured what so many bring, after as long a time in which they begin."""


class Widening:
    """Decides for one peer, from what it brings on all connections together."""

    __slots__ = ("_began_at", "_bytes", "_full_at", "_is_settled", "_most", "_rate", "_settling", "wanted")

    def __init__(self) -> None:
        self._full_at = 0.0
        self._restart()

    def _restart(self) -> None:
        self.wanted = 1
        """How many connections there should be."""
        self._most = MAX_LINKS
        self._is_settled = False
        self._settling = True
        self._rate = 0.0
        self._bytes = 0
        self._began_at: float | None = None

    def note_full(self, now: float, *, round_trip: float) -> bool:
        """Note that much more would be asked for if the peer brought more; return whether more are wanted than before.

        ``round_trip`` is the shortest one known.
        """
        if now - self._full_at >= IDLE_SECONDS and self.wanted == 1:
            self._restart()
        self._full_at = now
        if round_trip < VERY_FAR_SECONDS or self.wanted >= min(AT_ONCE, self._most):
            return False
        return self._widen(AT_ONCE, now)

    def brought(self, size_bytes: int, now: float, *, round_trip: float) -> bool:
        """Note that ``size_bytes`` came; return whether more connections are wanted than before."""
        if round_trip < FAR_SECONDS:
            return False
        self._bytes += size_bytes
        spell = max(_SPELL_SECONDS, _SPELL_TRIPS * round_trip)
        if self._began_at is None or now - self._full_at > spell:
            self._begin_spell(now)
            return False
        if now - self._began_at < spell:
            return False
        rate = self._bytes / (now - self._began_at)
        was_settling, self._settling = self._settling, False
        self._begin_spell(now)
        if was_settling:
            return False
        if self._is_settled or rate < PAYS * self._rate:
            # much less is another line: packets are lost by now, or others share it
            self._is_settled = rate * (_WORSE_TIMES if self._is_settled else PAYS) > self._rate
            if self._is_settled:
                return False
        self._rate = rate
        return self._widen(2 * self.wanted, now)

    def _widen(self, wanted: int, now: float) -> bool:
        before, self.wanted = self.wanted, max(self.wanted, min(self._most, wanted))
        self._settling = True
        self._begin_spell(now)
        return self.wanted > before

    def _begin_spell(self, now: float) -> None:
        self._began_at = now
        self._bytes = 0

    def settle(self, links: int) -> None:
        """Have no more than there are: the peer, or the way there, takes no more."""
        self.wanted = self._most = max(1, links)

    def is_idle(self, now: float) -> bool:
        """Tell whether it is long ago that more than one was of use; if so, begin anew with one."""
        if now - self._full_at < IDLE_SECONDS:
            return False
        self._restart()
        return True
