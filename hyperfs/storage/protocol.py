"""What a core asks of its storage: a directory of named files that are read and written at any offset.

The rule: a write is all or an exception, a read is short only at the end of the file, and nothing here is a coroutine:
what may wait says so, and the caller chooses the thread.
"""

from collections.abc import Sequence
from typing import Protocol


class RandomAccessFile(Protocol):
    """One open file.

    `read_nowait` and `close` are for one thread; all else may be called in others beside it, and a close waits for
    none of that: the file stays open until the last of it is done. What is called afterwards raises `Closed`.
    """

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        """Return what `read` would, or None when that could wait for the disk."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes at ``offset``, fewer at the end of the file. May wait for the disk."""
        ...

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data`` at ``offset``; a gap before it reads as zeros. Raises OSError."""
        ...

    def write_all(self, offset: int, parts: Sequence[bytes]) -> None:
        """Write ``parts`` one after another from ``offset``, without joining them first where that is possible."""
        ...

    def size(self) -> int:
        """Return the file's size in bytes."""
        ...

    def next_data(self, offset: int) -> int:
        """Return where, from ``offset`` on, the next byte lies that is not in a hole; the file's size without one."""
        ...

    def truncate(self, size: int) -> None:
        """Cut or extend the file to ``size`` bytes."""
        ...

    def punch_hole(self, offset: int, size: int) -> None:
        """Make ``size`` bytes at ``offset`` read as zeros and free their space where the file system can."""
        ...

    def allocated(self) -> int:
        """Return how many bytes of storage the file takes, holes left out."""
        ...

    def sync(self) -> None:
        """Return once everything written before is durable (fdatasync). Waits for the disk."""
        ...

    def lock(self) -> None:
        """Take the file for this process until it is closed; raise `StoreLocked` at once when another has it."""
        ...

    def close(self) -> None:
        """Close; a second time does nothing."""
        ...


class Directory(Protocol):
    """A folder of files. ``name`` in all methods is a plain file name."""

    @property
    def kept(self) -> bool:
        """Whether what is written here stays; if not, `keep` has to be called first. It never turns false again."""
        ...

    def keep(self) -> None:
        """Have what was written, and is to be written from now on, stay. Waits for the disk. Raises OSError."""
        ...

    def open(self, name: str, *, create: bool = False, permissions: int = 0o600) -> RandomAccessFile:
        """Open a file for reading and writing; raise FileNotFoundError when it is not there and ``create`` is off."""
        ...

    def exists(self, name: str) -> bool:
        """Tell whether the file is there."""
        ...

    def sync(self) -> None:
        """Return once the names of the files here are durable. Waits for the disk."""
        ...

    def describe(self, name: str) -> str:
        """Return how messages call the file, e.g. its path."""
        ...
