"""What all connections together may have in memory: frames that are not whole, blocks not stored, output not sent.

Each is bounded for itself, but very many of them might all be at their bounds. So as what is held grows, each is given
less; and once it is `MAX_HELD_BYTES` all the same, connections end: of those that hold no less than the average the one
that has brought least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyperfs.replication.status import EndReason

if TYPE_CHECKING:
    from hyperfs.replication.link import Link

MAX_HELD_BYTES: Final = 192 << 20
_PART_OF_FREE: Final = 8
"""What one connection may take at one time for one purpose, as a part of what is free."""


class Memory:
    """Knows what each link holds, from the link itself; shared by the links of one process."""

    def __init__(self) -> None:
        self._held: dict[Link, int] = {}
        self.held_bytes = 0
        """What all hold."""

    def note(self, link: Link) -> None:
        """Take note of what ``link`` holds now, and end connections if that makes it too much."""
        held_bytes = link.held_bytes
        self.held_bytes += held_bytes - self._held.get(link, 0)
        self._held[link] = held_bytes
        while self.held_bytes > MAX_HELD_BYTES:
            average = self.held_bytes / len(self._held)
            least = min(
                (one for one, held in self._held.items() if held >= average),
                key=lambda one: (one.downloads.bytes, -self._held[one]),
            )
            least.end(EndReason.CLOSED, f"{self._held[least]} bytes were held for it, and too much for all")
            self.forget(least)

    def forget(self, link: Link) -> None:
        """Note that ``link`` holds nothing, or will not in a moment."""
        self.held_bytes -= self._held.pop(link, 0)

    def room(self, *, least: int, most: int) -> int:
        """Return how many bytes one connection should take at one time, between ``least`` and ``most``."""
        return max(least, min(most, (MAX_HELD_BYTES - self.held_bytes) // _PART_OF_FREE))
