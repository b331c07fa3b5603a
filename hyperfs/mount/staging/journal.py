"""What was staged, written down so that the next process can do it again.

The rules: a journal is a row of files of records (`frames`, `records`), and has one writer. A new file begins with each
commit, and when the commit is durable the older ones are deleted, the oldest first; until then all of them count, in
order. A record is visible to the next process as soon as it is written, and durable after `sync`. The files of an
earlier process are written to no more, and nothing of them counts as durable before a `sync` of this one.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hyperfs.core.reserve import is_full
from hyperfs.core.shared_map import boot_id
from hyperfs.mount.staging.files import StagedFile, SyncedNames, delete_file, numbered
from hyperfs.mount.staging.frames import Contents, Cut, frame, header, parse

AHEAD_BYTES = 1024 * 1024
"""Space that is taken ahead of need, so that unlinking and truncating work on a full disk, and syncs cost less."""
_SHARE_OF_DISK = 256
_LEAST_AHEAD_BYTES = 64 * 1024
"""What there has to be room for when there is not room for so much."""


def ahead_bytes(disk: os.statvfs_result) -> int:
    """Return how much space is taken ahead of need on a disk, of which `os.statvfs` said this."""
    return min(AHEAD_BYTES, max(_LEAST_AHEAD_BYTES, disk.f_blocks * disk.f_frsize // _SHARE_OF_DISK))


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a journal, of which everything before is written."""

    file: StagedFile | None
    end: int


class Journal:
    """Owns the journal files of one drive in one folder, whose names ``names`` makes durable."""

    def __init__(self, directory: Path, names: SyncedNames, *, number: int, ahead_bytes: int) -> None:
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
        self.number = self._earlier = max([number, *self.numbers()])

    @property
    def is_synced(self) -> bool:
        """Whether `sync` would have nothing to do."""
        return all(file.is_synced for file in self._files.values())

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
        """Begin the next file; return the number of the one before. Raises OSError, and then nothing has begun."""
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
        """Write records, all or none. Raises OSError, and then they do not count."""
        if self._current is None:
            self.begin()
        assert self._current is not None
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
        self._current.append(self._end, framed.ljust(spoiled - self._end, b"\0"))
        self._end, self._spoiled_end = end, 0

    def mark(self) -> Mark:
        """Return where the journal ends now, for `sync`."""
        return Mark(self._current, self._end)

    def sync(self, mark: Mark) -> None:
        """Make every record durable that was added before the call. Blocks. Raises OSError.

        What those before ``mark`` speak of has to be durable already: later records will say so of them.
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
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._current = None

    def _delete(self, number: int) -> None:
        file = self._files.get(number)
        if file is None:
            delete_file(self._path(number))
        else:
            file.delete()
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
