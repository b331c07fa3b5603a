"""What was staged, written down so that the next process can do it again.

The rules: a journal is a file of records, each with its length and checksum; what follows the first that does not check
was not finished, and is not believed. There is one writer. A new file begins with each commit, and when the commit is
made the older ones are deleted; until then all of them count, in order. A record is visible to the next process as soon
as it is written, and durable after `sync`.
"""

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

_FRAME = struct.Struct("<II")
_MAX_RECORD = 256 * 1024 * 1024
_AHEAD_BYTES = 1024 * 1024
"""Space that is taken ahead of need, so that unlinking and truncating work on a full disk, and syncs cost less."""
_LEAST_AHEAD_BYTES = 64 * 1024
"""What there has to be room for when there is not room for so much."""
_MAGIC = b"hyperfs journal 1\n"

Body = list[Any]
"""A record as msgpack keeps it; `records` knows what it says."""


class Journal:
    """Owns the journal files of one drive in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = -1
        self._end = 0
        self._allocated = 0
        self._synced = True
        self._names_synced = True
        self._earlier: list[int] = []
        self.number = max(self.numbers(), default=0)

    @property
    def is_synced(self) -> bool:
        """Whether `sync` would have nothing to do."""
        return self._synced and self._names_synced and not self._earlier

    def numbers(self) -> list[int]:
        """Return the numbers of the files that are there, in order."""
        return sorted(int(path.stem) for path in self._directory.glob("*.journal"))

    def read(self, number: int) -> Iterator[Body]:
        """Yield the records of one file, up to the first that was not finished."""
        data = self._path(number).read_bytes()
        if not data.startswith(_MAGIC):
            return
        at = len(_MAGIC)
        while at + _FRAME.size <= len(data):
            size, checksum = _FRAME.unpack_from(data, at)
            at += _FRAME.size
            body = data[at : at + size]
            if not 0 < size <= _MAX_RECORD or len(body) != size or zlib.crc32(body) != checksum:
                return
            yield msgpack.unpackb(body, strict_map_key=False, unicode_errors="surrogateescape")
            at += size

    def begin(self) -> int:
        """Begin the next file; return the number of the one before. Raises OSError."""
        before = self.number
        path = self._path(before + 1)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            allocated = self._allocate(fd, 0)
            os.pwrite(fd, _MAGIC, 0)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        if self._fd >= 0:
            self._earlier.append(self._fd)
        self._fd, self._end, self._allocated = fd, len(_MAGIC), allocated
        self._synced = self._names_synced = False
        self.number = before + 1
        return before

    def add(self, record: Body) -> None:
        """Write a record. Raises OSError, and then it does not count."""
        body = msgpack.packb(record, use_bin_type=True, unicode_errors="surrogateescape")
        frame = _FRAME.pack(len(body), zlib.crc32(body)) + body
        if self._end + len(frame) + _AHEAD_BYTES // 2 > self._allocated:
            try:
                self._allocated = self._allocate(self._fd, self._end + len(frame))
            except OSError as error:
                if error.errno != errno.ENOSPC or self._end + len(frame) > self._allocated:
                    raise
        if os.pwrite(self._fd, frame, self._end) != len(frame):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end += len(frame)
        self._synced = False

    def sync(self) -> None:
        """Make every record durable, and the names of all files in the directory. Blocks."""
        while self._earlier:
            os.fdatasync(self._earlier[0])
            os.close(self._earlier.pop(0))
        if not self._names_synced:
            self._names_synced = True
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        if not self._synced:
            self._synced = True
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._synced = False
                raise

    def names_changed(self) -> None:
        """Note that another file was made in the directory, whose name has to last, too."""
        self._names_synced = False

    def delete_through(self, number: int) -> None:
        """Delete the files up to ``number``: what they say is in the drive."""
        for there in self.numbers():
            if there <= number:
                self._path(there).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._fd < 0:
            return
        for fd in (*self._earlier, self._fd):
            os.close(fd)
        self._earlier.clear()
        self._fd = -1

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.journal"

    @staticmethod
    def _allocate(fd: int, size: int) -> int:
        """Take space for ``size`` bytes and some more; return for how many."""
        wanted = size + _AHEAD_BYTES
        try:
            os.posix_fallocate(fd, 0, wanted)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                wanted = size + _LEAST_AHEAD_BYTES
                os.posix_fallocate(fd, 0, wanted)
            elif error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        return wanted
