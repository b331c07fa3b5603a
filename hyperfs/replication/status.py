"""What replication tells about itself, as values.

These are snapshots; nothing in them changes after they were made, and nothing in them is secret.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class EndReason(enum.Enum):
    """Why a connection ended, as far as it decides whether to connect again."""

    CLOSED = "closed"
    """The other side closed it, or the network did: connecting again makes sense."""

    TIMED_OUT = "timed out"
    """The other side went silent, or left a request unanswered for too long: connecting again makes sense."""

    SELF = "self"
    """The other side is this very process: never connect there again."""

    DOUBLE = "double"
    """Another connection to the same peer stays: connect again only once that one has ended."""

    MISBEHAVED = "misbehaved"
    """The other side broke the rules; it is banned for a while."""

    BANNED = "banned"
    """The other side misbehaved a while ago."""


class Follow(enum.Enum):
    """What is asked for, without anybody reading, when a peer announces blocks past a core's length."""

    NOTHING = "nothing"
    """Nothing: the length grows only as blocks are read (right for content)."""

    LENGTH = "length"
    """The proof of the newest block: the length grows, nothing else is fetched."""

    NEWEST = "newest"
    """The newest block itself (right for metadata: the head of a trie is read at once)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What goes over one connection of one core: whether its peer gets blocks, and whether it is asked for any."""

    uploading: bool = True
    downloading: bool = True


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended. ``remote_key`` is the peer's static key, None when the handshake was not finished."""

    reason: EndReason
    message: str
    remote_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One connection as it is now. Rates are bytes a second of block contents, averaged over about a second."""

    name: str
    remote_key: bytes | None
    initiator: bool
    connected_seconds: float
    cores: tuple[bytes, ...]
    """The public keys of the cores shared with this peer."""
    downloaded_bytes: int
    uploaded_bytes: int
    downloaded_blocks: int
    uploaded_blocks: int
    download_rate: float
    upload_rate: float
    in_flight: int
    """Requests of ours that this peer has not answered yet."""
    round_trip_seconds: float | None
    """The shortest time an answer took lately; None before the first answer."""


@dataclass(frozen=True, slots=True)
class CoreStatus:
    """One shared core as it is now."""

    key: bytes
    peers: int
    length: int
    """The newest verified length."""
    claimed_length: int
    """The greatest length that any peer claims: unverified."""
    in_flight: int
    """Requests of ours that are under way, over all peers."""
    demands: int
    """Fetches that wait."""


@dataclass(frozen=True, slots=True)
class ReplicationStatus:
    """All of replication as it is now."""

    peers: tuple[PeerStatus, ...]
    cores: tuple[CoreStatus, ...]
