"""Log lines at a rate, since strangers can cause some of them as often as they like.

The rule: of each kind, which is a place in the code, the first lines are told, and then one now and then, with how many
there were in between. Kinds are few, so a log grows slowly whatever is done to the process.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hyperfs.token_bucket import TokenBucket

BURST_LINES: Final = 20
"""Lines of one kind that are told one after another."""
SECONDS_A_LINE: Final = 10.0
"""How often one is told after that."""


@dataclass(slots=True)
class _Kind:
    allowance: TokenBucket
    untold: int = 0


class LogRate(logging.Filter):
    """Lets lines of one kind through at a rate, by the clock ``now`` (seconds); those for debugging all."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._kinds: dict[tuple[str, int], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is let through; it says then how many of its kind were not."""
        if record.levelno < logging.INFO:
            return True
        now = self._now()
        kind = self._kinds.get(where := (record.pathname, record.lineno))
        if kind is None:
            kind = self._kinds[where] = _Kind(TokenBucket(1 / SECONDS_A_LINE, BURST_LINES * SECONDS_A_LINE, now))
        if not kind.allowance.take(now):
            kind.untold += 1
            return False
        if kind.untold:
            record.msg, record.args = f"{record.getMessage()}; and {kind.untold} more like it before", None
            kind.untold = 0
        return True


def log_to_stderr(level: int, line_format: str) -> None:
    """Send log lines from ``level`` on to standard error, at a rate; do nothing if they go somewhere already."""
    handler = logging.StreamHandler()
    handler.addFilter(LogRate())
    logging.basicConfig(level=level, format=line_format, handlers=[handler])
