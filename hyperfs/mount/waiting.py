"""Waiting for blocks: with a deadline, and no longer than the mount lasts.

The rule: no operation waits for the network outside of `Waits.limit`, so that every one of them ends.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from hyperfs.errors import BlockNotAvailable

NOBODY = 0
"""Keeps no inode busy."""


class TimedOut(BlockNotAvailable):
    """Blocks did not come in the time that an operation has for it."""


class Waits:
    """Owns the cancel scopes of all operations that may be waiting, so that closing the mount can end them.

    `is_busy` tells, from any thread, whether an operation on an inode may be waiting: what would in turn wait in the
    kernel for that operation must not begin meanwhile. ``on_idle`` is called when one of them is over.
    """

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()
        self._busy: Counter[int] = Counter()
        self._closed = False
        self.on_idle: Callable[[], None] | None = None

    @contextmanager
    def limit(self, seconds: float, what: str, *, busy: int) -> Iterator[None]:
        """Give what runs inside, on behalf of inode ``busy``, so many seconds.

        Past that it raises `TimedOut`; when the mount ends, `BlockNotAvailable`.
        """
        if self._closed:
            raise BlockNotAvailable(f"{what}: the mount is being ended")
        scope = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._scopes.add(scope)
        self._busy[busy] += 1
        try:
            with scope:
                yield
        finally:
            self._scopes.discard(scope)
            self._done(busy)
        if scope.cancelled_caught:
            if self._closed:
                raise BlockNotAvailable(f"{what}: the mount is being ended")
            raise TimedOut(f"{what}: nothing came for {seconds:g} seconds")

    def is_busy(self, number: int) -> bool:
        """Tell whether an operation on inode ``number`` may be waiting."""
        return number in self._busy

    def close(self) -> None:
        """End every wait now, and each later one at once."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()

    def _done(self, number: int) -> None:
        self._busy[number] -= 1
        if not self._busy[number]:
            del self._busy[number]
            if self.on_idle is not None:
                self.on_idle()
