"""Looking at a local folder: what is in it, as Stats, and the bytes of its files.

The rule: everything in here is plain blocking code for a worker thread, and never follows a symbolic link below the
folder it was given. What a drive cannot hold is told, not raised.
"""

import errno
import os
import stat as st
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from hyperfs.crypto import KEY_BYTES
from hyperfs.drive import names
from hyperfs.drive.committer import CHUNK_BYTES
from hyperfs.drive.ignoring import IGNORE_FILE, Ignoring
from hyperfs.drive.keyfile import MAX_SECRET_BYTES, what_secret_in
from hyperfs.drive.stat import Stat

ATTRIBUTE_PREFIX = "user."
MAX_ATTRIBUTES_BYTES = 256 * 1024
"""The names and values of one file's extended attributes together, as in a mount: they all lie in one node."""
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_ATTEMPTS = 3
_STORE = "it is a store of drives, or a copy of one, and holds secret keys"
_NOT_SUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENODATA, errno.ENOENT, errno.EPERM, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Found:
    """One thing in a folder: its path below the folder, and its Stat without a place in any content core."""

    path: str
    stat: Stat


@dataclass(frozen=True, slots=True)
class Skipped:
    """One thing that a drive cannot hold, or that could not be read, and why. Nothing below it was looked at."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """One thing that is left out because the user says so. Nothing below it was looked at."""

    path: str


@dataclass(frozen=True, slots=True)
class Contents:
    """A whole small file as it was at one instant: its Stat then, and its blocks."""

    found: Found
    blocks: list[bytes]


def scan(
    folder: Path,
    *,
    excluded: Collection[tuple[int, int]] = (),
    ignoring: Ignoring | None = None,
    with_secrets: bool = False,
) -> Iterator[Found | Skipped | Ignored]:
    """Yield everything below ``folder``, a directory before what is in it, and directories in the order of their names.

    What is imported so lies in a drive as it is walked, so that whoever reads on there finds the next behind the last.
    ``excluded`` are directories, by device and inode number, that are left out; so are stores, which hold secret keys,
    unless ``with_secrets``. ``ignoring`` says what else is; without one, what files called `.hyperfsignore` say.
    Raises OSError for ``folder`` itself; `UsageError` for a pattern in such a file that is none.
    """
    ignoring = Ignoring() if ignoring is None else ignoring
    if not with_secrets and is_store(folder):
        yield Skipped("", _STORE)
        return
    waiting = deque([""])
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(folder / directory) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
            if any(entry.name == IGNORE_FILE for entry in listed):
                ignoring.enter(folder, directory)
        except OSError as error:
            if not directory:
                raise
            yield Skipped(directory, error.strerror or str(error))
            continue
        directories: list[str] = []
        for entry in listed:
            path = names.join(directory, entry.name)
            if ignoring.leaves_out(path, is_directory=entry.is_dir(follow_symlinks=False)):
                yield Ignored(path)
                continue
            item = _look(entry, path, excluded)
            if isinstance(item, Found) and item.stat.is_directory and not with_secrets and is_store(Path(entry.path)):
                item = Skipped(path, _STORE)
            yield item
            if isinstance(item, Found) and item.stat.is_directory:
                directories.append(path)
        waiting.extend(reversed(directories))  # it is taken from the end


def what_secret(folder: Path, found: Found) -> str | None:
    """Return what secret a file that was found would give away, or None; also when it cannot be read just now."""
    if not found.stat.is_file or found.stat.size > MAX_SECRET_BYTES:
        return None
    try:
        descriptor = os.open(f"{folder}/{found.path}", _READ_FLAGS)
        try:
            return what_secret_in(os.read(descriptor, MAX_SECRET_BYTES))
        finally:
            os.close(descriptor)
    except OSError:
        return None


def is_store(folder: Path) -> bool:
    """Tell whether a directory is a store, or a copy of one, of whichever implementation."""
    try:
        status = os.lstat(folder / "master_key")
        if st.S_ISREG(status.st_mode) and status.st_size == KEY_BYTES:
            return True
    except OSError:
        pass  # there is none, or it cannot be looked at, and then not be read either
    try:
        return st.S_ISDIR(os.stat(folder / ".hyperfs").st_mode)
    except OSError:
        return False


def _look(entry: os.DirEntry[str], path: str, excluded: Collection[tuple[int, int]]) -> Found | Skipped:
    reason = names.why_not_presentable(entry.name)
    if reason is not None:
        return Skipped(path, f"a drive cannot hold its name: {reason}")
    if entry.name.startswith(names.PART_PREFIX):
        return Skipped(path, "it is what an export that was interrupted has left")
    try:
        status = entry.stat(follow_symlinks=False)
        kind = st.S_IFMT(status.st_mode)
        if kind not in (st.S_IFREG, st.S_IFDIR, st.S_IFLNK):
            return Skipped(path, "it is a device, a FIFO or a socket, which a drive does not hold")
        if kind == st.S_IFDIR and (status.st_dev, status.st_ino) in excluded:
            return Skipped(path, "the store that is imported into lies there")
        linkname = os.readlink(entry.path) if kind == st.S_IFLNK else None
        attributes = read_attributes(entry.path)
    except OSError as error:
        return Skipped(path, error.strerror or str(error))
    if sum(len(name) + len(value or b"") for name, value in attributes.items()) > MAX_ATTRIBUTES_BYTES:
        return Skipped(path, f"its extended attributes take more than {MAX_ATTRIBUTES_BYTES:,} bytes")
    return Found(path, stat_of(status, attributes, linkname))


def stat_of(status: os.stat_result, attributes: Mapping[str, bytes | None], linkname: str | None = None) -> Stat:
    """Return the Stat of a local file: times before 1970 become 0, and only a file has a size."""
    return Stat(
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size if st.S_ISREG(status.st_mode) else 0,
        mtime=max(0, status.st_mtime_ns // 1_000_000),
        linkname=linkname,
        attributes=attributes,
    )


def read_attributes(target: str | int) -> Mapping[str, bytes | None]:
    """Return the user's extended attributes of a path (not followed) or descriptor; none where there cannot be any."""
    follow = isinstance(target, int)
    try:
        listed = os.listxattr(target, follow_symlinks=follow)
        if not listed:
            return {}
        return {
            name: os.getxattr(target, name, follow_symlinks=follow)
            for name in sorted(listed)
            if name.startswith(ATTRIBUTE_PREFIX)
        }
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:
            return {}
        raise


class ReadFile:
    """One local file, read from its start, and whether it stayed as it was meanwhile. Close it.

    ``failure`` is what reading it, or looking at it again, failed of, if it did.
    """

    def __init__(self, folder: Path, found: Found) -> None:
        """Open it. Raises OSError; EINVAL when it is no regular file any more."""
        self._descriptor = os.open(folder / found.path, _READ_FLAGS)
        with ExitStack() as on_failure:
            on_failure.callback(os.close, self._descriptor)
            self._status = os.fstat(self._descriptor)
            if not st.S_ISREG(self._status.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file any more")
            self.found = Found(found.path, stat_of(self._status, self._attributes(found)))
            on_failure.pop_all()
        self.size = 0
        self.failure: OSError | None = None

    def _attributes(self, found: Found) -> Mapping[str, bytes | None]:
        """Return the attributes as they were found, or read them again when the file is another one since."""
        if found.stat.mtime == max(0, self._status.st_mtime_ns // 1_000_000):
            return found.stat.attributes
        return read_attributes(self._descriptor)

    def read_blocks(self, count: int) -> list[bytes]:
        """Return the next blocks, at most ``count``; fewer at the end."""
        blocks: list[bytes] = []
        while len(blocks) < count:
            block = os.read(self._descriptor, CHUNK_BYTES)
            while block and len(block) < CHUNK_BYTES:
                more = os.read(self._descriptor, CHUNK_BYTES - len(block))
                if not more:
                    break
                block += more
            if not block:
                break
            self.size += len(block)
            blocks.append(block)
            if len(block) < CHUNK_BYTES:
                break
        return blocks

    def read_into(self, buffer: memoryview) -> int:
        """Fill ``buffer`` with the next bytes and return how many there are: fewer at the end, or after a failure."""
        filled = 0
        try:
            while filled < len(buffer) and (count := os.readv(self._descriptor, (buffer[filled:],))):
                filled += count
        except OSError as error:
            self.failure = error
        self.size += filled
        return filled

    def read_ahead(self) -> None:
        """Have the kernel read far ahead of us, where it can."""
        with suppress(OSError):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def stayed(self) -> bool:
        """Tell whether, from opening until now, nothing changed and everything was read; see also ``failure``."""
        try:
            now = os.fstat(self._descriptor)
        except OSError as error:
            self.failure = error
            return False
        before = self._status
        return self.size == now.st_size == before.st_size and (now.st_mtime_ns, now.st_ctime_ns) == (
            before.st_mtime_ns,
            before.st_ctime_ns,
        )

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_small(folder: Path, found: Found) -> Contents | Skipped:
    """Return a whole file as it was at one instant, or why that could not be had."""
    for _ in range(_READ_ATTEMPTS):
        try:
            file = ReadFile(folder, found)
        except OSError as error:
            return Skipped(found.path, error.strerror or str(error))
        try:
            blocks = file.read_blocks(file.found.stat.size // CHUNK_BYTES + 2)
            if file.stayed():
                return Contents(file.found, blocks)
            if file.failure is not None:
                raise file.failure
        except OSError as error:
            return Skipped(found.path, error.strerror or str(error))
        finally:
            file.close()
    return Skipped(found.path, "it changed each time it was read")
