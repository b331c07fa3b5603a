"""What can be asked of the daemon, and what it answers and tells: one definition for both ends.

The rule: nothing else goes through the control socket. A `Call` names its method, the answer's type, and whether it may
be asked again of the next daemon when the first went away before it had answered.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from hyperfs.core.reader import Hint, Priority
from hyperfs.daemon.answers import (
    Audited,
    CacheUse,
    CommitProgress,
    DriveTold,
    Head,
    LeaseGranted,
    MountTold,
    MountWanted,
    OpenedCore,
    PeerCount,
    SecretKeys,
    Status,
    WriterState,
)
from hyperfs.daemon.call import Call
from hyperfs.daemon.codec import Key, Via, from_plain
from hyperfs.daemon.failures import Described
from hyperfs.daemon.network_settings import NetworkChange, NetworkSettings
from hyperfs.daemon.state import MountChoices
from hyperfs.drive.commits import Operation, decode_operation, encode_operation
from hyperfs.errors import DaemonError, EncodingError

SentOperation = Annotated[Operation, Via(encode_operation, decode_operation)]


# Cores


@dataclass(frozen=True, slots=True)
class OpenCore(Call[OpenedCore]):
    """Open a core for as long as the connection lasts, and tell of its heads."""

    method: ClassVar = "core.open"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class GetHead(Call[Head]):
    """Return a core's newest head."""

    method: ClassVar = "core.head"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class Fetch(Call[None]):
    """Bring blocks; answered when they are here."""

    method: ClassVar = "core.fetch"
    repeatable: ClassVar = True
    key: Key
    ranges: tuple[range, ...]
    priority: Priority
    hint: Hint | None = None


@dataclass(frozen=True, slots=True)
class Prefetch(Call[None]):
    """Begin to bring blocks that somebody is likely to want next; answered at once."""

    method: ClassVar = "core.prefetch"
    repeatable: ClassVar = False
    key: Key
    ranges: tuple[range, ...]
    hint: Hint | None = None


@dataclass(frozen=True, slots=True)
class Seek(Call[None]):
    """Bring the block, one of ``blocks``, that holds a byte offset; answered when it is here."""

    method: ClassVar = "core.seek"
    repeatable: ClassVar = True
    key: Key
    byte_offset: int
    blocks: range
    priority: Priority


@dataclass(frozen=True, slots=True)
class Update(Call[Head]):
    """Ask the peers for a newer head; answered with it once they have answered."""

    method: ClassVar = "core.update"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class Audit(Call[Audited]):
    """Read a core's blocks again and forget those that do not match its tree."""

    method: ClassVar = "core.audit"
    key: Key


# Drives


@dataclass(frozen=True, slots=True)
class CreateDrive(Call[Key]):
    """Make a new, empty drive; answered with its key."""

    method: ClassVar = "drive.create"


@dataclass(frozen=True, slots=True)
class ListDrives(Call[tuple[DriveTold, ...]]):
    """Return every drive of which something is here, or that is named, served or mounted."""

    method: ClassVar = "drive.list"
    repeatable: ClassVar = True


@dataclass(frozen=True, slots=True)
class NameDrive(Call[None]):
    """Call a drive ``name`` in this store, or nothing, now and after each start."""

    method: ClassVar = "drive.name"
    key: Key
    name: str | None


@dataclass(frozen=True, slots=True)
class Gather(Call[None]):
    """Take in a part of a commit that is too large for one message; ``gathered`` operations came before it."""

    method: ClassVar = "drive.gather"
    operations: tuple[SentOperation, ...]
    gathered: int


@dataclass(frozen=True, slots=True)
class Commit(Call[int]):
    """Change a drive by the ``gathered`` operations and these, in one batch; answered with the version after them."""

    method: ClassVar = "drive.commit"
    key: Key
    operations: tuple[SentOperation, ...]
    gathered: int
    expected_version: int | None


@dataclass(frozen=True, slots=True)
class SyncDrive(Call[None]):
    """Answered once everything that was committed to a drive before is on disk."""

    method: ClassVar = "drive.sync"
    key: Key


@dataclass(frozen=True, slots=True)
class MakeWay(Call[bool]):
    """Give away the reserve, for a commit that a full disk stands in the way of; tells whether there was any."""

    method: ClassVar = "drive.make_way"
    key: Key


@dataclass(frozen=True, slots=True)
class PrepareToWrite(Call[None]):
    """Ask the peers whether they have more of a drive of ours than is here, and fetch it, within a short time."""

    method: ClassVar = "drive.prepare"
    key: Key


@dataclass(frozen=True, slots=True)
class GetWriterStates(Call[tuple[WriterState, ...]]):
    """Return which cores of a drive are behind, or forked."""

    method: ClassVar = "drive.standing"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class AcceptFork(Call[None]):
    """Go on with the history of a drive that is here."""

    method: ClassVar = "drive.accept_fork"
    key: Key


@dataclass(frozen=True, slots=True)
class GetSecrets(Call[SecretKeys]):
    """Return the secret keys of a drive, for the user whose store this is."""

    method: ClassVar = "drive.secrets"
    key: Key


@dataclass(frozen=True, slots=True)
class AdoptDrive(Call[None]):
    """Make a drive writable in this store."""

    method: ClassVar = "drive.adopt"
    secrets: SecretKeys


# Content


@dataclass(frozen=True, slots=True)
class LeaseContent(Call[LeaseGranted]):
    """Be the only one who appends to a drive's content; answered once that is so, until it is released."""

    method: ClassVar = "content.lease"
    key: Key


@dataclass(frozen=True, slots=True)
class AppendContent(Call[None]):
    """Append blocks of these sizes, which lie in a slot. Worked off in the order of arrival."""

    method: ClassVar = "content.append"
    lease: int
    slot: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReleaseContent(Call[None]):
    """Give a lease back; answered once everything sent under it has been appended."""

    method: ClassVar = "content.release"
    lease: int


@dataclass(frozen=True, slots=True)
class GiveBackContent(Call[None]):
    """Forget what was appended under a lease, of it the blocks from ``start`` on, which no commit names."""

    method: ClassVar = "content.give_back"
    lease: int
    start: int


@dataclass(frozen=True, slots=True)
class ClearContent(Call[None]):
    """Forget blocks of a drive's content; of a drive of ours only as it was at ``expected_version``."""

    method: ClassVar = "content.clear"
    key: Key
    ranges: tuple[range, ...]
    expected_version: int | None


@dataclass(frozen=True, slots=True)
class BlocksInUse(Call[tuple[range, ...]]):
    """Return which blocks of a content core the files that are open in mounts lie in."""

    method: ClassVar = "content.in_use"
    key: Key


# The cache


@dataclass(frozen=True, slots=True)
class GetCache(Call[CacheUse]):
    """Return the cache's limit and what is in it."""

    method: ClassVar = "cache.show"
    repeatable: ClassVar = True


@dataclass(frozen=True, slots=True)
class LimitCache(Call[None]):
    """Keep at most ``limit`` bytes of others' content, now and after each start; answered when that is so."""

    method: ClassVar = "cache.limit"
    limit: int | None


# Peers, and what they are given


@dataclass(frozen=True, slots=True)
class CountPeers(Call[PeerCount]):
    """Return how many peers there are, and how those of core ``key`` were looked for."""

    method: ClassVar = "peers.count"
    repeatable: ClassVar = True
    key: Key


@dataclass(frozen=True, slots=True)
class UsePeers(Call[None]):
    """Dial these peers (``HOST:PORT``) while the connection lasts."""

    method: ClassVar = "peers.use"
    repeatable: ClassVar = True
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddPeers(Call[None]):
    """Dial these peers now and after each start."""

    method: ClassVar = "peers.add"
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemovePeers(Call[None]):
    """Dial these peers, which were added, no more."""

    method: ClassVar = "peers.remove"
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Serve(Call[tuple[str, ...]]):
    """Offer a drive, now and after each start; answered with the addresses at which peers can reach us."""

    method: ClassVar = "serve"
    key: Key
    listen: tuple[str, ...]
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pin(Call[tuple[str, ...]]):
    """Keep all of a drive here, as it grows, and offer it, now and after each start; answered as `Serve`."""

    method: ClassVar = "drive.pin"
    repeatable: ClassVar = True
    key: Key
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unpin(Call[None]):
    """Keep it no more than any other drive."""

    method: ClassVar = "drive.unpin"
    key: Key


@dataclass(frozen=True, slots=True)
class Unserve(Call[None]):
    """Offer a drive no more; with the last one, stop listening."""

    method: ClassVar = "unserve"
    key: Key


@dataclass(frozen=True, slots=True)
class Listen(Call[tuple[str, ...]]):
    """Accept peers at these addresses, too, now and after each start; answered with all that are listened at."""

    method: ClassVar = "listen"
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unlisten(Call[tuple[str, ...]]):
    """Accept nobody any more at these addresses, which were chosen; answered with those that are listened at."""

    method: ClassVar = "unlisten"
    addresses: tuple[str, ...]


# Mounts


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


# The daemon


@dataclass(frozen=True, slots=True)
class ChangeNetwork(Call[NetworkSettings]):
    """Be in the network another way, until the daemon ends; answered with all settings that are in force then."""

    method: ClassVar = "network.change"
    repeatable: ClassVar = True
    change: NetworkChange


@dataclass(frozen=True, slots=True)
class GetStatus(Call[Status]):
    """Return everything that there is to know."""

    method: ClassVar = "status"
    repeatable: ClassVar = True


@dataclass(frozen=True, slots=True)
class Stop(Call[tuple[str, ...]]):
    """End the daemon; answered once its mounts have ended, with what stays staged of them, a line each.

    The process itself may not have ended yet when this is answered.
    """

    method: ClassVar = "stop"


CALLS: Final[dict[str, type[Call[Any]]]] = {
    kind.method: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Call) and kind is not Call
}


def decode_call(method: str, arguments: object) -> Call[Any]:
    """Return what is asked.

    Raises:
        DaemonError: nothing of that name can be asked.
        EncodingError: a field is missing, unknown, or of another type.
    """
    kind = CALLS.get(method)
    if kind is None:
        raise DaemonError(
            f"the daemon does not know what {method!r:.80} means: `hyperfs stop` ends one of another version"
        )
    return from_plain(kind, arguments)


# What is told unasked


@dataclass(frozen=True, slots=True)
class WhichInUse:
    """To a mount's process: which blocks of core ``key`` do open files lie in? Answered by `MountUses`."""

    question: int
    key: Key


News = Head | WhichInUse

_NEWS: Final[dict[str, type[News]]] = {kind.__name__: kind for kind in (Head, WhichInUse)}


def decode_news(name: str, arguments: object) -> News:
    """Return what is told. Raises `EncodingError`."""
    if name not in _NEWS:
        raise EncodingError(f"the daemon tells of {name!r:.80}, which is unknown")
    news = from_plain(_NEWS[name], arguments)
    assert isinstance(news, Head | WhichInUse)
    return news
