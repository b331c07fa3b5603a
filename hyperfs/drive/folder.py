"""Writing files below one directory and nowhere else, whatever names and links are in the way.

The rule: every step is taken from a directory's descriptor and follows no symbolic link, and a file is written under a
name of its own and then renamed, so that nothing that exists is ever written through. Plain blocking code for a worker
thread.
"""

import errno
import os
import stat as st
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b

from hyperfs.drive import names
from hyperfs.drive.scan import ATTRIBUTE_PREFIX
from hyperfs.drive.stat import Stat
from hyperfs.errors import PathError

PART_PREFIX = ".hyperfs-part-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_MODE = 0o777
_HASH_CHUNK = 1024 * 1024
_NO_ATTRIBUTES_HERE = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.E2BIG, errno.ENOSPC, errno.ERANGE)


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


def write_file(directory: int, name: str, content: bytes, stat: Stat) -> None:
    """Put a whole small file at ``name``, in place of whatever is there but a directory."""
    part = open_part(directory, name, b"")
    try:
        os.ftruncate(part, 0)
        write_all(part, content)
        finish_part(directory, part, name, b"", stat)
    except BaseException:  # an interrupt leaves no half file either
        with suppress(OSError):
            os.unlink(part_name(name, b""), dir_fd=directory)
        raise
    finally:
        os.close(part)


def part_name(name: str, identity: bytes) -> str:
    """Return under what name a file is written before it is whole; ``identity`` tells its content from another's."""
    return PART_PREFIX + blake2b(identity + name.encode(), digest_size=8).hexdigest()


def open_part(directory: int, name: str, identity: bytes) -> int:
    """Open the file in which ``name`` is being written: a new one, or what is left of an earlier attempt.

    Something else under that name, or a file that has another name besides, is unlinked first.
    """
    part = part_name(_checked(name), identity)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(part, flags, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise
    else:
        status = os.fstat(descriptor)
        if st.S_ISREG(status.st_mode) and status.st_nlink == 1:
            return descriptor
        os.close(descriptor)
    os.unlink(part, dir_fd=directory)
    return os.open(part, flags | os.O_EXCL, 0o600, dir_fd=directory)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data`` where the descriptor stands."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def finish_part(directory: int, descriptor: int, name: str, identity: bytes, stat: Stat) -> None:
    """Give a written file its attributes, mode and time, and then its name."""
    set_metadata(descriptor, stat)
    os.rename(part_name(name, identity), _checked(name), src_dir_fd=directory, dst_dir_fd=directory)


def make_link(directory: int, name: str, target: str, stat: Stat) -> None:
    """Put a symbolic link at ``name``, in place of whatever is there but a directory."""
    part = part_name(_checked(name), b"link")
    with suppress(FileNotFoundError):
        os.unlink(part, dir_fd=directory)
    os.symlink(os.fsencode(target), part, dir_fd=directory)
    try:
        os.utime(part, ns=_times(stat), dir_fd=directory, follow_symlinks=False)
        os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:  # an interrupt leaves no half link either
        with suppress(OSError):
            os.unlink(part, dir_fd=directory)
        raise


def link_target(directory: int, name: str) -> str:
    """Return the target of the link at ``name``."""
    return os.readlink(_checked(name), dir_fd=directory)


def set_metadata_at(directory: int, name: str, stat: Stat) -> None:
    """Give a regular file or directory that is there its attributes, mode and time."""
    descriptor = os.open(_checked(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        set_metadata(descriptor, stat)
    finally:
        os.close(descriptor)


def set_metadata(descriptor: int, stat: Stat) -> None:
    """Set attributes of the user's name space, permission bits and times; never set-id bits, never another owner."""
    for name, value in stat.present_attributes.items():
        if name.startswith(ATTRIBUTE_PREFIX) and "\0" not in name:
            try:
                os.setxattr(descriptor, name.encode(errors="surrogateescape"), value)
            except OSError as error:
                if error.errno not in _NO_ATTRIBUTES_HERE:
                    raise
    os.fchmod(descriptor, stat.mode & _KEPT_MODE)
    os.utime(descriptor, ns=_times(stat))


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
