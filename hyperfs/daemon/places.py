"""Where things are: the default store, hyperfs's own files in it, and the control socket.

The rule: the socket lies in a directory that only its user may enter (checked, not hoped), and that nobody else could
have made before him; each store has exactly one.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hyperfs.daemon.locks import LockFile
from hyperfs.errors import DaemonError, UsageError


@dataclass(frozen=True, slots=True)
class StagedDrive:
    """A drive, its key in hex, to which was written through a mount what is not in it yet.

    ``bytes`` is what the files' contents take, without names and attributes; ``process`` that of the mount that will
    commit it, None when none is there.
    """

    key: str
    bytes: int
    process: int | None


@dataclass(frozen=True, slots=True)
class Places:
    """The paths that belong to one store. ``store`` is absolute and free of symbolic links."""

    store: Path

    def is_there(self) -> bool:
        """Tell whether there is a store, of hyperfs or of the reference."""
        return self.own.is_dir() or (self.store / "master_key").exists()

    @property
    def own(self) -> Path:
        """hyperfs's own directory in the store; the reference never looks there."""
        return self.store / ".hyperfs"

    @property
    def start_lock(self) -> Path:
        """Held by a command while it looks for the daemon and starts it."""
        return self.own / "start.lock"

    @property
    def announcement(self) -> Path:
        """Written by a running daemon: its pid and where its socket is."""
        return self.own / "daemon.json"

    @property
    def log(self) -> Path:
        """Where a daemon that a command started writes what it has to say."""
        return self.own / "daemon.log"

    @property
    def state(self) -> Path:
        """What is served and mounted, and with which peers."""
        return self.own / "state.json"

    @property
    def mounts(self) -> Path:
        """One lock file for each mount."""
        return self.own / "mounts"

    @property
    def maps(self) -> Path:
        """One shared map for each open core."""
        return self.own / "maps"

    def map(self, discovery_key: bytes) -> Path:
        """The shared map of a core."""
        return self.maps / f"{discovery_key.hex()}.map"

    def mount_lock(self, id: str) -> Path:
        """The lock that the process of mount ``id`` holds."""
        self.mounts.mkdir(mode=0o700, exist_ok=True)
        return self.mounts / f"{id}.lock"

    def staging(self, key: bytes) -> Path:
        """What was written to a drive through its mount and is not in it yet."""
        return self.own / "staging" / key.hex()

    def has_staged(self, key: bytes) -> bool:
        """Tell whether something is staged that no mount of the drive has committed."""
        return any(self.staging(key).glob("*.journal"))

    def staged(self, key: bytes | None = None) -> tuple[StagedDrive, ...]:
        """Return of which drives, of all or of ``key`` alone, something is staged. Reads folders: may block."""
        found = []
        for folder in sorted(self.own.glob(f"staging/{'*' if key is None else key.hex()}")):
            if any(folder.glob("*.journal")):
                size = sum(_size_of(segment) for segment in folder.glob("*.data"))
                found.append(StagedDrive(folder.name, size, LockFile(folder / "lock").holding_process()))
        return tuple(found)

    def set_aside(self, key: bytes | None = None) -> tuple[str, ...]:
        """Return the folders of what mounts could not take up again, and keep for the user to look at."""
        return tuple(sorted(map(str, self.own.glob(f"staging/{'*' if key is None else key.hex()}/set-aside/*"))))

    def unmounted_note(self, id: str) -> Path:
        """What the process of mount ``id`` leaves when its folder was unmounted and no daemon was there to hear it."""
        return self.mounts / f"{id}.unmounted"

    def socket(self) -> Path:
        """Return where this store's control socket belongs: in the user's runtime directory, else in the store itself.

        Its directory is made, and checked. The path may be too long for a socket address: see `socket_address`.

        Raises:
            DaemonError: the directory is not this user's alone.
        """
        runtime = _runtime_directory()
        if runtime is None:
            return _in_private_directory(self.own / "control.sock")
        name = hashlib.blake2b(os.fsencode(self.store), digest_size=8).hexdigest() + ".sock"
        return _in_private_directory(runtime / "hyperfs" / name)


@contextmanager
def socket_address(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield an address for the socket at ``path`` that is short enough for any path, and valid as long as the context.

    Raises:
        OSError: its directory is not there.
    """
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def mount_id_at(mountpoint: str | os.PathLike[str]) -> str:
    """Return the id of the mount at ``mountpoint``, absolute and without links, in whichever store."""
    return hashlib.blake2b(os.fsencode(mountpoint), digest_size=8).hexdigest()


def default_store() -> Path:
    """Return the store that is used when none is named, in the XDG data home."""
    data = os.environ.get("XDG_DATA_HOME")
    base = Path(data) if data and os.path.isabs(data) else Path.home() / ".local" / "share"
    return base / "hyperfs"


def places_of(store: str | os.PathLike[str]) -> Places:
    """Return the places of a store; its directory, and hyperfs's own within, are made when they are missing.

    Raises:
        UsageError: something else is kept there.
        OSError: they cannot be made.
    """
    from hyperfs.core.store import refuse_other_folder  # late: what only prints help does without all that it takes

    path = Path(store).expanduser()
    try:
        refuse_other_folder(path)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        places = Places(path.resolve())
        places.own.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        reason = "something else is there" if isinstance(error, FileExistsError) else error.strerror
        raise OSError(error.errno, f"no store can be kept here: {reason}", str(path)) from error
    return places


def refuse_overlap(mountpoint: Path, store: Path) -> None:
    """Refuse a mount point above, inside, or at the store: reading the store would then wait for the mount.

    ``mountpoint`` and ``store`` are absolute and free of symbolic links.

    Raises:
        UsageError: they overlap.
    """
    if mountpoint == store or mountpoint in store.parents or store in mountpoint.parents:
        raise UsageError(f"{mountpoint}: a mount point cannot be above or inside the store {store}; choose another")


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # committed meanwhile
        return 0


def _runtime_directory() -> Path | None:
    """Return the user's runtime directory; None when there is none in which only he can make anything."""
    named = os.environ.get("XDG_RUNTIME_DIR")
    if not named or not os.path.isabs(named):
        return None
    try:
        info = os.stat(named)
    except OSError:
        return None
    is_ours = stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o022
    return Path(named) if is_ours else None


def _in_private_directory(path: Path) -> Path:
    directory = path.parent
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        info = os.lstat(directory)
    except OSError as error:
        raise DaemonError(
            f"no directory for the control socket ({error}); name one of yours in XDG_RUNTIME_DIR"
        ) from error
    # root may use a store of somebody else's, who then can do no more than keep root from using it
    is_ours = info.st_uid == os.geteuid() or os.geteuid() == 0
    if not stat.S_ISDIR(info.st_mode) or not is_ours or info.st_mode & 0o077:
        raise DaemonError(
            f"{directory}: must be a directory that only you may enter; `chmod 700` it if it is yours, or remove it"
        )
    return path
