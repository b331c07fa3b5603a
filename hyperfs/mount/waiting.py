"""Waiting for blocks: with a deadline, and no longer than the mount lasts.

The rule: no operation waits for the network outside of `Waits.limit`, so that every one of them ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from hyperfs.errors import BlockNotAvailable


class Waits:
    """Owns the cancel scopes of all operations that may be waiting, so that closing the mount can end them."""

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()
        self._closed = False

    @contextmanager
    def limit(self, seconds: float, what: str) -> Iterator[None]:
        """Give what runs inside ``seconds``; past that, or when the mount ends, raise `BlockNotAvailable`."""
        if self._closed:
            raise BlockNotAvailable(f"{what}: the mount is being ended")
        scope = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._scopes.add(scope)
        try:
            with scope:
                yield
        finally:
            self._scopes.discard(scope)
        if scope.cancelled_caught:
            reason = "the mount is being ended" if self._closed else f"nothing came for {seconds:g} seconds"
            raise BlockNotAvailable(f"{what}: {reason}")

    def close(self) -> None:
        """End every wait now, and each later one at once."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()
