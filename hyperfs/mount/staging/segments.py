"""The files that hold staged bytes until they are committed.

The rules: bytes are appended to a segment, so a place in it means one thing for as long as anybody refers to it; a
segment is deleted when nothing refers to it and the journal that did is gone or on disk. Small files share one segment,
so that thousands of them need one descriptor; a file that grows past `OWN_SEGMENT_BYTES` gets one of its own, while
fewer are open than half of what the process may have, so that there is always one left to commit with.
"""

import errno
import os
import resource
from pathlib import Path

from hyperfs.errors import DamagedStore
from hyperfs.storage.disk import write_at

OWN_SEGMENT_BYTES = 256 * 1024
"""A file with more staged bytes than this writes to a segment of its own."""
SHARED_SEGMENT_BYTES = 64 * 1024 * 1024
"""A shared segment longer than this is followed by the next one."""
SPARE_BYTES = 16 * 1024 * 1024
"""Left free on the store's disk, less on a small disk: what unlinking, truncating and committing need."""
_SPARE_PART = 50
_CHECK_BYTES = 4 * 1024 * 1024


class Segment:
    """One file of staged bytes. ``references`` counts the extents that lie in it."""

    __slots__ = ("end", "fd", "number", "path", "references", "synced")

    def __init__(self, path: Path, number: int, fd: int, end: int) -> None:
        self.path = path
        self.number = number
        self.fd = fd
        self.end = end
        self.synced = True
        self.references = 0

    def append(self, data: bytes | memoryview) -> int:
        """Write ``data`` behind what is there and return its place. Raises OSError; then nothing was added."""
        place = self.end
        self.overwrite(place, data)
        self.end = place + len(data)
        return place

    def overwrite(self, place: int, data: bytes | memoryview) -> None:
        """Write ``data`` at a place."""
        try:
            write_at(self.fd, place, data)
        finally:
            self.synced = False  # not before: a sync that begins meanwhile, in its thread, may not cover all of it

    def read(self, place: int, size: int) -> bytes:
        """Return ``size`` bytes. Raises `DamagedStore` when the file has lost them."""
        data = os.pread(self.fd, size, place)
        while len(data) < size:
            more = os.pread(self.fd, size - len(data), place + len(data))
            if not more:
                raise DamagedStore(f"{self.path} ends before byte {place + size}, which was written to it")
            data += more
        return data

    def sync(self) -> None:
        """Make what was written durable. Blocks."""
        if not self.synced:
            self.synced = True
            try:
                os.fdatasync(self.fd)
            except OSError:
                self.synced = False
                raise


class Segments:
    """Owns the segments in one directory."""

    def __init__(self, directory: Path, *, most: int | None = None) -> None:
        """Keep no more than about ``most`` files open."""
        self._directory = directory
        self._most = most if most is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._all: dict[int, Segment] = {}
        self._next = 1
        self._shared: Segment | None = None
        self._unchecked = _CHECK_BYTES
        self.made = 0
        """How many files were made."""
        for path in directory.glob("*.data"):
            self._next = max(self._next, int(path.stem) + 1)

    def find(self, number: int) -> Segment | None:
        """Return a segment of an earlier process; None when it is gone, everything in it having been replaced."""
        segment = self._all.get(number)
        if segment is None:
            path = self._directory / f"{number}.data"
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            segment = self._all[number] = Segment(path, number, fd, os.fstat(fd).st_size)
        return segment

    def shared(self) -> Segment:
        """Return the segment that small files write to."""
        segment = self._shared
        if segment is None or (segment.end >= SHARED_SEGMENT_BYTES and len(self._all) < self._most):
            segment = self._shared = self.make()
        return segment

    def own(self) -> Segment:
        """Return a segment for one large file: a new one, or the shared one when there are too many."""
        return self.make() if len(self._all) < self._most else self.shared()

    def make(self) -> Segment:
        """Return a new, empty segment. Raises OSError."""
        number = self._next
        path = self._directory / f"{number}.data"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._next += 1
        self.made += 1
        segment = self._all[number] = Segment(path, number, fd, 0)
        return segment

    def begin_anew(self) -> None:
        """Let small files write to a new segment from now on, so that the present one can go as a whole."""
        if self._shared is not None and self._shared.end:
            self._shared = None

    def check_room(self, size: int, uncommitted: int) -> None:
        """Raise ENOSPC unless ``size`` more bytes fit on the disk, and what is ``uncommitted`` can be committed then.

        The disk is asked once for each few megabytes.
        """
        self._unchecked += size
        if self._unchecked < _CHECK_BYTES:
            return
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        spare = min(SPARE_BYTES, disk.f_blocks * disk.f_frsize // _SPARE_PART)
        if free < size + uncommitted + spare:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if free > 4 * (uncommitted + size + SPARE_BYTES):
            self._unchecked = 0

    def unsynced(self) -> list[Segment]:
        """Return the shared segment, and every other one, that has bytes a crash could lose."""
        return [segment for segment in self._all.values() if not segment.synced]

    def collect(self) -> None:
        """Delete the segments that nothing refers to. The journal must not need them any more."""
        for segment in list(self._all.values()):
            if not segment.references and segment is not self._shared:
                self._drop(segment)

    def remove_strangers(self) -> None:
        """Delete the files of earlier processes that no journal referred to."""
        for path in self._directory.glob("*.data"):
            if int(path.stem) not in self._all:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close all files."""
        for segment in self._all.values():
            os.close(segment.fd)
        self._all.clear()
        self._shared = None

    def _drop(self, segment: Segment) -> None:
        del self._all[segment.number]
        os.close(segment.fd)
        segment.path.unlink(missing_ok=True)
