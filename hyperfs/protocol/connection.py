"""A connection to one peer: handshake, channels, and which message belongs to which.

The life of a connection: Noise messages until `HandshakeDone`; then frames. Each side numbers its own channels from 1,
never uses a number twice, and puts its own number on what it sends. A core's channel is open once both sides sent
Open for its discovery key and each has proved, by the capability, that it knows the public key.

What is a violation, and raises `PeerMisbehaved`, and what is not, follows from what an honest peer can do while
messages cross: a frame on a channel that was closed, or that we have not opened, is dropped; one on a number that the
peer never opened is a violation, as are reopening a number and opening one core twice.

A stranger learns nothing. An Open for a core that we do not have and one with a wrong capability have the same answer,
made by the same work. What a peer can make us keep is bounded by the limits below; beyond `MAX_CHANNELS`, Opens are
refused as if the core were unknown.
"""

import secrets
from collections.abc import Iterable
from hmac import compare_digest

from hyperfs import crypto, varint
from hyperfs.errors import EncodingError, PeerMisbehaved, short
from hyperfs.protocol import codec
from hyperfs.protocol.channel import Channel, ChannelState
from hyperfs.protocol.cipher import NONCE_BYTES, Cipher, PlainText, XSalsa20
from hyperfs.protocol.events import (
    ChannelClosed,
    ChannelOpened,
    ChannelRefused,
    ChannelRequested,
    Event,
    ExtensionReceived,
    HandshakeDone,
)
from hyperfs.protocol.frames import KEEP_ALIVE, FrameReader, MessageType, encode_frame
from hyperfs.protocol.noise import MAX_MESSAGE_BYTES, NoiseKeyPair, NoiseXX, Split
from hyperfs.protocol.output import Output

MAX_CHANNELS = 4096
"""How many channels the peer may have open, or asked for, at one time."""

MAX_UNPROVEN_BYTES = 64 * 1024
"""The longest frame of a peer with which no channel was ever open: whatever it may say is shorter."""
MAX_REFUSALS = 65536
"""How many Opens of one connection are refused before it ends."""

_IGNORED_TYPES = (11, 12, 13, 14)


class _Requested:
    """A channel that the peer opened and we have not yet."""

    __slots__ = ("capability", "discovery_key")

    def __init__(self, discovery_key: bytes, capability: bytes) -> None:
        self.discovery_key = discovery_key
        self.capability = capability


class Connection:
    """One end of a connection, without the socket.

    Give what arrives to `receive` and act on its events in order; write what `take_output` returns, in order. Before
    reading more, wait while `pending_output` is large: then a peer that asks and does not read costs a bounded amount.
    """

    def __init__(
        self,
        *,
        initiator: bool,
        static_key: NoiseKeyPair | None = None,
        ephemeral_key: NoiseKeyPair | None = None,
        nonce: bytes | None = None,
        encrypted: bool = True,
    ) -> None:
        """Begin. The side that dialled is the ``initiator``, and has output at once.

        ``static_key`` is how the peer knows us again; one is made if None. ``ephemeral_key`` and ``nonce`` (24 bytes)
        are for tests with known values. Without ``encrypted`` what follows the handshake goes over the wire as it is,
        which both sides have to agree on beforehand; who knows which keys is proved all the same.
        """
        self._static_key = static_key or NoiseKeyPair.generate()
        self._noise = NoiseXX(initiator=initiator, static=self._static_key, ephemeral=ephemeral_key)
        self._nonce = nonce or secrets.token_bytes(NONCE_BYTES)
        self._remote_nonce = b""
        self._split: Split | None = None
        self._encrypted = encrypted
        self._decrypt: Cipher | None = None
        self._handshake = bytearray()
        self._reader = FrameReader()
        self._output = Output()
        self._failure: str | None = None
        self._next_number = 1
        self._highest_remote_number = 0
        self.has_proven = False
        """Whether the peer has shown for some core that it knows the key."""
        self._channels: dict[bytes, Channel] = {}  # ours, opening or open, by discovery key
        self._remote: dict[int, Channel | _Requested] = {}  # the peer's, by its number
        self._requested: dict[bytes, int] = {}  # the peer's number of what we have not opened, by discovery key
        self._refusals = 0
        self._write_handshake()

    @property
    def static_public_key(self) -> bytes:
        """Our own X25519 public key in this connection."""
        return self._static_key.public

    @property
    def is_ready(self) -> bool:
        """Whether the handshake is done."""
        return self._split is not None

    @property
    def pending_output(self) -> int:
        """Bytes that were written and not yet taken."""
        return self._output.size

    @property
    def held_bytes(self) -> int:
        """Bytes in memory: what was received of a frame, and what is not taken yet."""
        return self._reader.capacity + self._output.size

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that we have opened and nobody has closed."""
        return tuple(self._channels.values())

    def channel(self, discovery_key: bytes) -> Channel | None:
        """Return our opening or open channel for a core, if there is one."""
        return self._channels.get(discovery_key)

    @property
    def has_frames(self) -> bool:
        """Whether `receive` left frames for the next call, which may be one without data."""
        return self._reader.more

    @property
    def partial_bytes(self) -> int:
        """How much has come that was not taken as frames yet; once all was taken that is whole, of one that is not."""
        return self._reader.buffered

    def receive(self, data: bytes | bytearray | memoryview, *, at_most: int | None = None) -> list[Event]:
        """Take bytes from the peer, cut anywhere, and return what happened, in order.

        ``at_most`` is how many frames to look at, so that a call is short however small the frames are.

        Raises PeerMisbehaved when the peer broke the protocol, with a message that reads on after its name ("sent a
        frame of 9437184 bytes, ..."). The connection is over then: drop it; there is no more output, and calling
        again raises again. Events of the same call are lost with it.
        """
        if self._failure is not None:
            raise PeerMisbehaved(self._failure)
        try:
            events: list[Event] = []
            if self._decrypt is None:
                data = self._receive_handshake(data, events)
            if self._decrypt is not None:
                if len(data):
                    space = self._reader.space(len(data))
                    space[:] = data
                    self._decrypt.apply(space)
                for number, message_type, body in self._reader.frames(at_most):
                    self._receive_frame(number, message_type, body, events)
                self._check_pending()
            return events
        except PeerMisbehaved as error:
            self._failure = str(error)
            self._output.end()
            raise

    def discard_input(self) -> None:
        """Let go of what was received and not looked at: the connection is over."""
        self._reader = FrameReader()

    def take_output(self) -> bytearray:
        """Return all bytes that are to be written now, perhaps none, and forget them."""
        return self._output.take()

    def send_keep_alive(self) -> None:
        """Send the empty frame that shows we are there; nothing before the handshake is done."""
        if self._split is not None:
            self._output.write(KEEP_ALIVE)

    def open_channel(self, public_key: bytes, *, extensions: Iterable[str] = ()) -> Channel | None:
        """Open the channel of a core, or answer the peer's request for it.

        Returns the channel. It is open already if the peer had asked for it, in which case no ChannelOpened follows;
        else ChannelOpened or ChannelRefused will. Returns None when the peer had asked but cannot prove that it
        knows the key: it is refused. ``extensions`` are the names that we understand on it; they are sent as Options
        once it is open. A channel that we have opened before, and nobody closed, is returned as it is: a peer that
        asks, takes it back and asks again makes two requests of one. Raises RuntimeError before HandshakeDone.
        """
        split = self._require_split()
        discovery_key = crypto.discovery_key(public_key)
        existing = self._channels.get(discovery_key)
        if existing is not None:
            return existing
        remote_number = self._requested.get(discovery_key)
        if remote_number is not None and not self._proves(remote_number, public_key, split):
            self._answer_refused(discovery_key, remote_number)
            return None
        channel = Channel(public_key, discovery_key, self._take_number(), extensions, self._output, self._close)
        self._channels[discovery_key] = channel
        capability = crypto.capability(public_key, split.send_key, split.receive_key)
        self._write(channel.local_number, MessageType.OPEN, codec.encode_open(discovery_key, capability))
        if remote_number is not None:
            del self._requested[discovery_key]
            self._finish_opening(channel, remote_number)
        return channel

    def refuse(self, discovery_key: bytes) -> None:
        """Answer the peer's request for a channel: we do not have that core. Nothing if it was taken back."""
        split = self._require_split()
        remote_number = self._requested.get(discovery_key)
        if remote_number is not None:
            # The work that a known key would have taken, so that its absence does not show in the time.
            self._proves(remote_number, crypto.discovery_key(discovery_key), split)
            self._answer_refused(discovery_key, remote_number)

    # The handshake

    def _write_handshake(self) -> None:
        if self._noise.is_writing:
            message = self._noise.write_message(codec.encode_noise_payload(self._nonce))
            self._output.write_handshake(varint.encode(len(message)) + message)

    def _receive_handshake(self, data: bytes | bytearray | memoryview, events: list[Event]) -> memoryview:
        """Take handshake messages; return what follows the last one, if it came."""
        self._handshake += data
        while self._decrypt is None:
            message = self._next_handshake_message()
            if message is None:
                return memoryview(b"")
            self._remote_nonce = codec.decode_noise_payload(self._noise.read_message(message))
            self._write_handshake()
            if self._noise.is_done:
                events.append(self._finish_handshake())
        rest = memoryview(bytes(self._handshake))
        self._handshake.clear()
        return rest

    def _next_handshake_message(self) -> bytes | None:
        try:
            decoded = varint.decode_partial(self._handshake)
        except EncodingError as error:
            raise PeerMisbehaved(f"sent a handshake message whose length is no number: {error}") from error
        if decoded is None:
            return None
        length, begin = decoded
        if length > MAX_MESSAGE_BYTES:
            raise PeerMisbehaved(f"sent a handshake message of {length} bytes, more than {MAX_MESSAGE_BYTES}")
        if len(self._handshake) < begin + length:
            return None
        message = bytes(self._handshake[begin : begin + length])
        del self._handshake[: begin + length]
        return message

    def _finish_handshake(self) -> HandshakeDone:
        split = self._noise.split()
        self._split = split
        self._output.encrypt_with(XSalsa20(split.send_key, self._nonce) if self._encrypted else PlainText())
        self._decrypt = XSalsa20(split.receive_key, self._remote_nonce) if self._encrypted else PlainText()
        return HandshakeDone(split.remote_static_key)

    def _require_split(self) -> Split:
        if self._split is None:
            raise RuntimeError("the handshake is not done: wait for HandshakeDone")
        return self._split

    # Frames

    def _check_pending(self) -> None:
        """Refuse to wait for a large frame of a peer that has not shown yet that it knows any key."""
        if not self.has_proven and self._reader.pending_bytes > MAX_UNPROVEN_BYTES:
            raise PeerMisbehaved(
                f"began a frame of {self._reader.pending_bytes} bytes, and has shown for no core that it knows the key"
            )

    def _receive_frame(self, number: int, message_type: int, body: memoryview, events: list[Event]) -> None:
        if message_type in _IGNORED_TYPES:
            return
        if len(body) > codec.MAX_BODY_BYTES.get(message_type, codec.MAX_SMALL_BODY_BYTES):
            raise PeerMisbehaved(f"sent {_name(message_type)} of {len(body)} bytes")
        channel = self._remote.get(number)
        if isinstance(channel, Channel):
            decode = codec.DECODERS.get(message_type)
            if decode is not None:
                events.append(decode(channel, body))
                return
        if message_type == MessageType.OPEN:
            self._receive_open(number, *codec.decode_open(body), events)
        elif message_type == MessageType.CLOSE:
            self._receive_close(number, codec.decode_close(body), events)
        elif number == 0:
            self._receive_for_connection(message_type, body)
        elif isinstance(channel, Channel):
            self._receive_for_channel(channel, message_type, body, events)
        elif number > self._highest_remote_number:
            raise PeerMisbehaved(f"sent {_name(message_type)} on channel {number}, which it never opened")

    def _receive_for_connection(self, message_type: int, body: memoryview) -> None:
        """Check what came on channel 0: extensions of the connection as a whole, of which hyperfs has none."""
        if message_type == MessageType.OPTIONS:
            codec.decode_extensions(body)
        elif message_type == MessageType.EXTENSION:
            codec.decode_extension(body)
        else:
            raise PeerMisbehaved(f"sent {_name(message_type)} on channel 0, which is no core's")

    def _receive_for_channel(self, channel: Channel, message_type: int, body: memoryview, events: list[Event]) -> None:
        if message_type == MessageType.OPTIONS:
            options = codec.decode_options(channel, body)
            channel.remote_extensions, channel.remote_ack = options.extensions, options.ack
            events.append(options)
        else:
            extension_id, payload = codec.decode_extension(body)
            # The reference may send one before its Options, with an id that then means nothing.
            if extension_id < len(channel.remote_extensions):
                events.append(ExtensionReceived(channel, channel.remote_extensions[extension_id], payload))

    def _receive_open(self, number: int, discovery_key: bytes, capability: bytes, events: list[Event]) -> None:
        if number == 0:
            raise PeerMisbehaved(f"opened channel 0 for {short(discovery_key)}, which is no core's")
        if number <= self._highest_remote_number:
            raise PeerMisbehaved(
                f"opened channel {number} for {short(discovery_key)}, a number that it has used before"
            )
        if self._refusals >= MAX_REFUSALS:
            raise PeerMisbehaved(f"opened {self._refusals} channels that were refused, and one more")
        self._highest_remote_number = number
        channel = self._channels.get(discovery_key)
        if discovery_key in self._requested or (channel is not None and channel.remote_number is not None):
            raise PeerMisbehaved(f"opened {short(discovery_key)} twice, the second time as channel {number}")
        self._remote[number] = _Requested(discovery_key, capability)
        if channel is not None:
            if not self._proves(number, channel.key, self._require_split()):
                raise PeerMisbehaved(f"opened {short(discovery_key)} with a wrong capability: it does not know the key")
            self._finish_opening(channel, number)
            events.append(ChannelOpened(channel))
        elif len(self._remote) > MAX_CHANNELS:
            self._answer_refused(discovery_key, number)
        else:
            self._requested[discovery_key] = number
            events.append(ChannelRequested(discovery_key))

    def _receive_close(self, number: int, discovery_key: bytes | None, events: list[Event]) -> None:
        channel: Channel | _Requested | None = self._remote.pop(number, None)
        self._highest_remote_number = max(self._highest_remote_number, number)
        if channel is None and discovery_key is not None:
            channel = self._channels.get(discovery_key)
        if isinstance(channel, _Requested):
            self._requested.pop(channel.discovery_key, None)
        elif channel is not None:
            was_open = channel.is_open
            self._close(channel)
            events.append(ChannelClosed(channel) if was_open else ChannelRefused(channel))

    # Channels

    def _proves(self, remote_number: int, public_key: bytes, split: Split) -> bool:
        """Tell whether the peer's Open shows that it knows ``public_key``; takes equally long either way."""
        requested = self._remote[remote_number]
        expected = crypto.capability(public_key, split.receive_key, split.send_key)
        return isinstance(requested, _Requested) and compare_digest(requested.capability, expected)

    def _finish_opening(self, channel: Channel, remote_number: int) -> None:
        self._remote[remote_number] = channel
        channel.remote_number = remote_number
        channel.state = ChannelState.OPEN
        self.has_proven = True
        channel.send_options()

    def _answer_refused(self, discovery_key: bytes, remote_number: int) -> None:
        del self._remote[remote_number]
        self._requested.pop(discovery_key, None)
        self._refusals += 1
        self._write(self._take_number(), MessageType.CLOSE, codec.encode_close(discovery_key))

    def _close(self, channel: Channel) -> None:
        channel.state = ChannelState.CLOSED
        if self._channels.get(channel.discovery_key) is channel:
            del self._channels[channel.discovery_key]
        if channel.remote_number is not None:
            self._remote.pop(channel.remote_number, None)
        self._write(channel.local_number, MessageType.CLOSE, codec.encode_close())

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number

    def _write(self, number: int, message_type: MessageType, body: bytes) -> None:
        self._output.write(encode_frame(number, message_type, body))


def _name(message_type: int) -> str:
    return MessageType(message_type).name.capitalize()
