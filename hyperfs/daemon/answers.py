"""What the daemon answers and tells, as values; `requests` says to what.

The rule: one definition for both ends. Keys are bytes where a client goes on with them, and hex where they are shown.
"""

from dataclasses import dataclass

from hyperfs.daemon.codec import Key
from hyperfs.daemon.network_settings import NetworkSettings
from hyperfs.daemon.state import MountChoices


@dataclass(frozen=True, slots=True)
class Head:
    """A core's newest head: its length in blocks, and in bytes. Also told unasked, of each core that is open."""

    key: Key
    length: int
    byte_length: int


@dataclass(frozen=True, slots=True)
class OpenedCore:
    """Where a core's files and its shared map are, and its head."""

    head: Head
    directory: str
    map: str
    writable: bool


@dataclass(frozen=True, slots=True)
class Audited:
    """How many blocks were here, and which of them were damaged and are forgotten now."""

    here: int
    bad: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ForkTold:
    """The other history of a core of ours: how long it is, who showed it, and whether the user has decided."""

    length: int
    peer: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class WriterState:
    """A core of ours that is behind its peers, with what is missing in words, or forked. ``core`` is its key in hex."""

    core: str
    length: int
    behind: str | None
    fork: ForkTold | None


@dataclass(frozen=True, slots=True)
class SecretKeys:
    """The 64-byte secret keys of a drive's two cores, and their lengths in blocks. Not to be logged."""

    drive: bytes
    content: bytes
    lengths: tuple[int, int]


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """A lease on a content core, which has this length. ``descriptor``, of the slots, comes with the message."""

    lease: int
    length: int
    byte_length: int
    descriptor: int


@dataclass(frozen=True, slots=True)
class CachedDrive:
    """A drive of somebody else's, its key in hex, and how many bytes its content takes here."""

    key: str
    bytes: int


@dataclass(frozen=True, slots=True)
class CacheUse:
    """The limit in bytes for copies of others' content (None: none), and what there is of it."""

    limit: int | None
    drives: tuple[CachedDrive, ...]


@dataclass(frozen=True, slots=True)
class DriveTold:
    """One drive of the store. ``version`` is 0 while nothing of it is here.

    ``content_bytes`` are those of all versions, ``local_bytes`` how many the disk gives to them; ``changed`` is when
    the newest version says that it was made, in milliseconds since 1970.
    """

    key: str
    name: str | None
    writable: bool
    version: int
    content_bytes: int
    local_bytes: int
    served: bool
    pinned: bool
    mountpoints: tuple[str, ...]
    changed: int | None


@dataclass(frozen=True, slots=True)
class PeerCount:
    """How many peers are connected, how many are dialled, and which of these could not be reached, and why.

    ``looked``: where peers of a core were looked for, and how that went, in words; empty when nowhere.
    """

    connected: int
    dialled: int
    unreached: dict[str, str]
    looked: str


@dataclass(frozen=True, slots=True)
class CommitProgress:
    """How much of what was written to a mount is in the drive, when its folder was taken away."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class MountTold:
    """A mount as it stands. ``error`` is what the last try ended of; ``writable`` is None until the folder answered.

    ``committing``, where it is given: the folder is away, and what was written to it is being committed.
    """

    id: str
    key: str
    version: int | None
    mountpoint: str
    label: str
    state: str
    writable: bool | None
    pid: int | None
    error: str | None
    committing: CommitProgress | None = None


@dataclass(frozen=True, slots=True)
class MountWanted:
    """What a mount's process is to mount."""

    key: Key
    version: int | None
    mountpoint: str
    options: MountChoices


@dataclass(frozen=True, slots=True)
class ServedDrive:
    """A drive that is offered to peers, its key in hex."""

    key: str
    version: int
    peers: int
    named_peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DriveAtWork:
    """A drive that is in use, its key in hex: how much of it is here, in blocks and bytes, of all versions together.

    ``in_flight`` blocks were asked for and are not here yet, and ``waiting`` is how many wait for some. ``sent_bytes``
    is what the ``peers`` that are there now have had of it. ``problem`` says why what is missing of a pinned drive does
    not come, in words, where that is known.
    """

    key: str
    name: str | None
    pinned: bool
    version: int
    blocks: int
    blocks_here: int
    content_bytes: int
    local_bytes: int
    waiting: int
    in_flight: int
    peers: int
    sent_bytes: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class DriveShared:
    """How many blocks of a drive, its key in hex, a peer has, of how many; of many short runs, those in the first."""

    key: str
    blocks: int
    length: int


@dataclass(frozen=True, slots=True)
class PeerTold:
    """A peer that is connected, and what it has of our drives. Rates are in bytes a second."""

    name: str
    id: str | None
    dialled: bool
    connected_seconds: float
    cores: int
    downloaded_bytes: int
    uploaded_bytes: int
    download_rate: float
    upload_rate: float
    in_flight: int
    round_trip_seconds: float | None
    has: tuple[DriveShared, ...]


@dataclass(frozen=True, slots=True)
class FetchingCore:
    """A core, its key in hex, of which blocks are waited for, or under way."""

    core: str
    waiting: int
    in_flight: int
    peers: int


@dataclass(frozen=True, slots=True)
class TopicTold:
    """A drive, its key in hex, whose peers are looked for (``looks``), or that is announced (at ``port``).

    ``found`` of its peers are dialled, or connected, because they were found; ``looked`` says of each way to find them
    how that went the last time.
    """

    key: str
    looks: bool
    port: int | None
    found: int
    looked: dict[str, str]


@dataclass(frozen=True, slots=True)
class NodeTold:
    """This daemon's node of the DHT: its UDP port, and how many ``nodes`` it knows.

    ``joined``: it has asked for its neighbours once, whoever answered. ``persistent``: others know it, and ask it.
    ``seen_as`` is where they see it, if they agree on that. ``nat`` is what is between: "none", "fixed" (a router that
    has one port for us, where we are reached once a hole is punched), "varying" (one that has another port for each, so
    that few reach us), or "unknown".
    """

    port: int
    joined: bool
    nodes: int
    persistent: bool
    seen_as: str | None
    nat: str


@dataclass(frozen=True, slots=True)
class NetworkTold:
    """How peers are found. ``node`` is None while nobody needs it; ``problems`` are of what cannot be used, and why.

    ``interfaces`` are this machine's addresses in the networks in which neighbours are asked.
    """

    settings: NetworkSettings
    bootstrap: tuple[str, ...]
    node: NodeTold | None
    interfaces: tuple[str, ...]
    problems: dict[str, str]
    topics: tuple[TopicTold, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """What `hyperfs status` shows of a daemon."""

    store: str
    pid: int
    hyperfs: str
    listening: tuple[str, ...]
    network: NetworkTold
    serving: tuple[ServedDrive, ...]
    pinned: tuple[str, ...]
    """The keys of the drives that are kept here whole."""
    drives: tuple[DriveAtWork, ...]
    mounts: tuple[MountTold, ...]
    dialling: tuple[str, ...]
    remembered_peers: tuple[str, ...]
    peers: tuple[PeerTold, ...]
    standing: tuple[WriterState, ...]
    fetching: tuple[FetchingCore, ...]
