"""Work that reads files without waiting for the disk, and is done again after what it needs was read in a thread.

The rule: such work changes nothing before its last read, so that doing it again is safe.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

from hyperfs.storage import RandomAccessFile

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class WouldWait(Exception):
    """A read would wait for the disk: `run_with_reads` reads ahead in a thread and does the work again."""

    def __init__(self, file: "NonblockingFile", offset: int, size: int) -> None:
        self.file = file
        self.offset = offset
        self.size = size


class NonblockingFile:
    """A file whose reads never wait: they raise `WouldWait`, unless the same was read for the work that goes on."""

    def __init__(self, file: RandomAccessFile, name: str) -> None:
        self.file = file
        self.name = name
        self.loaded: dict[tuple[int, int], bytes] = {}
        """By offset and size, what was read for the work that goes on; empty while none does."""

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes at ``offset``, fewer at the end of the file. Raises `WouldWait`."""
        data = self.file.read_nowait(offset, size)
        if data is None and self.loaded:
            data = self.loaded.get((offset, size))
        if data is None:
            raise WouldWait(self, offset, size)
        return data


async def run_with_reads(work: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
    """Return ``work(*arguments)``, done again after each read that would have waited was made in a thread.

    What was read is older than what was written since: nobody else gets it, and the work itself has to look at what may
    change before it reads.
    """
    loaded: dict[NonblockingFile, dict[tuple[int, int], bytes]] = {}
    while True:
        for file, parts in loaded.items():
            file.loaded = parts
        try:
            return work(*arguments)
        except WouldWait as wait:
            file, offset, size = wait.file, wait.offset, wait.size
        finally:
            for waited in loaded:
                waited.loaded = {}
        loaded.setdefault(file, {})[offset, size] = await trio.to_thread.run_sync(file.file.read, offset, size)
