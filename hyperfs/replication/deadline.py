"""How long a peer's answer is waited for.

Twenty seconds, and for what has come since, of one largest frame at most, as long as a slow line takes for it. So a
large block arrives over a slow line, while who sends a byte now and then, or anything but the answer, is not waited
for without end. A standstill of our own counts for nobody's lateness.
"""

from __future__ import annotations

from typing import Final

from hyperfs.protocol.frames import MAX_FRAME_BYTES

DEAD_SECONDS: Final = 20.0
SLOW_BYTES: Final = 16 << 10
"""What a line that is still worth waiting for brings in a second."""


class AnswerDeadline:
    """The deadline of the answers of one peer. Times are trio's clock in seconds."""

    __slots__ = ("_excused_seconds", "_heard_bytes", "_since")

    def __init__(self) -> None:
        self._since = 0.0
        self._excused_seconds = 0.0
        self._heard_bytes = 0

    def has_passed(self, since: float, now: float, heard_bytes: int) -> bool:
        """Tell whether an answer that is waited for ``since`` is late.

        ``heard_bytes`` is all that came over the connection until ``now``; what counts is how much it grew since this
        was first asked about the same wait, so ask often.
        """
        if since != self._since:
            self._since, self._heard_bytes, self._excused_seconds = since, heard_bytes, 0.0
        came_bytes = min(heard_bytes - self._heard_bytes, MAX_FRAME_BYTES)
        return now - since - self._excused_seconds >= DEAD_SECONDS + came_bytes / SLOW_BYTES

    def excuse(self, seconds: float) -> None:
        """Wait so much longer for the answer that is waited for, since it is not the peer that was late."""
        self._excused_seconds += seconds
