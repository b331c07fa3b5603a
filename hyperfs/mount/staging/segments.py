"""The files that hold staged bytes until they are committed.

The rules: bytes are appended to a segment, so a place in it means one thing for as long as anybody refers to it; a
segment is deleted when nothing refers to it and the journal that did is gone or on disk. Small files share one segment,
so that thousands of them need one descriptor; a file that grows past `OWN_SEGMENT_BYTES` gets one of its own, while
fewer are open than half of what the process may have, so that there is always one left to commit with.

A write that may have to wait for the disk is made in a thread: one that the file system says would wait; where it
cannot say so, each of `LARGE_BYTES` or more, and each one after one that took `SLOW_SECONDS`, until one is quick again.
"""

import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import trio

from hyperfs.mount.staging.files import StagedFile, SyncedNames, delete_file, numbered, refuse_closed

OWN_SEGMENT_BYTES = 256 * 1024
"""A file with more staged bytes than this writes to a segment of its own."""
SHARED_SEGMENT_BYTES = 64 * 1024 * 1024
"""A shared segment longer than this is followed by the next one."""
LARGE_BYTES = 64 * 1024
SLOW_SECONDS = 0.005
"""A write that took longer, in place, shows a disk that lets one wait; the next ones are made in threads."""
SLOW_THREAD_SECONDS = 0.05
"""The same of a write in a thread, which besides waits for its turn of the interpreter: that alone can take 5 ms."""
WRITING_THREADS = 8
"""So many writes wait for the disk at a time; they take no thread from those who read."""


class Segment:
    """One file of staged bytes. ``references`` counts the extents that lie in it, and the threads that use it."""

    __slots__ = ("end", "file", "is_closed_to_writes", "number", "references")

    def __init__(self, number: int, file: StagedFile, end: int) -> None:
        self.number = number
        self.file = file
        self.end = end
        self.is_closed_to_writes = False
        """Whether what is in it has to stay as it is: it is an earlier process's, and may be set aside."""
        self.references = 0

    async def read(self, place: int, size: int) -> bytes:
        """Return ``size`` bytes, without waiting where they are in memory.

        Raises OSError, and `DamagedStore` when the file has lost them.
        """
        data = self.file.read_now(place, size)
        if data is None:
            self.references += 1
            try:
                data = await trio.to_thread.run_sync(self.file.read, place, size)
            finally:
                self.references -= 1
        return data


class Segments:
    """Owns the segments in one folder, whose names ``names`` makes durable."""

    def __init__(
        self,
        directory: Path,
        names: SyncedNames,
        *,
        number: int = 0,
        most: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Number new files behind ``number``; keep no more than about ``most`` files open."""
        self._directory = directory
        self._names = names
        self.most = most if most is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._clock = clock
        self._is_slow = False
        self._limiter = trio.CapacityLimiter(WRITING_THREADS)
        self._all: dict[int, Segment] = {}
        self._strange = set(numbered(directory.glob("*.data")))
        self._next = max([number, *self._strange]) + 1
        self._shared: Segment | None = None
        self._is_closed = False
        self.writing_bytes = 0
        """How many bytes are on the way to the disk."""

    def find(self, number: int) -> Segment:
        """Return a segment of an earlier process, an empty one that cannot be read when it is gone. Raises OSError.

        What a record says of it was replaced later, unless something still refers to it when all are done again.
        """
        segment = self._all.get(number)
        if segment is None:
            path = self._path(number)
            try:
                file = StagedFile.open(path)
                segment = Segment(number, file, file.opened_bytes)
            except FileNotFoundError:
                segment = Segment(number, StagedFile(path, -1), 0)
            segment.is_closed_to_writes = True
            self._all[number] = segment
            self._strange.discard(number)
        return segment

    def shared(self) -> Segment:
        """Return the segment that small files write to."""
        segment = self._shared
        if segment is None or (segment.end >= SHARED_SEGMENT_BYTES and len(self._all) < self.most):
            segment = self._shared = self.make()
        return segment

    def own(self) -> Segment:
        """Return a segment for one large file: a new one, or the shared one when there are too many."""
        return self.make() if len(self._all) < self.most else self.shared()

    def make(self) -> Segment:
        """Return a new, empty segment. Raises OSError."""
        refuse_closed(self._directory, is_closed=self._is_closed)
        number = self._next
        file = StagedFile.create(self._path(number))
        self._names.changed()
        self._next += 1
        segment = self._all[number] = Segment(number, file, 0)
        return segment

    def begin_anew(self) -> None:
        """Let small files write to a new segment from now on, so that the present one can go as a whole."""
        if self._shared is not None and self._shared.end:
            self._shared = None

    async def append(self, segment: Segment, data: bytes | memoryview) -> int:
        """Write ``data`` behind what is there, and return its place. Raises OSError.

        Failed or cancelled, nothing refers to what may have been written.
        """
        place, end = segment.end, segment.end + len(data)
        segment.end = end
        self.writing_bytes += len(data)
        try:
            await self.overwrite(segment, place, data)
        except BaseException:
            if segment.end == end:
                segment.end = place
            raise
        finally:
            self.writing_bytes -= len(data)
        return place

    async def overwrite(self, segment: Segment, place: int, data: bytes | memoryview) -> None:
        """Write ``data`` over what is at a place. Raises OSError. Failed or cancelled, any part of it may be there."""
        segment.references += 1
        try:
            written = self._write_now(segment, place, data)
            if written < len(data):
                rest = memoryview(data)[written:]
                await trio.to_thread.run_sync(self._write, segment, place + written, rest, limiter=self._limiter)
        finally:
            segment.references -= 1

    def unsynced(self) -> list[StagedFile]:
        """Return the files that have bytes a crash could lose."""
        return [segment.file for segment in self._all.values() if not segment.file.is_synced]

    def idle(self) -> list[Segment]:
        """Return the segments that nothing refers to."""
        return [segment for segment in self._all.values() if self._is_idle(segment)]

    def delete(self, segments: Iterable[Segment]) -> None:
        """Delete those of the segments that nothing refers to. No journal must need them any more. Raises OSError."""
        for segment in segments:
            if segment.number in self._all and self._is_idle(segment):
                segment.file.delete()
                self._names.changed()  # not before: a sync in its thread may not cover it
                del self._all[segment.number]

    def delete_strange(self) -> None:
        """Delete the files of earlier processes that no record spoke of, for no journal is left. Raises OSError."""
        for number in list(self._strange):
            delete_file(self._path(number))
            self._names.changed()
            self._strange.discard(number)

    def close(self) -> None:
        """Close all files; none is made any more."""
        self._is_closed = True
        for segment in self._all.values():
            segment.file.close()
        self._all.clear()
        self._shared = None

    def _write_now(self, segment: Segment, place: int, data: bytes | memoryview) -> int:
        began = self._clock()
        written = segment.file.write_now(place, data, blindly=len(data) < LARGE_BYTES and not self._is_slow)
        if written:
            self._is_slow = self._clock() - began > SLOW_SECONDS
        return written

    def _write(self, segment: Segment, place: int, data: memoryview) -> None:
        began = self._clock()
        segment.file.write(place, data)
        self._is_slow = self._clock() - began > SLOW_THREAD_SECONDS

    def _is_idle(self, segment: Segment) -> bool:
        return not segment.references and segment is not self._shared

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.data"
