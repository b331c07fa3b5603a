"""Where things are: the default store, hyperfs's own files in it, and the control socket.

The rule: the socket lies in a directory that only its user may enter (checked, not hoped), its path fits a socket
address, and each store has exactly one.
"""

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hyperfs.errors import DaemonError, UsageError

MAX_SOCKET_PATH = 107
"""Bytes: Linux allows 108 with the closing zero."""


@dataclass(frozen=True, slots=True)
class Places:
    """The paths that belong to one store. ``store`` is absolute and free of symbolic links."""

    store: Path

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

    def unmounted_note(self, id: str) -> Path:
        """What the process of mount ``id`` leaves when its folder was unmounted and no daemon was there to hear it."""
        return self.mounts / f"{id}.unmounted"

    def socket(self) -> Path:
        """Return where this store's control socket belongs. Its directory is made, and checked.

        Raises:
            DaemonError: the directory is not this user's alone.
        """
        name = hashlib.blake2b(os.fsencode(self.store), digest_size=8).hexdigest() + ".sock"
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        if runtime and os.path.isabs(runtime) and os.path.isdir(runtime):
            path = Path(runtime, "hyperfs", name)
            if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
                return _in_private_directory(path)
        path = Path(tempfile.gettempdir(), f"hyperfs-{os.geteuid()}", name)
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            path = Path("/tmp", f"hyperfs-{os.geteuid()}", name)
        return _in_private_directory(path)


def default_store() -> Path:
    """Return the store that is used when none is named: ``$HYPERFS_STORE``, or in the XDG data home."""
    named = os.environ.get("HYPERFS_STORE")
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME")
    base = Path(data) if data and os.path.isabs(data) else Path.home() / ".local" / "share"
    return base / "hyperfs"


def places_of(store: str | os.PathLike[str]) -> Places:
    """Return the places of a store; its directory, and hyperfs's own within, are made when they are missing.

    Raises:
        OSError: they cannot be made.
    """
    path = Path(store).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
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


def _in_private_directory(path: Path) -> Path:
    directory = path.parent
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        info = os.lstat(directory)
    except OSError as error:
        raise DaemonError(f"no directory for the control socket: {error}") from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
        raise DaemonError(f"{directory}: must be a directory that only you may enter (mode 0700); remove it and retry")
    return path
