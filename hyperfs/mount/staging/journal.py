"""What was staged, written down so that the next process can do it again.

The rules: a journal is a row of files of records (`frames`, `records`), and has one writer. A new file begins with each
commit, and when the commit is durable the older ones are deleted, the oldest first; until then all of them count, in
order. A record is visible to the next process as soon as it is written, and durable after `sync`. The files of an
earlier process are written to no more, and nothing of them counts as durable before a `sync` of this one.

A disk that lets one wait is waited for in a thread: for `SLOW_FOR_SECONDS` after a write that took `SLOW_SECONDS`
records only queue for it, in order, and whoever answers for one waits until it is `written`.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from hyperfs.core.reserve import is_full
from hyperfs.core.shared_map import boot_id
from hyperfs.mount.staging.files import StagedFile, SyncedNames, delete_file, numbered, refuse_closed
from hyperfs.mount.staging.frames import Contents, Cut, frame, header, parse

AHEAD_BYTES = 1024 * 1024
"""Space that is taken ahead of need, so that unlinking and truncating work on a full disk, and syncs cost less."""
_SHARE_OF_DISK = 256
_LEAST_AHEAD_BYTES = 64 * 1024
"""What there has to be room for when there is not room for so much."""
SLOW_SECONDS = 0.02
SLOW_FOR_SECONDS = 5.0


def ahead_bytes(disk: os.statvfs_result) -> int:
    """Return how much space is taken ahead of need on a disk, of which `os.statvfs` said this."""
    return min(AHEAD_BYTES, max(_LEAST_AHEAD_BYTES, disk.f_blocks * disk.f_frsize // _SHARE_OF_DISK))


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a journal, of which everything before is written."""

    file: StagedFile | None
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class _Queued:
    file: StagedFile
    place: int
    data: bytes


class Journal:
    """Owns the journal files of one drive in one folder, whose names ``names`` makes durable."""

    def __init__(
        self,
        directory: Path,
        names: SyncedNames,
        *,
        number: int,
        ahead_bytes: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Number new files behind ``number``, and take so much space ahead."""
        self._directory = directory
        self._names = names
        self._files: dict[int, StagedFile] = {}
        self._current: StagedFile | None = None
        self._end = 0
        self._spoiled_end = 0
        self._ahead_bytes = ahead_bytes
        self._allocated = 0
        self._durable = Mark(None, 0)
        self._cut: Cut | None = None
        self._clock = clock
        self._slow_until = -1.0
        self._may_queue = True
        self._queue: deque[_Queued] = deque()
        self._taking = threading.Lock()
        self._writing = threading.Lock()
        self._has_failed = False
        """Whether what is queued could not be written when that was tried last."""
        self._is_closed = False
        self._limiter = trio.CapacityLimiter(1)
        self.number = self._earlier = max([number, *self.numbers()])

    @property
    def is_synced(self) -> bool:
        """Whether `sync` would have nothing to do."""
        return not self._queue and all(file.is_synced for file in self._files.values())

    @property
    def is_slow(self) -> bool:
        """Whether a record that is added now has to be waited for."""
        return bool(self._queue) or self._clock() < self._slow_until

    @property
    def current_bytes(self) -> int:
        """How long the file is that is written to now."""
        return 0 if self._current is None else self._end

    @property
    def files(self) -> list[StagedFile]:
        """The open files."""
        return list(self._files.values())

    @property
    def holds_earlier(self) -> bool:
        """Whether there are files of an earlier process."""
        return any(number <= self._earlier for number in self._files)

    def numbers(self) -> list[int]:
        """Return the numbers of the files that are there, in order."""
        return numbered(self._directory.glob("*.journal"))

    def read(self) -> dict[int, Contents]:
        """Return what counts in the files of an earlier process, in order. Blocks. Raises OSError and `LaterFormat`."""
        boot = boot_id()
        found: dict[int, Contents] = {}
        was_durable = False
        cut: Cut | None = None
        for number in reversed(self.numbers()):
            file = self._files[number] = StagedFile.open(self._path(number))
            data = file.read(0, file.opened_bytes)
            if cut is not None and number > cut.number:
                continue
            if cut is not None and number == cut.number:
                data = data[: cut.place]
            contents = found[number] = parse(data, number, boot, was_durable=was_durable)
            was_durable = was_durable or contents.is_known_durable
            cut = contents.earlier or cut
        self._files = dict(sorted(self._files.items()))
        counting: dict[int, Contents] = {}
        for number, contents in sorted(found.items()):
            counting[number] = contents
            following = found.get(number + 1)
            if following is not None and following.end_before > contents.last and contents.end is None:
                if contents.is_certain:
                    contents.damage.append(range(contents.last, following.end_before))
                else:
                    contents.end = contents.last
            if contents.end is not None:
                self.cut(number, contents.end)
                break
            self._end = contents.last
        return counting

    def begin(self) -> int:
        """Begin the next file; return the number of the one before. Raises OSError, and then nothing has begun.

        Nothing must be queued.
        """
        refuse_closed(self._directory, is_closed=self._is_closed)
        assert not self._queue  # the next file says how far this one goes
        before = self.number
        delete_file(self._path(before + 1))  # which there is when it could neither be begun nor deleted
        file = StagedFile.create(self._path(before + 1))
        start = header(boot_id(), self._end, self._cut)
        try:
            allocated = self._allocate(file, 0)
            file.append(0, start)
        except OSError:
            file.close()
            with suppress(OSError):
                file.delete()
            raise
        self._names.changed()
        self._current = self._files[before + 1] = file
        self._end, self._spoiled_end, self._allocated = len(start), 0, allocated
        self.number = before + 1
        return before

    def add(self, *records: bytes) -> None:
        """Write records, all or none, or queue them: see `written`. Raises OSError, and then they do not count."""
        if self._current is None:
            self.begin()
        assert self._current is not None
        if self._has_failed:
            self._write_queued()
        durable = self._durable
        durable_bytes = durable.end if durable.file is self._current else 0
        framed, end = b"", self._end
        for record in records:
            framed += frame(record, number=self.number, place=end, durable_bytes=durable_bytes)
            end = self._end + len(framed)
        if end + self._ahead_bytes // 2 > self._allocated:
            try:
                self._allocated = self._allocate(self._current, end)
            except OSError as error:
                if not is_full(error) or end > self._allocated:
                    raise
        # What a write that failed left behind the end would be taken for damage.
        spoiled, self._spoiled_end = self._spoiled_end, max(self._spoiled_end, end)
        queued = _Queued(self._current, self._end, framed.ljust(spoiled - self._end, b"\0"))
        if self._may_queue and self.is_slow:
            self._queue.append(queued)
        else:
            self._write(queued)
        self._end, self._spoiled_end = end, 0

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Queue nothing until the block ends, as nothing is queued now."""
        assert not self._queue
        self._may_queue = False
        try:
            yield
        finally:
            self._may_queue = True

    async def written(self) -> None:
        """Return once nothing is queued. Raises OSError, and then it is for the next call.

        Not cancelled: what was added has been promised to be written.
        """
        if not self._queue:  # as nearly always, and a scope costs more than the record did
            return
        with trio.CancelScope(shield=True):
            while self._queue:
                await trio.to_thread.run_sync(self._write_queued, limiter=self._limiter)

    def _write_queued(self) -> None:
        with self._writing:  # one thread at a time: what a late one writes once more would cover the next record
            while (queued := self._next_queued()) is not None:
                try:
                    self._write(queued)
                except OSError:
                    self._has_failed = True
                    raise
                self._has_failed = False
                with self._taking:
                    if self._queue and self._queue[0] is queued:
                        self._queue.popleft()

    def _next_queued(self) -> _Queued | None:
        with self._taking:
            return self._queue[0] if self._queue else None

    def _write(self, queued: _Queued) -> None:
        began = self._clock()
        queued.file.append(queued.place, queued.data)
        ended = self._clock()
        if ended - began > SLOW_SECONDS:
            self._slow_until = ended + SLOW_FOR_SECONDS

    def mark(self) -> Mark:
        """Return where the journal ends now, for `sync`."""
        return Mark(self._current, self._end)

    def sync(self, mark: Mark) -> None:
        """Make every record durable that was added before the call. Blocks. Raises OSError.

        What those before ``mark`` speak of has to be durable already: later records will say so of them. None of them
        must be queued.
        """
        for file in list(self._files.values()):
            file.sync()
        self._durable = mark

    def cut(self, number: int, place: int) -> None:
        """Have file ``number`` end at a place, for every later process as well: the power failed before more was there.

        It is said by the next file, at its beginning.
        """
        self._cut = Cut(number, place)
        self._end = 0

    def delete_through(self, number: int) -> None:
        """Delete the files up to ``number``: what they say is durable in the drive. Raises OSError.

        Those that could not be deleted are the last of them, and still go before any later one.
        """
        for there in self.numbers():
            if there <= number:
                self._delete(there)

    def close(self) -> None:
        """Write what is queued, which blocks, and close the files: none is begun any more.

        Raises OSError; they are closed then, too.
        """
        try:
            self._write_queued()
        finally:
            for file in self._files.values():
                file.close()
            self._files.clear()
            self._current = None
            self._is_closed = True

    def _delete(self, number: int) -> None:
        file = self._files.get(number)
        if file is None:
            delete_file(self._path(number))
        else:
            file.delete()
            with self._taking:
                self._queue = deque(queued for queued in self._queue if queued.file is not file)
            del self._files[number]
            if file is self._current:
                self._current = None
        self._names.changed()  # not before: a sync in its thread may not cover it

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.journal"

    def _allocate(self, file: StagedFile, size: int) -> int:
        """Take space for ``size`` bytes and some more; return for how many."""
        wanted = size + self._ahead_bytes
        try:
            file.allocate(wanted)
        except OSError as error:
            if not is_full(error):
                raise
            wanted = size + _LEAST_AHEAD_BYTES
            file.allocate(wanted)
        return wanted
