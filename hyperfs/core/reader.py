"""What everything above a core sees of it: how to ask for blocks, and the small values that go along.

The rule: a reader does not know where a missing block comes from. It has local blocks and, optionally, a `Source`;
without one, what is not here raises `BlockNotAvailable`. Time limits are the caller's cancel scopes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Priority(IntEnum):
    """How urgently blocks are wanted; a lower number goes first."""

    URGENT = 0
    """Somebody waits for it."""
    AHEAD = 1
    """Somebody is likely to want it next."""
    BACKGROUND = 2
    """Nobody waits."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A message for peers that saves round trips, e.g. a `hypertrie` Get; opaque to a core."""

    extension: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """A file's bytes in a content core: ``size`` bytes from ``byte_offset``, held by the blocks ``blocks``."""

    blocks: range
    byte_offset: int
    size: int


class CoreReader(Protocol):
    """A core as a reader has it, whoever owns its files.

    ``key`` and ``discovery_key`` are 32 bytes each. ``length`` (blocks) and ``byte_length`` are those of the newest
    verified head; they only grow while a core is open. Once it is closed, what reads or waits raises `Closed`.
    """

    @property
    def key(self) -> bytes: ...
    @property
    def discovery_key(self) -> bytes: ...
    @property
    def writable(self) -> bool: ...
    @property
    def length(self) -> int: ...
    @property
    def byte_length(self) -> int: ...

    def has(self, start: int, end: int) -> bool:
        """Tell whether all blocks of [start, end) are here. Cheap; an empty range is."""
        ...

    def count(self, start: int, end: int) -> int:
        """Return how many blocks of [start, end) are here."""
        ...

    def get_local(self, index: int) -> bytes | None:
        """Return block ``index``, or None when it is not here or reading it could wait for the disk: then use `get`."""
        ...

    async def get(self, index: int, *, priority: Priority = Priority.URGENT, hint: Hint | None = None) -> bytes:
        """Return block ``index``, from here or from the source.

        What is here and in the page cache comes without yielding to other tasks. Raises `BlockNotAvailable`.
        """
        ...

    async def fetch(
        self, ranges: Sequence[range], *, priority: Priority = Priority.URGENT, hint: Hint | None = None
    ) -> None:
        """Return once all blocks of ``ranges`` are here. Raises `BlockNotAvailable`."""
        ...

    def prefetch(self, ranges: Sequence[range], *, hint: Hint | None = None) -> None:
        """Have ``ranges`` brought because somebody is likely to want them next: nobody waits, and nothing is raised.

        Nothing comes for a core of ours, whose blocks nobody else has but by chance.
        """
        ...

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        """Return ``size`` bytes from ``position`` within ``run``; fewer at its end.

        Raises `BlockNotAvailable`, and `InvalidRun` when the run's bytes are not where its blocks are.
        """
        ...

    def read_now(self, run: Run, position: int, size: int) -> bytes | None:
        """Return what `read` would, when all of ``run`` is here and reading it does not wait; None otherwise."""
        ...

    async def ahead(self, run: Run, position: int, size: int) -> None:
        """Fetch what such a `read` would need, at the priority of readahead, without reading it."""
        ...

    async def update(self) -> None:
        """Ask the source for a newer head; return once it has answered, or at once without a source."""
        ...

    async def wait_longer(self, length: int) -> None:
        """Return once ``self.length > length``."""
        ...


class Source(Protocol):
    """Where a core's missing blocks come from: peers, a daemon, whatever a user plugs in.

    Every method may be cancelled at any await, which withdraws what was asked unless somebody else asked it too.
    """

    async def fetch(self, core: CoreReader, ranges: Sequence[range], priority: Priority, hint: Hint | None) -> None:
        """Return when all blocks of ``ranges`` are readable. Raises `BlockNotAvailable`."""
        ...

    def prefetch(self, core: CoreReader, ranges: Sequence[range], hint: Hint | None) -> None:
        """Begin to bring ``ranges``, after everything that somebody waits for; at most so many such that it matters.

        Never raises: whoever comes to wait for the blocks hears what is wrong.
        """
        ...

    async def seek(self, core: CoreReader, byte_offset: int, blocks: range, priority: Priority) -> None:
        """Bring the block that holds ``byte_offset``, one of ``blocks``, with its proof and so its place."""
        ...

    async def update(self, core: CoreReader) -> None:
        """Ask for a newer head; return once answered, or when there is nobody to ask."""
        ...
