"""The files that staged bytes and journals lie in, and when what was written to them is durable.

The rules: nothing counts as durable that the disk did not take. A kernel that could not write a page tells so once, and
keeps the page as if it had been written; so after a sync that failed, all that it was to make durable is read back and
written again before anybody may try the next one, and what cannot be written again makes every later sync fail. A
descriptor is closed when the last thread that uses it is done. Files are their owner's alone.
"""

import errno
import os
import threading
import warnings
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from hyperfs.errors import DamagedStore
from hyperfs.storage.disk import write_at

_PIECE_BYTES = 1024 * 1024
_NOWAIT: int = getattr(os, "RWF_NOWAIT", 0)
_NO_NOWAIT = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class StagedFile:
    """Owns one open file. Its methods may be called from any thread."""

    def __init__(self, path: Path, descriptor: int, *, opened_bytes: int = 0) -> None:
        """Take over the descriptor of a file of so many bytes, which may not be durable."""
        self.path = path
        self.opened_bytes = opened_bytes
        self._using = _Descriptor(descriptor, path)
        self._writing = threading.Lock()
        self._syncing = threading.Lock()
        self._counting = threading.Lock()
        self._is_deleted = False
        self._nowait = _NOWAIT
        self._writes = 1 if opened_bytes else 0
        self._synced_writes = 0
        self._low = 0
        self._high = opened_bytes
        self._lost: OSError | None = None

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new file. Raises OSError."""
        return cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file of an earlier process, of which nothing is known to be durable. Raises OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return cls(path, descriptor, opened_bytes=os.fstat(descriptor).st_size)
        except OSError:
            os.close(descriptor)
            raise

    @property
    def is_synced(self) -> bool:
        """Whether all that was written is durable."""
        return self._synced_writes == self._writes

    @property
    def is_lost(self) -> bool:
        """Whether what was written cannot be made durable any more."""
        return self._lost is not None

    def write(self, place: int, data: bytes | memoryview) -> None:
        """Write ``data`` at a place. Blocks. Raises OSError; then any part of it may be there."""
        with self._writing:
            self.append(place, data)

    def append(self, place: int, data: bytes | memoryview) -> None:
        """Write ``data`` behind all that was written before, which nobody else does meanwhile. Raises OSError."""
        with self._using as descriptor:
            try:
                write_at(descriptor, place, data)
            finally:
                self._wrote(place, place + len(data))

    def write_now(self, place: int, data: bytes | memoryview, *, blindly: bool) -> int:
        """Write as much of ``data`` as goes without waiting, and return how much that was. Raises OSError.

        Where the file system cannot tell whether it would wait, that is nothing, or with ``blindly`` all.
        """
        if not (self._nowait or blindly) or not self._writing.acquire(blocking=False):
            return 0
        try:
            written = self._write_without_waiting(place, data) if self._nowait else None
            if written is None and blindly:
                self.append(place, data)
                return len(data)
            return written or 0
        finally:
            self._writing.release()

    def _write_without_waiting(self, place: int, data: bytes | memoryview) -> int | None:
        """Return how much was written, None when that cannot be done here."""
        with self._using as descriptor:
            try:
                written = os.pwritev(descriptor, (data,), place, self._nowait)
            except BlockingIOError:
                return 0
            except OSError as error:
                if error.errno not in _NO_NOWAIT:
                    raise
                self._nowait = 0
                return None
            self._wrote(place, place + written)
            return written

    def allocate(self, size: int) -> None:
        """Take the space for ``size`` bytes, where this file system can. Raises OSError (ENOSPC)."""
        with self._using as descriptor:
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise

    def read(self, place: int, size: int) -> bytes:
        """Return ``size`` bytes. Raises OSError, and `DamagedStore` when the file has lost them."""
        with self._using as descriptor:
            data = os.pread(descriptor, size, place)
            while len(data) < size:
                more = os.pread(descriptor, size - len(data), place + len(data))
                if not more:
                    raise DamagedStore(f"{self.path} ends before byte {place + size}, which was written to it")
                data += more
        return data

    def read_now(self, place: int, size: int) -> bytes | None:
        """Do what `read` does, or return None when that would wait for the disk."""
        buffer = bytearray(size)
        with self._using as descriptor:
            try:
                if os.preadv(descriptor, (buffer,), place, _NOWAIT) == size:
                    return bytes(buffer)
            except OSError as error:
                if not isinstance(error, BlockingIOError) and error.errno not in _NO_NOWAIT:
                    raise
        return None

    def sync(self) -> None:
        """Make everything durable that was written before the call. Blocks.

        Raises OSError, at the next call as well unless everything was written again, and durably. A file that was
        deleted meanwhile is not needed any more.
        """
        with self._syncing:
            if self._lost is not None:
                raise OSError(
                    self._lost.errno, f"{self._lost.strerror}: what was written is not durable", str(self.path)
                )
            if self.is_synced or self._is_deleted:
                return
            with self._using as descriptor:
                with self._counting:
                    writes, low, high = self._writes, self._low, self._high
                    self._low, self._high = high, 0
                try:
                    os.fdatasync(descriptor)
                except OSError:
                    self._write_again(descriptor, low, high)
                    raise
                self._synced_writes = writes

    def delete(self) -> None:
        """Delete and close it: nobody needs what is in it. Raises OSError."""
        delete_file(self.path)
        self._is_deleted = True
        self.close()

    def close(self) -> None:
        """Close it, as soon as no thread uses it."""
        self._using.close()

    def _write_again(self, descriptor: int, low: int, high: int) -> None:
        with self._counting:
            self._low, self._high = min(low, self._low), max(high, self._high)
        with self._writing:
            try:
                for place in range(low, high, _PIECE_BYTES):
                    write_at(descriptor, place, os.pread(descriptor, min(_PIECE_BYTES, high - place), place))
            except OSError as error:
                self._lost = error

    def _wrote(self, start: int, end: int) -> None:
        with self._counting:  # not before: a sync that begins meanwhile, in its thread, may not cover all of it
            self._low = min(self._low, start)
            self._high = max(self._high, end)
            self._writes += 1


class _Descriptor:
    """Owns a descriptor, for which it is a context: `close` takes effect once nobody is in it any more."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        self._lock = threading.Lock()
        self._users = 0
        self._is_closing = False

    def __del__(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
            warnings.warn(f"{self._path} was not closed", ResourceWarning, stacklevel=1, source=self)

    def __enter__(self) -> int:
        with self._lock:
            if self._is_closing:
                raise OSError(errno.EBADF, "the staging file is closed", str(self._path))
            self._users += 1
            return self._descriptor

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            is_last = self._is_closing and not self._users
        if is_last:
            self._close()

    def close(self) -> None:
        with self._lock:
            self._is_closing = True
            is_last = not self._users
        if is_last:
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def refuse_closed(directory: Path, *, is_closed: bool) -> None:
    """Raise OSError (EBADF) when nothing may be begun in a folder any more: it is another's by now, or will be."""
    if is_closed:
        raise OSError(errno.EBADF, "the staging folder is closed", str(directory))


def numbered(paths: Iterable[Path]) -> list[int]:
    """Return the numbers that files are named by, in order; what has another name is none of ours."""
    return sorted(int(path.stem) for path in paths if path.stem.isdecimal())


def delete_file(path: Path) -> None:
    """Delete a file, if it is there. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)


class SyncedNames:
    """The names in one folder, and whether they are durable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._syncing = threading.Lock()
        self._changes = 0
        self._synced_changes = 0

    @property
    def is_synced(self) -> bool:
        """Whether `sync` would have nothing to do."""
        return self._synced_changes == self._changes

    def changed(self) -> None:
        """Note that a file was made or deleted."""
        self._changes += 1

    def sync(self) -> None:
        """Make the names durable. Blocks. Raises OSError, and then the next call tries again.

        That is enough: names are in the file system's own journal, which once it has failed lets nothing more be done.
        """
        with self._syncing:
            changes = self._changes
            if changes == self._synced_changes:
                return
            descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno != errno.EINVAL:  # which says that here a folder needs no sync of its own
                    raise
            finally:
                os.close(descriptor)
            self._synced_changes = changes
