"""A disk that fails one operation with an errno that the kernel can give, then behaves; and knows what outlives what.

The rule is the kernel's: what was written and not yet synced may or may not be there after a power failure; pages that
a sync could not write count as written from then on, and may be gone from memory, too, though the disk has them not.
"""

import errno
import os
import random
from collections.abc import Callable, Sequence
from typing import Final

from hyperfs.errors import Closed, StoreLocked
from hyperfs.storage import RandomAccessFile
from tests.support.crashes import SECTOR_BYTES

ERRORS: Final = {
    "open": (
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENOMEM,
        errno.EACCES,
        errno.EROFS,
    ),
    "read": (errno.EIO, errno.ENOMEM),
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EROFS),
    "sync": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "truncate": (errno.EIO, errno.ENOSPC, errno.EROFS),
    "punch": (errno.EIO, errno.ENOSPC, errno.ENOMEM),
    "size": (errno.EIO,),
    "sync directory": (errno.EIO, errno.ENOSPC),
}
"""What each kind of operation may fail with."""

Fault = Callable[[str, str], int | None]
"""Says what an operation of a kind, on a file, fails with."""


class LyingContents:
    """The bytes of one file: as programs see them, as the disk has them, and which sectors differ for now."""

    def __init__(self) -> None:
        self.current = bytearray()
        self.durable = bytearray()
        self.unsynced: set[int] = set()
        self.is_named = False
        """Whether its name is durable."""
        self.is_locked = False

    def changed(self, start: int, end: int) -> None:
        """Note that [start, end) was written."""
        if end > start:
            self.unsynced.update(range(start // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1))

    def write_back(self, sectors: Sequence[int] | set[int]) -> None:
        """Bring ``sectors`` to the disk."""
        size = len(self.current)
        del self.durable[size:]
        self.durable.extend(bytes(size - len(self.durable)))
        for sector in sectors:
            place = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
            self.durable[place] = self.current[place]

    def lose(self, *, from_memory: bool) -> None:
        """Fail to bring what was written to the disk: it counts as written all the same."""
        if from_memory:
            size = len(self.current)
            on_disk = self.durable.ljust(size, b"\x00")
            for sector in self.unsynced:
                place = slice(sector * SECTOR_BYTES, min((sector + 1) * SECTOR_BYTES, size))
                self.current[place] = on_disk[place]
        self.unsynced.clear()


class LyingDisk:
    """Files below folders of the same disk. ``fault`` says which operation fails; ``operations`` counts them.

    With ``forgets`` a sync that fails takes what it could not write out of memory, too.
    """

    def __init__(self, chance: random.Random, *, forgets: bool = False) -> None:
        self.files: dict[str, LyingContents] = {}
        self.fault: Fault = lambda kind, name: None
        self.operations = 0
        self.failed: list[tuple[str, str, int]] = []
        """What failed: its kind, the file, the errno."""
        self._chance = chance
        self._forgets = forgets

    def fail_once(self, number: int) -> None:
        """Have the operation after ``number`` others fail."""
        due = self.operations + number

        def fault(kind: str, name: str) -> int | None:
            if self.operations < due or self.failed:
                return None
            return self._chance.choice(ERRORS[kind])

        self.fault = fault

    def meet(self, kind: str, name: str) -> OSError | None:
        """Return what an operation fails with, if it does."""
        code = self.fault(kind, name)
        self.operations += 1
        if code is None:
            return None
        self.failed.append((kind, name, code))
        return OSError(code, os.strerror(code), name)

    def write(self, contents: LyingContents, name: str, offset: int, data: bytes) -> None:
        """Write, or fail after some of it."""
        error = self.meet("write", name)
        if error is not None:
            data = data[: self._chance.randrange(len(data) + 1)]
        if data:
            contents.current.extend(bytes(max(0, offset - len(contents.current))))
            contents.current[offset : offset + len(data)] = data
            contents.changed(offset, offset + len(data))
        if error is not None:
            raise error

    def sync(self, contents: LyingContents, name: str) -> None:
        """Bring a file to the disk, or lose some of what was written to it."""
        error = self.meet("sync", name)
        if error is None:
            contents.write_back(contents.unsynced)
            contents.unsynced.clear()
            return
        contents.write_back([sector for sector in contents.unsynced if self._chance.random() < 0.3])
        contents.lose(from_memory=self._forgets)
        raise error

    def kill(self) -> "LyingDisk":
        """Return the disk as the next process of this boot finds it."""
        for contents in self.files.values():
            contents.is_locked = False
        return self

    def lose_power(self) -> "LyingDisk":
        """Return a disk, which does not fail, as the next boot may find it."""
        after = LyingDisk(self._chance)
        for name, contents in self.files.items():
            if not contents.is_named and self._chance.random() < 0.5:
                continue
            found = after.files[name] = LyingContents()
            found.is_named = True
            found.durable[:] = contents.durable
            size = self._chance.choice([len(contents.durable), len(contents.current)])
            found.durable.extend(bytes(max(0, size - len(found.durable))))
            for sector in contents.unsynced:
                place = slice(sector * SECTOR_BYTES, min((sector + 1) * SECTOR_BYTES, len(found.durable)))
                if place.start < place.stop and self._chance.random() < 0.5:
                    new = contents.current[place]
                    found.durable[place.start : place.start + len(new)] = new
            found.current[:] = found.durable
        return after


class LyingFile:
    """One opening of a file. Reads go to a thread now and then, as those of a disk do."""

    def __init__(self, disk: LyingDisk, name: str, contents: LyingContents) -> None:
        self._disk = disk
        self._name = name
        self._contents = contents
        self._holds_lock = False
        self._closed = False

    def __del__(self) -> None:
        assert self._closed, f"{self._name} was never closed"

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        return None if self._disk._chance.random() < 0.1 else self.read(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        self._check("read")
        return bytes(self._contents.current[offset : offset + size])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._check()
        self._disk.write(self._contents, self._name, offset, bytes(data))

    def write_all(self, offset: int, parts: Sequence[bytes]) -> None:
        self.write(offset, b"".join(parts))

    def size(self) -> int:
        self._check("size")
        return len(self._contents.current)

    def next_data(self, offset: int) -> int:
        return min(offset, self.size())

    def truncate(self, size: int) -> None:
        self._check("truncate")
        old = len(self._contents.current)
        del self._contents.current[size:]
        self._contents.current.extend(bytes(size - len(self._contents.current)))
        self._contents.changed(min(old, size), max(old, size))

    def punch_hole(self, offset: int, size: int) -> None:
        self._check("punch")
        end = min(offset + size, len(self._contents.current))
        if offset < end:
            self._contents.current[offset:end] = bytes(end - offset)
            self._contents.changed(offset, end)

    def allocated(self) -> int:
        return self.size()

    def sync(self) -> None:
        self._check()
        self._disk.sync(self._contents, self._name)

    def lock(self) -> None:
        self._check()
        if self._contents.is_locked and not self._holds_lock:
            raise StoreLocked(f"{self._name} is open already")
        self._contents.is_locked = self._holds_lock = True

    def close(self) -> None:
        self._closed = True
        if self._holds_lock:
            self._contents.is_locked = self._holds_lock = False

    def _check(self, kind: str | None = None) -> None:
        if self._closed:
            raise Closed(f"{self._name} was closed")
        if kind is not None:
            error = self._disk.meet(kind, self._name)
            if error is not None:
                raise error


class LyingDirectory:
    """A folder of a `LyingDisk`, whose files are called ``prefix`` and their name there."""

    kept = True

    def __init__(self, disk: LyingDisk, prefix: str = "") -> None:
        self._disk = disk
        self._prefix = prefix

    def keep(self) -> None:
        """A folder of this disk is there."""

    def open(self, name: str, *, create: bool = False, permissions: int = 0o600) -> RandomAccessFile:
        name = self._prefix + name
        if name not in self._disk.files and not create:
            raise FileNotFoundError(name)
        error = self._disk.meet("open", name)
        if error is not None:
            raise error
        return LyingFile(self._disk, name, self._disk.files.setdefault(name, LyingContents()))

    def exists(self, name: str) -> bool:
        return self._prefix + name in self._disk.files

    def sync(self) -> None:
        error = self._disk.meet("sync directory", self._prefix)
        if error is not None:
            raise error
        for name, contents in self._disk.files.items():
            if name.startswith(self._prefix):
                contents.is_named = True

    def describe(self, name: str) -> str:
        return self._prefix + name
