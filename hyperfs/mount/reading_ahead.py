"""What is fetched ahead of the reader of one open file, as one: it is stopped all at once, whenever it was asked for.

The rule: bytes are asked for in the order in which they were planned, and once the reader is elsewhere, has gone, or
reads another version, nothing that was planned before is asked for any more, and all that was is taken back.
"""

import logging
from typing import Final

import trio

from hyperfs.drive.snapshot import OpenFile

logger = logging.getLogger(__name__)

MAX_READAHEADS: Final = 64
"""For how many readers something is fetched ahead at a time; for one more than these it is not."""


class Places:
    """Counts for whom something is fetched ahead, up to `MAX_READAHEADS`."""

    def __init__(self) -> None:
        self._taken = 0

    @property
    def full(self) -> bool:
        """Whether nobody more has a place."""
        return self._taken >= MAX_READAHEADS

    def take(self) -> None:
        """Count one more."""
        self._taken += 1

    def leave(self) -> None:
        """Count one less."""
        self._taken -= 1


class ReadingAhead:
    """Owns what is fetched ahead in one open file, in tasks of ``nursery``; ``name`` is the file's, for the log."""

    __slots__ = ("_name", "_nursery", "_places", "_planned", "_scopes", "_tasks")

    def __init__(self, nursery: trio.Nursery, places: Places, name: str) -> None:
        self._nursery = nursery
        self._places = places
        self._name = name
        self._planned: tuple[OpenFile, range] | None = None
        """What the next task that has its turn asks for; the others that were begun meanwhile have nothing to do."""
        self._scopes: set[trio.CancelScope] = set()
        self._tasks = 0

    def fetch(self, file: OpenFile, position: int, size: int) -> bool:
        """Have ``size`` bytes from ``position`` fetched, behind those of ``file`` that were asked for before.

        Returns False when that is not done, since it is done for too many.
        """
        if self._planned is not None:  # one question for all that is planned in one turn of the loop, in which tasks
            begin = min(self._planned[1].start, position)  # would ask in any order
            self._planned = (file, range(begin, position + size))
            return True
        if not self._tasks:
            if self._places.full:
                return False
            self._places.take()
        self._tasks += 1
        self._planned = (file, range(position, position + size))
        self._nursery.start_soon(self._fetch)
        return True

    def stop(self) -> None:
        """Take back all that was asked for and has not come."""
        self._planned = None
        for scope in self._scopes:
            scope.cancel()

    async def _fetch(self) -> None:
        planned, self._planned = self._planned, None
        scope = trio.CancelScope()
        try:
            if planned is not None:
                file, wanted = planned
                self._scopes.add(scope)
                with scope:
                    await file.core.ahead(file.run, wanted.start, len(wanted))
        except Exception as error:  # noqa: BLE001 - nobody waits for it, and whoever reads on hears of it himself
            logger.debug("%s: nothing fetched ahead: %s", self._name, error)
        finally:
            self._scopes.discard(scope)
            self._tasks -= 1
            if not self._tasks:
                self._places.leave()
