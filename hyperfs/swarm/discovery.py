"""Where addresses of peers come from when nobody gave them: the seam for a DHT, multicast DNS, or a list in a file.

The one rule: a discovery only names addresses; whether, when and how often one is dialled is the swarm's to decide.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol


class Discovery(Protocol):
    """Finds peers for a topic, which is the discovery key of a drive's metadata core."""

    def find(self, topic: bytes) -> AsyncGenerator[tuple[str, int], None]:
        """Yield ``(host, port)`` of peers for ``topic`` as they are found, the same ones again as often as it likes."""
        ...
