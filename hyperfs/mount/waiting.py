"""Waiting for blocks: with a deadline, and no longer than the mount lasts.

The rule: no operation waits for the network outside of `Waits.limit`, so that every one of them ends.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self

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
        self._busy: dict[int, int] = {}
        self.closed = False
        self.on_idle: Callable[[], None] | None = None

    def limit(self, seconds: float, what: str, *, busy: int) -> "Limit":
        """Return a context that gives what runs inside, on behalf of inode ``busy``, so many seconds.

        Past that it raises `TimedOut`; when the mount ends, `BlockNotAvailable`.
        """
        return Limit(self, seconds, what, busy)

    def begin(self, scope: trio.CancelScope, number: int) -> None:
        """Note that an operation on inode ``number`` may be waiting in ``scope``."""
        self._scopes.add(scope)
        self._busy[number] = self._busy.get(number, 0) + 1

    def done(self, scope: trio.CancelScope, number: int) -> None:
        """Note that it is over."""
        self._scopes.discard(scope)
        count = self._busy[number] - 1
        if count:
            self._busy[number] = count
            return
        del self._busy[number]
        if self.on_idle is not None:
            self.on_idle()

    def is_busy(self, number: int) -> bool:
        """Tell whether an operation on inode ``number`` may be waiting."""
        return number in self._busy

    def close(self) -> None:
        """End every wait now, and each later one at once."""
        self.closed = True
        for scope in self._scopes:
            scope.cancel()


class Limit:
    """One wait. Made by `Waits.limit`; not a generator, since every operation goes through one."""

    __slots__ = ("_busy", "_scope", "_seconds", "_waits", "_what")

    def __init__(self, waits: Waits, seconds: float, what: str, busy: int) -> None:
        self._waits = waits
        self._seconds = seconds
        self._what = what
        self._busy = busy
        self._scope = trio.CancelScope(deadline=trio.current_time() + seconds)

    def __enter__(self) -> Self:
        if self._waits.closed:
            raise BlockNotAvailable(f"{self._what}: the mount is being ended")
        self._waits.begin(self._scope, self._busy)
        self._scope.__enter__()
        return self

    def progressed(self) -> None:
        """Give what runs inside all of its seconds again: something came."""
        if not self._waits.closed:
            self._scope.deadline = trio.current_time() + self._seconds

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waits.done(self._scope, self._busy)
        self._scope.__exit__(kind, error, traceback)
        if self._scope.cancelled_caught:
            if self._waits.closed:
                raise BlockNotAvailable(f"{self._what}: the mount is being ended") from None
            raise TimedOut(f"{self._what}: nothing came for {self._seconds:g} seconds") from None
