"""Open files, and which version of a file a reader sees.

The rule: an open finds one whole version, and each read is of one version. When the drive changes while the file is
open, the handle goes on with the newest version at the same offsets, as on NFS, so that `tail -f` follows; when the
path is gone or no longer a file, it stays with the last version that there was.

The kernel reads ahead, too, and does not tell those reads from others, nor take them back. So once somebody who read on
is elsewhere, the reads in which he went on before are answered after everything else.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator

import trio

from hyperfs.core.reader import Priority
from hyperfs.drive.snapshot import OpenFile
from hyperfs.errors import BlockNotAvailable, short
from hyperfs.mount.readahead import Readahead
from hyperfs.mount.reading_ahead import Places, ReadingAhead
from hyperfs.mount.siblings import SMALL_BYTES, Siblings, Step
from hyperfs.mount.staging.extents import Readable
from hyperfs.mount.waiting import TimedOut, Waits

__all__ = ["STAGED_CONTENT", "Handle", "OpenFiles", "Readable"]

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
"""How long a read waits for what one before it has just waited for in vain: the kernel asks again, page by page."""
LEFT_SECONDS = 0.5
"""For how long nothing is asked for the sake of a read whose reader is elsewhere: he is to go on there first."""

FetchSiblings = Callable[["Handle", Step], Awaitable[None]]
"""Has small files fetched that come after a handle's."""

STAGED_CONTENT = 1
"""Which content a handle reads that is being written to: the kernel's pages of the file stay those of what it reads."""


class Handle:
    """One open of a file. ``number`` is its inode, ``name`` its path for the log.

    ``file`` is what reads its bytes, as far as they are in the drive; ``content`` tells which bytes they were when it
    was opened, as `InodeTable` keeps it.
    """

    __slots__ = (
        "ahead",
        "blocks_here",
        "complete",
        "content",
        "file",
        "in_vain",
        "name",
        "number",
        "readahead",
        "reading_on",
    )

    def __init__(self, number: int, file: OpenFile | None, name: str, content: int) -> None:
        self.number = number
        self.name = name
        self.content = content
        self.readahead: Readahead | None = None
        self.ahead: ReadingAhead | None = None
        self.reading_on: set[trio.CancelScope] = set()
        """The waits of reads that went on where others had ended, to be ended once the reader is elsewhere."""
        self.file = file
        self._begin()

    def adopt(self, file: OpenFile | None) -> None:
        """Go on with another version of the file; what was to be fetched ahead of the one before is not any more."""
        if self.file != file:
            self.demote()
        self.file = file
        self._begin()

    def _begin(self) -> None:
        self.complete = False
        self.blocks_here = 0
        self.in_vain: tuple[range, float] | None = None
        """The bytes that were last waited for in vain for the full time, and when that ended."""

    def timeout_at(self, position: int, seconds: float) -> float:
        """Return how long a read at ``position`` may wait, where ``seconds`` is the mount's time limit."""
        if self.in_vain is None or position not in self.in_vain[0]:
            return seconds
        just_now = trio.current_time() - self.in_vain[1] < AGAIN_SECONDS
        self.in_vain = None
        return min(seconds, AGAIN_SECONDS) if just_now else seconds

    def demote(self) -> None:
        """Fetch nothing more ahead until the reader reads on."""
        if self.readahead is not None:
            self.readahead.demote()
        if self.ahead is not None:
            self.ahead.stop()

    def leave(self) -> None:
        """Put off what was asked for where the reader was: he is elsewhere."""
        if self.ahead is not None:
            self.ahead.stop()
        for scope in self.reading_on:
            scope.cancel()


class OpenFiles:
    """Owns the handles and what is fetched ahead of them, in ``nursery``."""

    def __init__(self, nursery: trio.Nursery, waits: Waits, timeout_seconds: float) -> None:
        self._nursery = nursery
        self._waits = waits
        self._timeout_seconds = timeout_seconds
        self._handles: dict[int, Handle] = {}
        self._by_number: dict[int, list[Handle]] = {}
        self._next = 1
        self._places = Places()
        self._siblings = Siblings()
        self.fetch_siblings: FetchSiblings | None = None
        """What fetches small files ahead; None: nothing does."""

    def __getitem__(self, handle: int) -> Handle:
        """Raises KeyError for a handle that is not open."""
        return self._handles[handle]

    def add(self, handle: Handle) -> int:
        """Take in a handle that was opened, and return its number."""
        number = self._next
        self._next += 1
        self._handles[number] = handle
        self._by_number.setdefault(handle.number, []).append(handle)
        return number

    def release(self, number: int) -> Handle:
        """Close a handle, and return it."""
        closed = self._handles.pop(number)
        closed.demote()
        others = self._by_number[closed.number]
        others.remove(closed)
        if not others:
            del self._by_number[closed.number]
        return closed

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._handles.values())

    def is_open(self, number: int) -> bool:
        """Tell whether an inode has open handles."""
        return number in self._by_number

    def of_inode(self, number: int) -> Iterator[Handle]:
        """Yield the open handles of an inode."""
        yield from self._by_number.get(number, ())

    async def read(self, handle: Handle, source: Readable, position: int, size: int) -> bytes:
        """Return ``size`` bytes of ``source`` from ``position``, fewer only at the end of the file.

        What is in the drive is fetched ahead for ``handle``, and waited for as long as blocks keep coming. Raises
        `BlockNotAvailable` once none of the missing blocks has come for the time limit, and logs which.
        """
        if not isinstance(source, OpenFile):
            with self._waits.limit(self._timeout_seconds, handle.name, busy=handle.number):
                return await source.read(position, size)
        file = source
        if handle.file is not file:
            handle.adopt(file)
        if position >= file.size:
            return b""
        size = min(size, file.size - position)
        data = file.read_now(position, size)
        if data is not None:
            if not position:
                self.note_small(handle, here=True)
            return data
        if not handle.complete:
            blocks = file.run.blocks
            handle.blocks_here = file.core.count(blocks.start, blocks.stop)
            handle.complete = handle.blocks_here == len(blocks)
            self.note_small(handle, here=handle.complete)
            self._read_ahead(handle, file, position, size)
        blocks_here = -1
        seconds = handle.timeout_at(position, self._timeout_seconds)
        while True:
            try:
                with self._waits.limit(seconds, handle.name, busy=handle.number):
                    return await _read(handle, file, position, size)
            except BlockNotAvailable as error:
                count = file.core.count(file.run.blocks.start, file.run.blocks.stop)
                if isinstance(error, TimedOut) and count > max(blocks_here, handle.blocks_here):
                    blocks_here = count
                    seconds = self._timeout_seconds
                    continue
                if seconds == self._timeout_seconds:
                    handle.in_vain = (range(position, position + size), trio.current_time())
                missing = first_missing(file, position)
                logger.warning(
                    "%s: reading %d bytes at %d failed: %s; missing: %s", handle.name, size, position, error, missing
                )
                raise

    def note_small(self, handle: Handle, *, here: bool) -> None:
        """Note that a file is read, whose bytes are ``here`` or not; fetch others ahead if it is small and time to."""
        if (here and not self._siblings) or handle.file is None or handle.file.size > SMALL_BYTES:
            return
        step = self._siblings.read(handle.name.rpartition("/")[0], here=here)
        if step is not None and self.fetch_siblings is not None and not self._places.full:
            self._places.take()
            self._nursery.start_soon(self._fetch_siblings, self.fetch_siblings, handle, step)

    async def _fetch_siblings(self, fetch: FetchSiblings, handle: Handle, step: Step) -> None:
        try:
            await fetch(handle, step)
        except Exception as error:  # noqa: BLE001 - nobody waits for it, and whoever reads them hears of it himself
            logger.debug("%s: no other files fetched ahead: %s", handle.name, error)
        finally:
            self._places.leave()

    def _read_ahead(self, handle: Handle, file: OpenFile, position: int, size: int) -> None:
        if handle.readahead is None or handle.ahead is None:
            handle.readahead = Readahead()
            handle.ahead = ReadingAhead(self._nursery, self._places, handle.name)
        if handle.readahead.jumps(position):
            handle.leave()
        planned = handle.readahead.plan(position, size, file.size)
        if planned is None or handle.complete:
            return
        if not handle.ahead.fetch(file, *planned):
            handle.readahead.demote()  # or what was planned would be taken for asked


async def _read(handle: Handle, file: OpenFile, position: int, size: int) -> bytes:
    if handle.readahead is None or not handle.readahead.reads_on:
        return await file.read(position, size)
    with trio.CancelScope() as scope:
        handle.reading_on.add(scope)
        try:
            return await file.read(position, size)
        finally:
            handle.reading_on.discard(scope)
    await trio.sleep(LEFT_SECONDS)
    return await file.read(position, size, priority=Priority.BACKGROUND)


def first_missing(file: OpenFile, position: int) -> str:
    """Name the first block from ``position`` on that is not here, as the log shows it.

    Which block holds a position is known to the core alone, once it has that block's proof; it is taken here for the
    one at the same place in the run.
    """
    blocks = file.run.blocks
    begin = blocks.start + max(0, position * len(blocks) // max(1, file.run.size) - 1)
    for index in range(begin, blocks.stop):
        if not file.core.has(index, index + 1):
            return f"block {index} of core {short(file.core.key)}"
    return f"no block of core {short(file.core.key)} any more"
