"""Whoever wants to hear what happens to a core.

The rule: listeners are told inline, in the order in which things happen to the core.
"""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hyperfs.core.core import Core


class CoreListener(Protocol):
    """Whoever wants to hear what happens to a core. Called inline: must be quick, and must not raise."""

    def extended(self, core: "Core", old_length: int, new_length: int) -> None:
        """The verified head moved."""

    def stored(self, core: "Core", start: int, end: int, origin: object) -> None:
        """Blocks [start, end) are here now; ``origin`` is what `Core.store` was given, None for our own."""

    def cleared(self, core: "Core", start: int, end: int) -> None:
        """Blocks [start, end) are no longer here."""

    def durable(self, core: "Core", length: int) -> None:
        """What we appended up to ``length`` is on disk and may be announced."""
