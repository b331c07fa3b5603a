"""Where the files of a core are: a directory, memory, or random-access objects of a program's own.

The rule: whatever a program passes in, a core sees a `Directory`; what the program's objects cannot do is made of what
they can.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from hyperfs.errors import UsageError
from hyperfs.storage import Directory, DiskDirectory, MemoryDirectory, RandomAccessFile

CORE_FILES: Final = ("bitfield", "tree", "signatures", "data", "key", "secret_key")
"""The names of a core's files."""
HEAD_FILE: Final = "hyperfs_head"
STANDING_FILE: Final = "hyperfs_standing"
_ZEROS_BYTES: Final = 1 << 20


class RandomAccess(Protocol):
    """A file of a program's own, with offsets and sizes in bytes.

    Reads and syncs are made in worker threads, and so are long writes; a short write is made in the event loop, and
    should not wait for long. At most one thread writes at a time, others may read beside it. What is raised as OSError
    is told as such.
    """

    def read(self, offset: int, size: int, /) -> bytes:
        """Return ``size`` bytes at ``offset``, fewer at the end of the file."""
        ...

    def write(self, offset: int, data: bytes, /) -> None:
        """Write all of ``data`` at ``offset``; a gap before it reads as zeros."""
        ...

    def size(self) -> int:
        """Return how long the file is: 0 for one that was never written."""
        ...

    def truncate(self, size: int, /) -> None:
        """Cut the file to ``size`` bytes."""
        ...

    def sync(self) -> None:
        """Return once everything written is as durable as it gets."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


Storage = str | os.PathLike[str] | Directory | Callable[[str], RandomAccess]
"""What `open_core` takes: a directory's path, `memory`, or a function from a file's name to a `RandomAccess`."""


def memory() -> Directory:
    """Return storage in memory: what a core leaves in it is there when a core is opened over it again."""
    return MemoryDirectory()


def directory_of(storage: Storage) -> Directory:
    """Return the directory of a core's files. Raises `UsageError` for the folder of a whole store."""
    if isinstance(storage, str | os.PathLike):
        path = Path(storage)
        if (path / "master_key").exists():
            raise UsageError(f"{path} is a store of many cores: open it with open_store, or name another folder")
        return DiskDirectory(path)
    return FunctionDirectory(storage) if callable(storage) else storage


def erase(directory: Directory) -> None:
    """Remove the files of a core that nobody has open. May wait for the disk. Raises OSError."""
    if isinstance(directory, DiskDirectory):
        # The secret key last: as long as anything is left of a core of ours, it can be told whose it is.
        for name in (HEAD_FILE, STANDING_FILE, *CORE_FILES):
            (directory.path / name).unlink(missing_ok=True)
        if directory.path.is_dir():
            directory.sync()
        return
    for name in CORE_FILES:
        try:
            file = directory.open(name)
        except FileNotFoundError:
            continue
        try:
            file.truncate(0)
        finally:
            file.close()


class OwnFile:
    """A `RandomAccess` of a program's as a `RandomAccessFile`."""

    def __init__(self, file: RandomAccess) -> None:
        self._file = file

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        """See `RandomAccessFile.read_nowait`: a program's own file may always wait."""
        return None

    def read(self, offset: int, size: int) -> bytes:
        """See `RandomAccessFile.read`."""
        return bytes(self._file.read(offset, size))

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """See `RandomAccessFile.write`."""
        if len(data):
            self._file.write(offset, bytes(data))

    def write_all(self, offset: int, parts: Sequence[bytes]) -> None:
        """See `RandomAccessFile.write_all`."""
        self.write(offset, b"".join(parts))

    def size(self) -> int:
        """See `RandomAccessFile.size`."""
        return self._file.size()

    def next_data(self, offset: int) -> int:
        """See `RandomAccessFile.next_data`: where the holes are is not known."""
        return min(offset, self.size())

    def truncate(self, size: int) -> None:
        """See `RandomAccessFile.truncate`."""
        self._file.truncate(size)

    def punch_hole(self, offset: int, size: int) -> None:
        """See `RandomAccessFile.punch_hole`: zeros are written where the program's file has no such method."""
        size = min(size, self.size() - offset)
        if size <= 0:
            return
        punch = getattr(self._file, "punch_hole", None)
        if punch is not None:
            punch(offset, size)
            return
        for start in range(offset, offset + size, _ZEROS_BYTES):
            self.write(start, bytes(min(_ZEROS_BYTES, offset + size - start)))

    def allocated(self) -> int:
        """See `RandomAccessFile.allocated`."""
        return self.size()

    def sync(self) -> None:
        """See `RandomAccessFile.sync`."""
        self._file.sync()

    def lock(self) -> None:
        """See `RandomAccessFile.lock`: keeping others out is the program's affair, unless its file has a ``lock``."""
        lock = getattr(self._file, "lock", None)
        if lock is not None:
            lock()

    def close(self) -> None:
        """See `RandomAccessFile.close`."""
        self._file.close()


class FunctionDirectory:
    """A `Directory` of the files that ``open_file`` returns, which is called with a name for each opening of it."""

    kept = True

    def __init__(self, open_file: Callable[[str], RandomAccess]) -> None:
        self._open_file = open_file

    def open(self, name: str, *, create: bool = False, permissions: int = 0o600) -> RandomAccessFile:
        """See `Directory.open`: there is no file that is not there, only an empty one."""
        return OwnFile(self._open_file(name))

    def exists(self, name: str) -> bool:
        """See `Directory.exists`."""
        file = self._open_file(name)
        try:
            return file.size() > 0
        finally:
            file.close()

    def sync(self) -> None:
        """See `Directory.sync`: names are the program's affair."""

    def keep(self) -> None:
        """See `Directory.keep`."""

    def describe(self, name: str) -> str:
        """See `Directory.describe`."""
        return name or "the storage"
