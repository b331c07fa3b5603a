"""Files on disk.

The rule: what the page cache holds is read inline with RWF_NOWAIT; only what would wait is left to a thread.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from hyperfs.errors import Closed, StoreLocked

_SCRATCH_BYTES = 1 << 20
_PIECE_BYTES = 256 * 1024
"""For a larger write the kernel takes its memory in larger blocks, and those a virtual machine gives back to its host
when they are idle: getting them anew takes more than ten times as long as the write."""
_MAX_VECTORS = 512
_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_NO_NOWAIT = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_NO_PUNCH = {errno.EOPNOTSUPP, errno.ENOSYS}
_NO_SEEK = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_NO_DIRECTORY_SYNC = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF}

_libc = ctypes.CDLL(None, use_errno=True)


class _Descriptor:
    """Owns a file descriptor that threads use: closed when the last of them is done, so that none meets another file.

    As a context it gives the number to use, of the path opened again if it rests. Raises `Closed`.
    """

    __slots__ = ("_lock", "_number", "_path", "_rests", "_uses", "number")

    def __init__(self, path: Path, number: int) -> None:
        self.number = number
        """For the thread that closes; -1 from then on, and while it rests."""
        self._number = number
        self._rests = False
        self._path = path
        self._lock = threading.Lock()
        self._uses = 0

    def __enter__(self) -> int:
        with self._lock:
            self._wake()
            self._uses += 1
            return self._number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._uses -= 1
            last = self.number < 0 and not self._uses
        if last:
            os.close(self._number)

    def close(self) -> None:
        with self._lock:
            unused = self.number >= 0 and not self._uses
            self.number = -1
            self._rests = False
        if unused:
            os.close(self._number)

    def rest(self) -> None:
        with self._lock:
            if self.number < 0 or self._uses:
                return
            self.number = -1
            self._rests = True
        os.close(self._number)

    def wake(self) -> None:
        with self._lock:
            self._wake()

    def _wake(self) -> None:
        if self._rests:
            self.number = self._number = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self._rests = False
        elif self.number < 0:
            raise Closed(f"{self._path} was closed")


class DiskFile:
    """A file descriptor and its path; owns the descriptor."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = _Descriptor(path, descriptor)
        self._scratch = memoryview(bytearray(4096))
        self._flags = getattr(os, "RWF_NOWAIT", 0)

    def __del__(self) -> None:
        if self._descriptor.number >= 0:
            self.close()
            warnings.warn(f"{self._path} was not closed", ResourceWarning, stacklevel=1, source=self)

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        """See `RandomAccessFile.read_nowait`."""
        scratch = self._scratch
        if size > len(scratch):
            if size > _SCRATCH_BYTES:
                return None  # long enough to be worth a thread, even out of the page cache
            scratch = self._scratch = memoryview(bytearray(size))
        buffer = scratch[:size]
        try:
            received = os.preadv(self._descriptor.number, (buffer,), offset, self._flags)
        except BlockingIOError:
            return None
        except OSError as error:
            if self._descriptor.number < 0:
                self._descriptor.wake()
                return self.read_nowait(offset, size)
            if not self._flags or error.errno not in _NO_NOWAIT:
                raise
            # This file system cannot tell whether a read would wait: read plainly from now on.
            self._flags = 0
            received = os.preadv(self._descriptor.number, (buffer,), offset)
        if received == size or offset + received == self.size():
            return bytes(buffer[:received])
        return None

    def read(self, offset: int, size: int) -> bytes:
        """See `RandomAccessFile.read`."""
        with self._descriptor as descriptor:
            data = os.pread(descriptor, size, offset)
            if len(data) == size or not data:
                return data
            parts = [data]
            received = len(data)
            while received < size:
                data = os.pread(descriptor, size - received, offset + received)
                if not data:
                    break
                parts.append(data)
                received += len(data)
            return b"".join(parts)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """See `RandomAccessFile.write`."""
        with self._descriptor as descriptor:
            write_at(descriptor, offset, data)

    def write_all(self, offset: int, parts: Sequence[bytes]) -> None:
        """See `RandomAccessFile.write_all`."""
        with self._descriptor as descriptor:
            group: list[bytes] = []
            size = 0
            for part in parts:
                if group and (size + len(part) > _PIECE_BYTES or len(group) == _MAX_VECTORS):
                    _write_group(descriptor, offset, group)
                    offset += size
                    group, size = [], 0
                group.append(part)
                size += len(part)
            if group:
                _write_group(descriptor, offset, group)

    def size(self) -> int:
        """See `RandomAccessFile.size`."""
        with self._descriptor as descriptor:
            return os.fstat(descriptor).st_size

    def next_data(self, offset: int) -> int:
        """See `RandomAccessFile.next_data`."""
        size = self.size()
        if offset >= size:
            return size
        with self._descriptor as descriptor:
            try:
                return os.lseek(descriptor, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return size
                if error.errno in _NO_SEEK:
                    return offset
                raise

    def truncate(self, size: int) -> None:
        """See `RandomAccessFile.truncate`."""
        with self._descriptor as descriptor:
            os.ftruncate(descriptor, size)

    def punch_hole(self, offset: int, size: int) -> None:
        """See `RandomAccessFile.punch_hole`."""
        size = min(size, self.size() - offset)
        if size <= 0:
            return
        mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
        with self._descriptor as descriptor:
            failed = _libc.fallocate(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(size))
            code = ctypes.get_errno()
        if not failed:
            return
        if code not in _NO_PUNCH:
            raise OSError(code, os.strerror(code), str(self._path))
        for start in range(offset, offset + size, _SCRATCH_BYTES):
            self.write(start, bytes(min(_SCRATCH_BYTES, offset + size - start)))

    def allocated(self) -> int:
        """See `RandomAccessFile.allocated`."""
        with self._descriptor as descriptor:
            return os.fstat(descriptor).st_blocks * 512

    def sync(self) -> None:
        """See `RandomAccessFile.sync`."""
        with self._descriptor as descriptor:
            os.fdatasync(descriptor)

    def lock(self) -> None:
        """See `RandomAccessFile.lock`: an exclusive `flock`, as the reference takes it."""
        with self._descriptor as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = lock_holder(descriptor)
                by = f"process {holder}" if holder else "another process"
                raise StoreLocked(f"{self._path} is in use by {by}; end that one first, or use another store") from None

    def rest(self) -> None:
        """Give the descriptor back, unless a thread uses it just now, until something is read: then it is opened again.

        Only for a file that is only read and does not hold a lock. The next read may raise as opening does.
        """
        self._descriptor.rest()

    def close(self) -> None:
        """See `RandomAccessFile.close`."""
        self._descriptor.close()


def _write_group(descriptor: int, offset: int, parts: Sequence[bytes]) -> None:
    if len(parts) == 1:
        write_at(descriptor, offset, parts[0])
        return
    written = os.pwritev(descriptor, parts, offset)
    if written < sum(map(len, parts)):
        write_at(descriptor, offset + written, b"".join(parts)[written:])


def write_at(descriptor: int, offset: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data`` at ``offset`` of an open file. Raises OSError."""
    while data:
        piece = data if len(data) <= _PIECE_BYTES else memoryview(data)[:_PIECE_BYTES]
        written = os.pwrite(descriptor, piece, offset)
        if written == len(data):
            return
        data, offset = memoryview(data)[written:], offset + written


class DiskDirectory:
    """A folder on disk, made when its first file is created. ``read_only`` opens files without write access."""

    kept = True

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only

    def open(self, name: str, *, create: bool = False, permissions: int = 0o600) -> DiskFile:
        """See `Directory.open`."""
        path = self.path / name
        flags = os.O_CLOEXEC | (os.O_RDONLY if self._read_only else os.O_RDWR)
        if create:
            make_folder(self.path)
            flags |= os.O_CREAT
        return DiskFile(path, os.open(path, flags, permissions))

    def exists(self, name: str) -> bool:
        """See `Directory.exists`."""
        return (self.path / name).exists()

    def sync(self) -> None:
        """See `Directory.sync`."""
        sync_directory(self.path)

    def keep(self) -> None:
        """See `Directory.keep`."""

    def describe(self, name: str) -> str:
        """See `Directory.describe`."""
        return str(self.path / name)


def sync_directory(path: Path) -> None:
    """Return once the names in ``path`` are durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems have no way to sync a directory; then there is nothing to do.
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder that is its owner's alone, with those above it that are missing; the names become durable."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        sync_directory(path.parent)


def replace_file(path: Path, content: bytes, *, permissions: int = 0o600) -> None:
    """Put ``content`` at ``path``, whole or not at all, and durable on return. Its folder is made if missing."""
    make_folder(path.parent)
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, permissions)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_directory(path.parent)


def lock_holder(descriptor: int) -> int | None:
    """Return the process that holds a `flock` on the file open as ``descriptor``, or None when it cannot be told."""
    status = os.fstat(descriptor)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == wanted and int(fields[4]) > 0:
            return int(fields[4])
    return None
