"""What is asked of the daemon about mounts, by commands and by the mounts' own processes, and what it asks them."""

from dataclasses import dataclass
from typing import ClassVar

from hyperfs.daemon.answers import CommitProgress, MountTold, MountWanted
from hyperfs.daemon.call import Call
from hyperfs.daemon.codec import Key
from hyperfs.daemon.failures import Described
from hyperfs.daemon.state import MountChoices


@dataclass(frozen=True, slots=True)
class MountDrive(Call[str]):
    """Mount a drive, now and after each start; answered with the mount's id once the folder is ready."""

    method: ClassVar = "mount.add"
    key: Key
    version: int | None
    label: str
    mountpoint: str
    options: MountChoices
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListMounts(Call[tuple[MountTold, ...]]):
    """Return every mount."""

    method: ClassVar = "mount.list"
    repeatable: ClassVar = True


@dataclass(frozen=True, slots=True)
class Unmount(Call[None]):
    """Unmount and forget; answered once what was written is committed and the mount is gone.

    Fails with `StillStaged` when it is gone and something stays staged.
    """

    method: ClassVar = "mount.remove"
    id: str


@dataclass(frozen=True, slots=True)
class WaitUnmounted(Call[None]):
    """Answered once a mount is gone, whoever ended it. Fails as `Unmount`."""

    method: ClassVar = "mount.wait"
    repeatable: ClassVar = True
    id: str


@dataclass(frozen=True, slots=True)
class AttachMount(Call[MountWanted]):
    """From a mount's process: it serves this mount."""

    method: ClassVar = "mount.attach"
    id: str
    pid: int


@dataclass(frozen=True, slots=True)
class MountReady(Call[None]):
    """From a mount's process: the folder answers, and may be written to or not."""

    method: ClassVar = "mount.ready"
    id: str
    writable: bool


@dataclass(frozen=True, slots=True)
class MountLives(Call[None]):
    """From a mount's process, now and then: it is alive, and, once its folder is away, so far with its last commit."""

    method: ClassVar = "mount.lives"
    id: str
    committing: CommitProgress | None


@dataclass(frozen=True, slots=True)
class MountEnds(Call[None]):
    """From a mount's process: it ends, of a failure, because its folder was unmounted, or since it was told to.

    ``staged``: why something that was written is not in the drive yet, and is kept for the next mount.
    """

    method: ClassVar = "mount.ends"
    id: str
    failure: Described | None
    unmounted: bool
    staged: str | None


@dataclass(frozen=True, slots=True)
class MountUses(Call[None]):
    """From a mount's process: the answer to `WhichInUse`."""

    method: ClassVar = "mount.uses"
    question: int
    ranges: tuple[range, ...]


@dataclass(frozen=True, slots=True)
class LinkInMount(Call[int | None]):
    """Mount drive ``target`` (None: unmount what is) at ``path`` of drive ``key``, by the mount that writes that one.

    Answered with the version that has it so; None when no mount writes the drive, and nothing was done.
    """

    method: ClassVar = "mount.link"
    key: Key
    path: str
    target: Key | None
    version: int | None


@dataclass(frozen=True, slots=True)
class MountLinked(Call[None]):
    """From a mount's process: the answer to `Link`, as of `LinkInMount`."""

    method: ClassVar = "mount.linked"
    question: int
    version: int | None
    failure: Described | None


@dataclass(frozen=True, slots=True)
class Link:
    """To a mount's process: do what `LinkInMount` says if you write drive ``key``. Answered by `MountLinked`."""

    question: int
    key: Key
    path: str
    target: Key | None
    version: int | None


@dataclass(frozen=True, slots=True)
class WhichInUse:
    """To a mount's process: which blocks of core ``key`` do open files lie in? Answered by `MountUses`."""

    question: int
    key: Key
