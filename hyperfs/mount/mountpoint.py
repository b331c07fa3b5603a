"""Mount points: whether one can be used, what is mounted there, how it is unmounted, and the kernel's settings for it.

The rule: nothing here asks the file system that is mounted anything that it, being this very process, would have to
answer, except `prepare`, which runs before the mount. Does not import pyfuse3. Everything may block: use a thread.
"""

import ctypes
import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hyperfs.errors import MountFailed, short

logger = logging.getLogger(__name__)

FUSE_DEVICE = Path("/dev/fuse")
_FUSE_NUMBER = os.makedev(10, 229)
FUSE_CONFIGURATION = Path("/etc/fuse.conf")
FUSERMOUNT = "fusermount3"
FILE_SYSTEM_TYPE = "fuse.hyperfs"
READ_AHEAD_KIB = 1024
MAX_BACKGROUND = 4096
CONNECTIONS = Path("/sys/fs/fuse/connections")
_MOUNTINFO = Path("/proc/self/mountinfo")
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8


@dataclass(frozen=True, slots=True)
class Mounted:
    """A line of /proc/self/mountinfo: ``device`` is ``major:minor``, ``source`` what `source_of` says of a drive."""

    device: str
    file_system_type: str
    source: str


def mounted_at(mountpoint: str) -> Mounted | None:
    """Return what is mounted (topmost) at exactly ``mountpoint``, an absolute path without links, or None."""
    found = None
    for fields in _mountinfo():
        if fields[4] == mountpoint:
            file_system_type, source = fields[fields.index("-") + 1 :][:2]
            found = Mounted(fields[2], file_system_type, source)
    return found


def is_drive_at(mountpoint: str) -> bool:
    """Tell whether a drive is mounted (topmost) at exactly ``mountpoint``, dead or alive."""
    return _is_drive(mounted_at(mountpoint))


def is_dead(mountpoint: str) -> bool:
    """Tell whether ``mountpoint`` is one whose file system process is gone.

    Asks for statfs, which is never answered from the kernel's caches, as a stat of the root can be.
    """
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def prepare(mountpoint: str, *, allow_other: bool = False) -> str:
    """Return the real, absolute path of a mount point after seeing that a drive can be mounted there.

    A dead mount found there is unmounted first. Raises `MountFailed`.
    """
    _check_fuse(allow_other=allow_other)
    absolute = os.path.abspath(mountpoint)
    path = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))
    take_away_dead(path)
    path = os.path.realpath(path)
    mounted = mounted_at(path)
    if mounted is not None and mounted.file_system_type == FILE_SYSTEM_TYPE:
        raise _failed(path, errno.EBUSY, "a drive is mounted there already; unmount it or choose another folder")
    try:
        with os.scandir(path) as entries:
            empty = next(entries, None) is None
    except FileNotFoundError as error:
        raise _failed(path, errno.ENOENT, "no such folder to mount at; create it first") from error
    except NotADirectoryError as error:
        raise _failed(path, errno.ENOTDIR, "not a folder, so nothing can be mounted there; choose one") from error
    except OSError as error:
        raise _failed(
            path, error.errno or errno.EIO, f"cannot be used as a mount point: {error.strerror}; choose another"
        ) from error
    if not empty:
        raise _failed(
            path, errno.ENOTEMPTY, "not an empty folder; mounting there would hide what it holds: choose an empty one"
        )
    if os.geteuid() != 0 and not os.access(path, os.W_OK):
        raise _failed(path, errno.EACCES, "not permitted: the folder to mount at must be yours to write")
    return path


def processes_in(mountpoint: str) -> list[int]:
    """Return which processes have a file or a folder at or below ``mountpoint`` open, or are there: what keeps it busy.

    Other users' are seen by root alone. ``mountpoint`` is absolute and without links.
    """
    below = mountpoint + "/"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        places = [process / "cwd", process / "root"]
        for folder in (process / "fd", process / "map_files"):
            try:
                places += folder.iterdir()
            except OSError:
                continue  # it has ended, or is none of ours to look at
        for place in places:
            try:
                path = os.readlink(place)
            except OSError:
                continue
            if path == mountpoint or path.startswith(below):
                found.append(int(process.name))
                break
    return found


def source_of(key: bytes) -> str:
    """Return what stands as the device where the drive of ``key`` is mounted."""
    return f"hyperfs:{short(key)}"


def unmount(mountpoint: str, key: bytes) -> None:
    """Unmount ``mountpoint``; do nothing when the drive of ``key`` is not mounted there (any more).

    Raises:
        MountFailed: somebody is in it.
    """
    mounted = mounted_at(mountpoint)
    if (
        mounted is not None
        and _is_drive(mounted)
        and mounted.source == source_of(key)
        and not _take_away(mountpoint, lazily=False)
    ):
        raise _failed(
            mountpoint,
            errno.EBUSY,
            f"somebody is in it; `fuser -vm {mountpoint}` shows who, --lazy takes it away all the same",
        )


def unmount_lazily(mountpoint: str) -> None:
    """Take a drive's mount out of the tree now, whoever is still inside; do nothing when none is mounted there."""
    if _is_drive(mounted_at(mountpoint)):
        _take_away(mountpoint, lazily=True)


def take_away_dead(mountpoint: str) -> bool:
    """Unmount ``mountpoint`` if a drive is mounted there whose process is gone; tell whether there was one.

    Raises:
        MountFailed: it cannot be unmounted.
    """
    if not _is_drive(mounted_at(mountpoint)) or not is_dead(mountpoint):
        return False
    logger.info("%s: a mount whose process is gone: unmounting it", mountpoint)
    unmount_lazily(mountpoint)
    if is_dead(mountpoint):
        raise _failed(mountpoint, errno.ENOTCONN, "a dead mount that cannot be unmounted; try `fusermount3 -uz` on it")
    return True


def _is_drive(mounted: Mounted | None) -> bool:
    return mounted is not None and mounted.file_system_type == FILE_SYSTEM_TYPE


def _take_away(mountpoint: str, *, lazily: bool) -> bool:
    """Unmount the drive at ``mountpoint``; tell whether it is away, False when somebody is in it.

    As root it goes by a descriptor of the folder above and follows no link, so that nobody to whom a part of the path
    belongs can have something else unmounted; for other users fusermount3 sees to that.
    """
    if os.geteuid() == 0:
        return _unmount_as_root(mountpoint, lazily=lazily)
    program = shutil.which(FUSERMOUNT)
    if program is None:
        raise MountFailed(f"{mountpoint}: {FUSERMOUNT} is missing; install the package fuse3")
    command = [program, "-u", *(["-z"] if lazily else []), "-q", "--", mountpoint]
    subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    return lazily or not _is_drive(mounted_at(mountpoint))


def _unmount_as_root(mountpoint: str, *, lazily: bool) -> bool:
    parent, name = os.path.split(mountpoint)
    try:
        above = open_without_links(parent)
    except OSError as error:
        raise _failed(
            mountpoint, error.errno or errno.EIO, f"leads elsewhere by now: {error.strerror}; `findmnt` shows the mount"
        ) from error
    try:
        mounted = _mount_ids(mountpoint)
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            is_the_one = _mount_id_of(found) in mounted
        finally:
            os.close(found)  # or the folder would be in use by ourselves
        if not is_the_one:
            raise _failed(mountpoint, errno.EINVAL, "what is mounted there now is no drive; look at `findmnt` first")
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazily else 0)
        libc = _libc()
        if libc.umount2(os.fsencode(f"/proc/self/fd/{above}/{name}"), flags) == 0:
            return True
        code = ctypes.get_errno()
        if code == errno.EBUSY:
            return False
        raise _failed(mountpoint, code, f"cannot be unmounted: {os.strerror(code)}; `findmnt` shows what is there")
    finally:
        os.close(above)


class Folder:
    """The folder to mount at, which cannot become another one between the checks, the mount and the unmount.

    As root ``path`` goes by a descriptor that this owns until `close`: a user to whom a part of the path belongs could
    put a link in its place. For other users fusermount3 sees to that.
    """

    def __init__(self, path: str) -> None:
        """Take hold of ``path``, absolute and without links. Raises `MountFailed`."""
        self.path = path
        self._descriptor: int | None = None
        if os.geteuid() == 0:
            try:
                self._descriptor = open_without_links(path)
            except OSError as error:
                raise _failed(
                    path, error.errno or errno.EIO, f"leads elsewhere by now, or nowhere: {error.strerror}; mount again"
                ) from error
            self.path = f"/proc/self/fd/{self._descriptor}"

    def close(self) -> None:
        """Let go of the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_without_links(path: str) -> int:
    """Return a descriptor, for use in other calls only, of the folder at ``path``, absolute, following no link.

    Raises:
        OSError: it is not there, or a part of the path is a link (ENOTDIR, ELOOP).
    """
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in filter(None, path.split("/")):
        try:
            inside = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inside
    return descriptor


def _mount_ids(mountpoint: str) -> set[int]:
    """Return the kernel's numbers of the drives that are mounted at ``mountpoint``."""
    return {
        int(fields[0])
        for fields in _mountinfo()
        if fields[4] == mountpoint and fields[fields.index("-") + 1] == FILE_SYSTEM_TYPE
    }


def _mount_id_of(descriptor: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id":
            return int(value)
    raise OSError(errno.EIO, "the kernel does not tell which mount a descriptor is of")


def abort(device: str) -> None:
    """End a FUSE connection by force: every request that waits in it fails. The last resort; may not be permitted."""
    _write_setting(_connection(device) / "abort", 1)


def tune(device: str) -> None:
    """Raise the kernel's limits for one mount, as far as permitted: ``device`` is its ``major:minor``.

    Twelve reads in the background, the kernel's default, would let twelve readers of absent blocks stop everybody
    else; and requests of 128 KiB halve the speed of sequential reading. Call it after the kernel's INIT was answered,
    which would set the readahead back.
    """
    _mount_fusectl(device)
    connection = _connection(device)
    if not (
        _write_setting(connection / "max_background", MAX_BACKGROUND)
        and _write_setting(connection / "congestion_threshold", MAX_BACKGROUND * 3 // 4)
    ):
        logger.warning(
            "%s cannot be written: a dozen reads that wait for peers will delay all other reads of this mount; "
            "mount fusectl at %s to avoid this",
            connection,
            CONNECTIONS,
        )
    _write_setting(Path("/sys/class/bdi") / device / "read_ahead_kb", READ_AHEAD_KIB)


def _check_fuse(*, allow_other: bool) -> None:
    if not FUSE_DEVICE.exists():
        raise MountFailed(f"no FUSE on this machine: {FUSE_DEVICE} is missing (is the fuse module loaded?)")
    if os.stat(FUSE_DEVICE).st_rdev != _FUSE_NUMBER:
        raise MountFailed(f"no FUSE on this machine: {FUSE_DEVICE} is not the device of that name")
    if os.geteuid() == 0:
        try:
            os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise MountFailed(
                f"no FUSE here: {FUSE_DEVICE} cannot be opened ({error.strerror}); a container has to be given it"
            ) from error
        return
    if shutil.which(FUSERMOUNT) is None:
        raise MountFailed(f"no FUSE for users on this machine: {FUSERMOUNT} is missing; install the package fuse3")
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        raise MountFailed(f"{FUSE_DEVICE} is not yours to open; ask who runs this machine for access to it")
    if allow_other and "user_allow_other" not in _words(FUSE_CONFIGURATION):
        raise MountFailed(f"letting other users in needs a line `user_allow_other` in {FUSE_CONFIGURATION}")


def _words(configuration: Path) -> set[str]:
    try:
        lines = configuration.read_text().splitlines()
    except OSError:
        return set()
    return {line.strip() for line in lines}


def _failed(path: str, code: int, message: str) -> MountFailed:
    error = MountFailed(f"{path}: {message}")
    error.errno = code
    return error


def _mountinfo() -> Iterator[list[str]]:
    for line in _MOUNTINFO.read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        fields[4] = _unescape(fields[4])
        yield fields


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    first, *others = text.split("\\")
    return first + "".join(chr(int(other[:3], 8)) + other[3:] for other in others)


def _connection(device: str) -> Path:
    return CONNECTIONS / device.partition(":")[2]


def _mount_fusectl(device: str) -> None:
    """Mount the control file system where systemd, which usually does this, has not."""
    if os.geteuid() == 0 and CONNECTIONS.is_dir() and not _connection(device).exists():
        _libc().mount(b"fusectl", os.fsencode(CONNECTIONS), b"fusectl", ctypes.c_ulong(0), None)


def _write_setting(path: Path, value: int) -> bool:
    try:
        path.write_text(str(value))
    except OSError as error:
        logger.debug("%s stays as it is: %s", path, error.strerror)
        return False
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
