"""What a peer did, one small value for each thing it can do.

An event holds only what was checked for form (lengths of keys and hashes, bounds of numbers), and never anything
checked for truth: whether a block verifies or a Have is honest is decided above. Fields are those of the messages in
docs/formats.md, "The wire"; numbers of blocks and bytes are below 2**53.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperfs.tree_node import TreeNode

if TYPE_CHECKING:
    from hyperfs.protocol.channel import Channel


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """The Noise handshake ended well. From here on channels can be opened.

    ``remote_static_key`` is the peer's X25519 public key, by which double connections, and one to oneself, are known.
    """

    remote_static_key: bytes


@dataclass(frozen=True, slots=True)
class ChannelRequested:
    """The peer opened a channel that we have not: answer with `Connection.open_channel` or `Connection.refuse`.

    Whether the peer knows the key is not checked before `open_channel` is given it. So that a stranger cannot tell
    by the clock which keys are known here, both answers have to come equally fast: decide from memory, at once.
    """

    discovery_key: bytes


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """Both sides have opened the channel and the peer has proved that it knows the key. Messages may be sent."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class ChannelRefused:
    """The peer does not have the core of a channel that we opened (or does not want it). The channel is over."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    """The peer closed an open channel. What is sent on it from now on is dropped."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class OptionsReceived:
    """The peer listed the extensions it understands on this channel; `Channel.remote_extensions` has them too."""

    channel: Channel
    extensions: tuple[str, ...]
    ack: bool


@dataclass(frozen=True, slots=True)
class StatusReceived:
    """The peer said whether it uploads, and whether it downloads."""

    channel: Channel
    uploading: bool
    downloading: bool


@dataclass(frozen=True, slots=True)
class HaveReceived:
    """The peer claims blocks: all ``length`` from ``start`` on, or those that the RLE ``bitfield`` (not None) says.

    ``bitfield`` is as it came, still encoded; it is at most as long as a frame, what it decodes to may be any size.
    """

    channel: Channel
    start: int
    length: int
    bitfield: bytes | None
    ack: bool


@dataclass(frozen=True, slots=True)
class UnhaveReceived:
    """The peer no longer has, or never had, ``length`` blocks from ``start`` on."""

    channel: Channel
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class WantReceived:
    """The peer wants Haves about ``length`` blocks from ``start`` on; None is "all from there"."""

    channel: Channel
    start: int
    length: int | None


@dataclass(frozen=True, slots=True)
class UnwantReceived:
    """The peer no longer wants Haves about a range; None is "all from there"."""

    channel: Channel
    start: int
    length: int | None


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """The peer asks for block ``index``, or the block that holds ``byte_offset`` when that is not 0.

    With ``hash_only`` it asks for the proof alone. ``digest`` says which nodes of the proof it has already.
    """

    channel: Channel
    index: int
    byte_offset: int
    hash_only: bool
    digest: int


@dataclass(frozen=True, slots=True)
class CancelReceived:
    """The peer takes back a request."""

    channel: Channel
    index: int
    byte_offset: int
    hash_only: bool


@dataclass(frozen=True, slots=True)
class DataReceived:
    """The peer sent a block (``value`` not None, perhaps empty) or a proof without one, unverified."""

    channel: Channel
    index: int
    value: bytes | None
    nodes: tuple[TreeNode, ...]
    signature: bytes | None


@dataclass(frozen=True, slots=True)
class ExtensionReceived:
    """The peer sent a message of the extension that it lists under ``name``."""

    channel: Channel
    name: str
    payload: bytes


ChannelEvent = (
    OptionsReceived
    | StatusReceived
    | HaveReceived
    | UnhaveReceived
    | WantReceived
    | UnwantReceived
    | RequestReceived
    | CancelReceived
    | DataReceived
    | ExtensionReceived
)
"""What a peer said on an open channel."""

Event = HandshakeDone | ChannelRequested | ChannelOpened | ChannelRefused | ChannelClosed | ChannelEvent
