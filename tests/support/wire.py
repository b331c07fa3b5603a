"""Two ends of the wire in one process, and a peer that sends whatever a test wants.

`Pair` joins two connections; `RawPeer` does an honest handshake with a `Connection` and then speaks bytes.
"""

from hyperfs import crypto, varint
from hyperfs.errors import PeerMisbehaved
from hyperfs.protocol import codec
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.cipher import XSalsa20
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import (
    CancelReceived,
    DataReceived,
    Event,
    ExtensionReceived,
    HaveReceived,
    RequestReceived,
    StatusReceived,
    UnhaveReceived,
    UnwantReceived,
    WantReceived,
)
from hyperfs.protocol.frames import FrameReader, MessageType, encode_frame
from hyperfs.protocol.noise import NoiseKeyPair, NoiseXX
from hyperfs.tree_node import TreeNode

KEY = crypto.key_pair(bytes(range(32))).public
DISCOVERY_KEY = crypto.discovery_key(KEY)
OTHER_KEY = crypto.key_pair(bytes(range(1, 33))).public


class Pair:
    """Two connections, ``left`` being the initiator, that `pump` moves bytes between."""

    def __init__(self) -> None:
        self.left = Connection(initiator=True)
        self.right = Connection(initiator=False)

    @classmethod
    def ready(cls) -> "Pair":
        """Return a pair whose handshake is done."""
        pair = cls()
        pair.pump()
        return pair

    def pump(self) -> tuple[list[Event], list[Event]]:
        """Deliver until both are silent; return what happened on the left and on the right."""
        left: list[Event] = []
        right: list[Event] = []
        while self.left.pending_output or self.right.pending_output:
            right += self.right.receive(self.left.take_output())
            left += self.left.receive(self.right.take_output())
        return left, right

    def open(self, key: bytes = KEY, *, extensions: tuple[str, ...] = ()) -> tuple[Channel, Channel]:
        """Open a channel both ways and swallow the events of that; return its two ends."""
        left = self.left.open_channel(key, extensions=extensions)
        self.pump()
        right = self.right.open_channel(key, extensions=extensions)
        self.pump()
        assert left is not None
        assert right is not None
        return left, right


class RawPeer:
    """An initiator that has done its handshake with ``connection`` and knows how to encrypt, and nothing else."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        noise = NoiseXX(initiator=True, static=NoiseKeyPair.generate())
        nonce = bytes(24)
        connection.receive(handshake_message(noise.write_message(codec.encode_noise_payload(nonce))))
        answer = bytes(connection.take_output())
        _, begin = varint.decode(answer)
        remote_nonce = codec.decode_noise_payload(noise.read_message(answer[begin:]))
        connection.receive(handshake_message(noise.write_message(codec.encode_noise_payload(nonce))))
        self.split = noise.split()
        self._sending = XSalsa20(self.split.send_key, nonce)
        self._receiving = XSalsa20(self.split.receive_key, remote_nonce)
        self._reader = FrameReader()

    def encrypt(self, data: bytes) -> bytes:
        """Return ``data`` as it goes over the wire next."""
        sealed = bytearray(data)
        self._sending.apply(sealed)
        return bytes(sealed)

    def send(self, data: bytes) -> list[Event]:
        """Send plain bytes of the stream; return what the connection makes of them."""
        return self.connection.receive(self.encrypt(data))

    def send_frame(self, number: int, message_type: int, body: bytes = b"") -> list[Event]:
        """Send one frame; return what the connection makes of it."""
        return self.send(encode_frame(number, message_type, body))

    def send_open(self, number: int, key: bytes = KEY, *, capability: bytes | None = None) -> list[Event]:
        """Open a channel, with the right capability unless another is given."""
        right = crypto.capability(key, self.split.send_key, self.split.receive_key)
        body = codec.encode_open(crypto.discovery_key(key), right if capability is None else capability)
        return self.send_frame(number, MessageType.OPEN, body)

    def answers(self) -> list[tuple[int, int, bytes]]:
        """Return the frames that the connection has written: (channel number, type, body)."""
        sealed = self.connection.take_output()
        if sealed:
            space = self._reader.space(len(sealed))
            space[:] = sealed
            self._receiving.apply(space)
        return [(number, message_type, bytes(body)) for number, message_type, body in self._reader.frames()]


NODE = TreeNode(20, bytes(range(32)), 5)
SIGNATURE = bytes(range(64))


def send_one_of_each(channel: Channel, *, block: bytes = bytes(70_000)) -> None:
    """Send every message, on a channel that has listed "hypertrie" first."""
    channel.send_status(uploading=True, downloading=False)
    channel.send_have(3)
    channel.send_have(0, 8192, bitfield=b"")
    channel.send_unhave(4, 2)
    channel.send_want(0, 8192)
    channel.send_want(8192, None)
    channel.send_unwant(0, 8192)
    channel.send_request(7, digest=5)
    channel.send_request(8, byte_offset=1000, hash_only=True)
    channel.send_cancel(9, hash_only=True)
    channel.send_data(10, b"block", [NODE], SIGNATURE)
    channel.send_data(11, b"")
    channel.send_data(12, None)
    channel.send_data(13, block, [], SIGNATURE)
    channel.send_extension("hypertrie", b"payload")


def one_of_each(channel: Channel, *, block: bytes = bytes(70_000)) -> list[Event]:
    """Return what the other end makes of what `send_one_of_each` sent."""
    return [
        StatusReceived(channel, True, False),
        HaveReceived(channel, 3, 1, None, False),
        HaveReceived(channel, 0, 8192, b"", False),
        UnhaveReceived(channel, 4, 2),
        WantReceived(channel, 0, 8192),
        WantReceived(channel, 8192, None),
        UnwantReceived(channel, 0, 8192),
        RequestReceived(channel, 7, 0, False, 5),
        RequestReceived(channel, 8, 1000, True, 0),
        CancelReceived(channel, 9, 0, True),
        DataReceived(channel, 10, b"block", (NODE,), SIGNATURE),
        DataReceived(channel, 11, b"", (), None),
        DataReceived(channel, 12, None, (), None),
        DataReceived(channel, 13, block, (), SIGNATURE),
        ExtensionReceived(channel, "hypertrie", b"payload"),
    ]


def handshake_message(message: bytes) -> bytes:
    """Return a Noise message as it goes over the wire."""
    return varint.encode(len(message)) + message


def violation(act: object, *arguments: object) -> str:
    """Return what ``act(*arguments)`` says is wrong with the peer; fail if nothing is."""
    assert callable(act)
    try:
        act(*arguments)
    except PeerMisbehaved as error:
        return str(error)
    raise AssertionError("the peer was not found to misbehave")
