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
    """A file whose reads never wait: they raise `WouldWait`, unless `load` has read the same before."""

    def __init__(self, file: RandomAccessFile, name: str) -> None:
        self.file = file
        self.name = name
        self._loaded: dict[tuple[int, int], bytes] = {}

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes at ``offset``, fewer at the end of the file. Raises `WouldWait`."""
        data = self.file.read_nowait(offset, size)
        if data is not None:
            return data
        if self._loaded:
            data = self._loaded.get((offset, size))
            if data is not None:
                return data
        raise WouldWait(self, offset, size)

    async def load(self, offset: int, size: int) -> None:
        """Read in a thread, and keep it for the next `read` of just that."""
        self._loaded[offset, size] = await trio.to_thread.run_sync(self.file.read, offset, size)

    def forget(self) -> None:
        """Drop what `load` kept."""
        self._loaded.clear()


async def run_with_reads(work: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
    """Return ``work(*arguments)``, done again after each read that would have waited was made in a thread."""
    waited: set[NonblockingFile] = set()
    try:
        while True:
            try:
                return work(*arguments)
            except WouldWait as wait:
                waited.add(wait.file)
                await wait.file.load(wait.offset, wait.size)
    finally:
        for file in waited:
            file.forget()
