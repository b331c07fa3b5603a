"""One channel of a connection: the messages about one core that we send.

A message is written only on an open channel. Before that, sending is a mistake of the caller and raises RuntimeError;
after a Close, ours or the peer's, messages are dropped, since they would cross the Close on the wire. `Connection`
makes channels and moves them from state to state; nobody else does.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence

from hyperfs import varint
from hyperfs.errors import short
from hyperfs.protocol import codec
from hyperfs.protocol.frames import MAX_FRAME_BYTES, MessageType
from hyperfs.protocol.output import Output


class ChannelState(enum.Enum):
    """How far a channel has come; it only ever moves down this list."""

    OPENING = "we have opened it, the peer has not"
    OPEN = "both sides have opened it"
    CLOSED = "closed or refused by either side"


class Channel:
    """A core's channel on one connection.

    ``key`` is the core's public key and ``discovery_key`` its name on the wire, ``remote_extensions`` what the peer
    listed in its last Options, in its order, and ``remote_ack`` whether it wants to be told which of its answers are
    stored. ``context`` is the caller's own, for what it keeps with a channel.
    """

    __slots__ = (
        "_close",
        "_headers",
        "_local_extensions",
        "_output",
        "context",
        "discovery_key",
        "key",
        "local_number",
        "remote_ack",
        "remote_extensions",
        "remote_number",
        "state",
    )

    def __init__(
        self,
        key: bytes,
        discovery_key: bytes,
        local_number: int,
        extensions: Iterable[str],
        output: Output,
        close: Callable[[Channel], None],
    ) -> None:
        self.key = key
        self.discovery_key = discovery_key
        self.local_number = local_number
        self.remote_number: int | None = None
        self.state = ChannelState.OPENING
        self.remote_extensions: tuple[str, ...] = ()
        self.remote_ack = False
        self.context: object = None
        self._local_extensions = tuple(sorted(set(extensions)))
        self._output = output
        self._close = close
        self._headers = tuple(varint.encode(local_number << 4 | message_type) for message_type in range(16))

    def __repr__(self) -> str:
        return f"<Channel {self.local_number} {short(self.discovery_key)} {self.state.name.lower()}>"

    @property
    def is_open(self) -> bool:
        """Whether messages that are sent now go out."""
        return self.state is ChannelState.OPEN

    @property
    def local_extensions(self) -> tuple[str, ...]:
        """The extensions that we list to the peer, sorted."""
        return self._local_extensions

    def set_extensions(self, names: Iterable[str]) -> None:
        """Change what we list to the peer; on an open channel that sends Options again, if anything changed."""
        changed = tuple(sorted(set(names)))
        if changed != self._local_extensions:
            self._local_extensions = changed
            if self.state is ChannelState.OPEN:
                self.send_options()

    def send_options(self, *, ack: bool = False) -> None:
        """Tell the peer our extensions. A connection does so by itself as soon as the channel is open."""
        self._send(MessageType.OPTIONS, codec.encode_options(self._local_extensions, ack=ack))

    def send_status(self, *, uploading: bool, downloading: bool) -> None:
        """Tell the peer whether we will upload, and download, at all."""
        self._send(MessageType.STATUS, codec.encode_status(uploading=uploading, downloading=downloading))

    def send_have(self, start: int, length: int = 1, *, bitfield: bytes | None = None, ack: bool = False) -> None:
        """Announce ``length`` blocks from ``start`` on, all of them, or those in the RLE-encoded ``bitfield``.

        An answer to a Want repeats its start and length exactly and always has a bitfield, even an empty one.
        ``ack`` says that the peer's own answer brought them. Raises ValueError for a bitfield with a length of 0 or 1,
        which means something else to older peers.
        """
        self._send(MessageType.HAVE, codec.encode_have(start, length, bitfield, ack=ack))

    def send_unhave(self, start: int, length: int = 1) -> None:
        """Take back ``length`` blocks from ``start`` on."""
        self._send(MessageType.UNHAVE, codec.encode_range(start, length))

    def send_want(self, start: int, length: int | None) -> None:
        """Ask for Haves about ``length`` blocks from ``start`` on, both multiples of 8192; None is all from there."""
        self._send(MessageType.WANT, codec.encode_range(start, length))

    def send_unwant(self, start: int, length: int | None) -> None:
        """Take back a Want."""
        self._send(MessageType.UNWANT, codec.encode_range(start, length))

    def send_request(self, index: int, *, digest: int = 0, byte_offset: int = 0, hash_only: bool = False) -> None:
        """Ask for block ``index``, or for the block that holds ``byte_offset`` when that is not 0.

        ``digest`` says which nodes of the proof are here already; with ``hash_only`` the proof alone is asked for.
        """
        self._send(MessageType.REQUEST, codec.encode_request(index, byte_offset, hash_only, digest))

    def send_cancel(self, index: int, *, byte_offset: int = 0, hash_only: bool = False) -> None:
        """Take back a request."""
        self._send(MessageType.CANCEL, codec.encode_cancel(index, byte_offset, hash_only))

    def send_data(
        self,
        index: int,
        value: bytes | None,
        nodes: Sequence[tuple[int, bytes, int]] = (),
        signature: bytes | None = None,
    ) -> None:
        """Send a block with its proof, or, with None for ``value``, a proof alone.

        ``nodes`` are (tree index, hash, size in bytes). ``value`` is not copied before it is encrypted, so it must
        not change until `Connection.take_output`. Raises ValueError for a block that does not fit a frame.
        """
        if self._is_sendable():
            head, tail = codec.encode_data_around(index, value, nodes, signature)
            size = len(head) + len(tail) + (0 if value is None else len(value))
            prefix = self._frame_header(MessageType.DATA, size) + head
            if value:
                self._output.write(prefix)
                self._output.write(value)
                self._output.write(tail)
            else:
                self._output.write(prefix + tail)

    def send_extension(self, name: str, payload: bytes) -> None:
        """Send a message of the extension ``name``, which must be among `local_extensions` (else ValueError)."""
        if name not in self._local_extensions:
            raise ValueError(f"extension {name!r} is not among those listed: {', '.join(self._local_extensions)}")
        self._send(MessageType.EXTENSION, varint.encode(self._local_extensions.index(name)) + payload)

    def remote_supports(self, name: str) -> bool:
        """Tell whether the peer listed the extension ``name``, so that sending it a message makes sense."""
        return name in self.remote_extensions

    def close(self) -> None:
        """Close the channel, once; no event follows. Its number is never used again."""
        if self.state is not ChannelState.CLOSED:
            self._close(self)

    def _is_sendable(self) -> bool:
        if self.state is ChannelState.OPENING:
            raise RuntimeError(f"channel {self.local_number} is not open yet: wait for ChannelOpened")
        return self.state is ChannelState.OPEN

    def _send(self, message_type: MessageType, body: bytes) -> None:
        if self._is_sendable():
            self._output.write(self._frame_header(message_type, len(body)) + body)

    def _frame_header(self, message_type: MessageType, body_bytes: int) -> bytes:
        header = self._headers[message_type]
        size = len(header) + body_bytes
        if size > MAX_FRAME_BYTES:
            raise ValueError(f"a message of {size} bytes does not fit a frame, which holds {MAX_FRAME_BYTES}")
        return varint.encode(size) + header
