"""Writing files below one directory and nowhere else, whatever names and links are in the way.

The rules: every step is taken from a directory's descriptor and follows no symbolic link. A file is written under a
name of its own, and gets its name once its bytes are on the disk: nothing that exists is ever written through, and a
name always stands for a whole file, also after a power cut. An attribute, mode or time that cannot be set is told, and
costs nothing else. Plain blocking code for a worker thread.
"""

import errno
import os
import stat as st
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import blake2b

from hyperfs.drive import names
from hyperfs.drive.scan import ATTRIBUTE_PREFIX
from hyperfs.drive.stat import Stat
from hyperfs.errors import PathError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_MODE = 0o777
_HASH_CHUNK = 1024 * 1024
_NO_ATTRIBUTES_HERE = (errno.ENOTSUP, errno.EOPNOTSUPP)


class TargetFolder:
    """A directory to write below. Paths are normal ones of a drive, and relative to it. Close it.

    Methods raise OSError; `PathError` for a path that no drive may show.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Open ``directory``, the one path that is taken as the user gave it; make it when it is not there."""
        os.makedirs(directory, exist_ok=True)
        self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the directory."""
        os.close(self._root)

    @contextmanager
    def directory(self, path: str, *, make: bool = False) -> Iterator[int]:
        """Give the descriptor of directory ``path``, made if need be. ENOTDIR or ELOOP when it is something else."""
        descriptor = os.dup(self._root)
        try:
            for part in path.split("/") if path else ():
                if not names.is_presentable(part):
                    raise PathError(errno.EINVAL, path, f"the name {part!r} cannot be used")
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o700, dir_fd=descriptor)
                inner = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


def status_of(directory: int, name: str) -> os.stat_result | None:
    """Return what stands at ``name``, not following it, or None."""
    try:
        return os.stat(_checked(name), dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def part_name(name: str, identity: bytes) -> str:
    """Return under what name a file is written before it is whole; ``identity`` tells its content from another's."""
    return names.PART_PREFIX + blake2b(identity + name.encode(), digest_size=8).hexdigest()


class Part:
    """A file that is being written, under a name of its own. Owns its descriptor: close it.

    ``identity`` tells its content from another's. What is left of an earlier attempt at the same is gone on with.
    Methods raise OSError.
    """

    def __init__(self, directory: int, name: str, identity: bytes = b"") -> None:
        """Open it in ``directory``, to become ``name`` there.

        Something else under its own name, or a file that has another name besides, is unlinked first.
        """
        self._name = _checked(name)
        self._part = part_name(name, identity)
        self._descriptor = self._open(directory)

    def _open(self, directory: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self._part, flags, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES):
                raise
        else:
            status = os.fstat(descriptor)
            if st.S_ISREG(status.st_mode) and status.st_nlink == 1:
                return descriptor
            os.close(descriptor)
        os.unlink(self._part, dir_fd=directory)
        return os.open(self._part, flags | os.O_EXCL, 0o600, dir_fd=directory)

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return os.fstat(self._descriptor).st_size

    def holds(self, position: int, data: bytes) -> bool:
        """Tell whether it has ``data`` at ``position``."""
        return os.pread(self._descriptor, len(data), position) == data

    def go_on_from(self, position: int) -> None:
        """Cut it off at ``position``, and write from there."""
        os.ftruncate(self._descriptor, position)
        os.lseek(self._descriptor, position, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        """Write all of ``data`` behind what was written."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def begin_writeback(self) -> None:
        """Have the kernel begin to write it to the disk: waiting for many files is then waiting for one."""
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def finish(self, directory: int, stat: Stat) -> list[str]:
        """Give it attributes, mode and time, and, once it is on the disk, its name; return what could not be set."""
        unset = set_metadata(self._descriptor, stat)
        os.fdatasync(self._descriptor)
        os.rename(self._part, self._name, src_dir_fd=directory, dst_dir_fd=directory)
        return unset

    def drop(self, directory: int) -> None:
        """Unlink it."""
        os.unlink(self._part, dir_fd=directory)

    def close(self) -> None:
        """Close it; what was written stays under its own name."""
        os.close(self._descriptor)


def make_link(directory: int, name: str, target: str, stat: Stat) -> list[str]:
    """Put a symbolic link at ``name``, in place of whatever is there but a directory; return what could not be set."""
    if "\0" in target:
        raise PathError(errno.EINVAL, name, "the target of the symbolic link holds a NUL")
    part = part_name(_checked(name), b"link")
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=directory)
    os.symlink(os.fsencode(target), part, dir_fd=directory)
    try:
        unset = _attempt("time", partial(os.utime, part, ns=_times(stat), dir_fd=directory, follow_symlinks=False))
        os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:  # an interrupt leaves no half link either
        with suppress(OSError):
            os.unlink(part, dir_fd=directory)
        raise
    return unset


def link_target(directory: int, name: str) -> str:
    """Return the target of the link at ``name``."""
    return os.readlink(_checked(name), dir_fd=directory)


def set_metadata_at(directory: int, name: str, stat: Stat) -> list[str]:
    """Give a regular file or directory that is there its attributes, mode and time; return what could not be set."""
    descriptor = os.open(_checked(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        return set_metadata(descriptor, stat)
    finally:
        os.close(descriptor)


def set_metadata(descriptor: int, stat: Stat) -> list[str]:
    """Set attributes of the user's name space, permission bits and times; return what could not be set, and why.

    Never set-id bits, never another owner. Where a file system has no attributes, none are missed.
    """
    unset: list[str] = []
    for name, value in stat.present_attributes.items():
        if name.startswith(ATTRIBUTE_PREFIX) and "\0" not in name:
            key = name.encode(errors="surrogateescape")
            unset += _attempt(f"attribute {name!r}", partial(os.setxattr, descriptor, key, value))
    unset += _attempt("mode", partial(os.fchmod, descriptor, stat.mode & _KEPT_MODE))
    return unset + _attempt("time", partial(os.utime, descriptor, ns=_times(stat)))


def _attempt(what: str, action: Callable[[], None]) -> list[str]:
    try:
        action()
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTES_HERE:
            return [f"{what}: {error.strerror}"]
    return []


def digest_at(directory: int, name: str) -> bytes:
    """Return the BLAKE2b digest of the regular file at ``name``."""
    descriptor = os.open(_checked(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        digest = blake2b()
        while chunk := os.read(descriptor, _HASH_CHUNK):
            digest.update(chunk)
        return digest.digest()
    finally:
        os.close(descriptor)


def _times(stat: Stat) -> tuple[int, int]:
    nanoseconds = min(stat.mtime, (1 << 62) // 1_000_000) * 1_000_000
    return nanoseconds, nanoseconds


def _checked(name: str) -> str:
    if not names.is_presentable(name):
        raise PathError(errno.EINVAL, name, "the name cannot be used")
    return name
