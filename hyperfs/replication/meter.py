"""How much went over a connection, and how fast lately.

The rate is that of whole spells of a second, so that it neither flickers nor lingers.
"""

from __future__ import annotations

from typing import Final

_SPELL_SECONDS: Final = 1.0


class Meter:
    """Counts blocks and bytes; times are trio's clock in seconds."""

    __slots__ = ("_rate", "_since", "_spell_bytes", "blocks", "bytes")

    def __init__(self) -> None:
        self.blocks = 0
        self.bytes = 0
        self._spell_bytes = 0
        self._since = 0.0
        self._rate = 0.0

    def add(self, blocks: int, size_bytes: int, now: float) -> None:
        """Count ``blocks`` of ``size_bytes`` together."""
        self.blocks += blocks
        self.bytes += size_bytes
        self._turn(now)
        self._spell_bytes += size_bytes

    def rate(self, now: float) -> float:
        """Return bytes a second over the last whole spell; 0 when nothing came since."""
        self._turn(now)
        return self._rate

    def _turn(self, now: float) -> None:
        elapsed = now - self._since
        if elapsed >= _SPELL_SECONDS:
            self._rate = self._spell_bytes / elapsed if elapsed < 2 * _SPELL_SECONDS else 0.0
            self._spell_bytes = 0
            self._since = now
