"""Datagrams of the DHT: bytes to values and back.

The one rule: what `decode` returns has the form that docs/formats.md, "Finding peers", gives it; anything else is None,
since a datagram that is not understood is not answered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from hyperfs.crypto import SIGNATURE_BYTES
from hyperfs.swarm.addresses import Address, address_of, decode_address, encode_address
from hyperfs.swarm.dht import messages_pb2

VERSION: Final = 1
ID_BYTES: Final = 32
MAX_DATAGRAM_BYTES: Final = 4096
"""What the reference ever sends is half of this; longer ones are not looked at."""
MAX_CLOSER: Final = 20
MAX_VALUE_BYTES: Final = 1000
MIN_SALT_BYTES: Final = 16
MAX_SALT_BYTES: Final = 64
_NODE: Final = struct.Struct(">32s4sH")


class Kind(Enum):
    """What a datagram is."""

    QUERY = messages_pb2.Message.QUERY
    UPDATE = messages_pb2.Message.UPDATE
    RESPONSE = messages_pb2.Message.RESPONSE


class NodeAddress(NamedTuple):
    """A node that somebody told of: its 32-byte id and where it is."""

    id: bytes
    address: Address


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram. Fields that it leaves out are None; ``closer`` is empty then.

    ``id`` is the sender's, 32 bytes, None for an ephemeral node; ``to`` the receiver as the sender sees it. What is in
    ``closer`` `decode_nodes` says: that costs more than all the rest, and what a flood brings nobody asked for.
    """

    kind: Kind
    rid: int
    id: bytes | None = None
    target: bytes | None = None
    closer: bytes = b""
    token: bytes | None = None
    command: str | None = None
    error: str | None = None
    value: bytes | None = None
    to: Address | None = None


def encode(datagram: Datagram) -> bytes:
    """Return the bytes of a datagram."""
    message = messages_pb2.Message(type=datagram.kind.value, rid=datagram.rid, version=VERSION)
    if datagram.id is not None:
        message.id = datagram.id
    if datagram.target is not None:
        message.target = datagram.target
    if datagram.closer:
        message.closerNodes = datagram.closer
    if datagram.token is not None:
        message.roundtripToken = datagram.token
    if datagram.command is not None:
        message.command = datagram.command.encode()
    if datagram.error is not None:
        message.error = datagram.error.encode()
    if datagram.value is not None:
        message.value = datagram.value
    if datagram.to is not None:
        message.to = encode_address(datagram.to)
    return message.SerializeToString()


def decode(data: bytes) -> Datagram | None:
    """Return what ``data`` says, or None when it is no datagram of the DHT.

    An id with a version below 1, or without one, counts as none; one that is not 32 bytes makes the datagram invalid.
    """
    if len(data) > MAX_DATAGRAM_BYTES:
        return None
    message = messages_pb2.Message()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    sender = message.id if message.HasField("id") else None
    if sender is not None and len(sender) != ID_BYTES:
        return None
    if message.version < VERSION:
        sender = None
    target = message.target if message.HasField("target") else None
    if target is not None and len(target) != ID_BYTES:
        return None
    try:
        command = message.command.decode("ascii") if message.HasField("command") else None
    except UnicodeDecodeError:
        return None
    return Datagram(
        kind=Kind(message.type),
        rid=message.rid,
        id=sender,
        target=target,
        closer=message.closerNodes,
        token=message.roundtripToken if message.HasField("roundtripToken") else None,
        command=command,
        error=message.error.decode(errors="replace") or None,  # the reference relays with an empty one
        value=message.value if message.HasField("value") else None,
        to=decode_address(message.to),
    )


def encode_nodes(nodes: Iterable[NodeAddress]) -> bytes:
    """Return nodes one after another: 32-byte id, IPv4, port."""
    return b"".join(node.id + encode_address(node.address) for node in nodes)


def decode_nodes(data: bytes) -> tuple[NodeAddress, ...]:
    """Return at most 20 nodes; none at all when the list is malformed, as the reference takes it."""
    if len(data) % _NODE.size or len(data) > MAX_CLOSER * _NODE.size:
        return ()
    nodes = []
    for node_id, host, port in _NODE.iter_unpack(data):
        address = address_of(host, port)
        if address is None:
            return ()
        nodes.append(NodeAddress(node_id, address))
    return tuple(nodes)


@dataclass(frozen=True, slots=True)
class Holepunch:
    """The value of a ``_holepunch``: whom to relay it to, or on whose behalf it was relayed."""

    sender: Address | None = None
    to: Address | None = None

    def encode(self) -> bytes:
        """Return the bytes."""
        message = messages_pb2.Holepunch()
        if self.sender is not None:
            setattr(message, "from", encode_address(self.sender))
        if self.to is not None:
            message.to = encode_address(self.to)
        return message.SerializeToString()

    @classmethod
    def decode(cls, data: bytes | None) -> Holepunch | None:
        """Return what ``data`` says, or None when it is absent or malformed."""
        message = messages_pb2.Holepunch()
        try:
            message.ParseFromString(data or b"")
        except DecodeError:
            return None
        return None if data is None else cls(decode_address(getattr(message, "from")), decode_address(message.to))


@dataclass(frozen=True, slots=True)
class PeersInput:
    """What is asked, or announced, of a topic. ``port`` 0: the UDP source port. ``local`` is an address on a LAN."""

    port: int = 0
    local: Address | None = None
    unannounce: bool = False

    def encode(self) -> bytes:
        """Return the bytes, which may be none at all; a request carries them all the same."""
        message = messages_pb2.PeersInput()
        if self.port:
            message.port = self.port
        if self.local is not None:
            message.localAddress = encode_address(self.local)
        if self.unannounce:
            message.unannounce = True
        return message.SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> PeersInput | None:
        """Return what ``data`` says, or None when it is malformed."""
        message = messages_pb2.PeersInput()
        try:
            message.ParseFromString(data)
        except DecodeError:
            return None
        return cls(message.port, decode_address(message.localAddress), message.unannounce)


@dataclass(frozen=True, slots=True)
class Mutable:
    """A value that belongs to an Ed25519 key, or a question for it: ``value`` and ``signature`` are None then."""

    seq: int = 0
    salt: bytes | None = None
    value: bytes | None = None
    signature: bytes | None = None

    def encode(self) -> bytes:
        """Return the bytes."""
        message = messages_pb2.Mutable(seq=self.seq)
        if self.salt is not None:
            message.salt = self.salt
        if self.value is not None:
            message.value = self.value
        if self.signature is not None:
            message.signature = self.signature
        return message.SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Mutable | None:
        """Return what ``data`` says, or None when it is malformed or too large."""
        message = messages_pb2.Mutable()
        try:
            message.ParseFromString(data)
        except DecodeError:
            return None
        salt = message.salt if message.HasField("salt") else None
        value = message.value if message.HasField("value") else None
        signature = message.signature if message.HasField("signature") else None
        if salt is not None and len(salt) > MAX_SALT_BYTES:
            return None
        if value is not None and len(value) > MAX_VALUE_BYTES:
            return None
        if signature is not None and len(signature) != SIGNATURE_BYTES:
            return None
        return cls(message.seq, salt, value, signature)

    def signable(self) -> bytes:
        """Return what is signed: bencoded salt (where there is one), seq and value. ``value`` must be there."""
        assert self.value is not None
        salt = b"" if self.salt is None else b"4:salt%d:%b" % (len(self.salt), self.salt)
        return b"%b3:seqi%de1:v%d:%b" % (salt, self.seq, len(self.value), self.value)


@dataclass(frozen=True, slots=True)
class PeersOutput:
    """What a node tells of a topic: a list of addresses, and one of local ones less their first two bytes."""

    peers: bytes = b""
    local: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes, none at all when nothing is known."""
        message = messages_pb2.PeersOutput()
        if self.peers:
            message.peers = self.peers
        if self.local:
            message.localPeers = self.local
        return message.SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> PeersOutput | None:
        """Return what ``data`` says, or None when it is malformed."""
        message = messages_pb2.PeersOutput()
        try:
            message.ParseFromString(data)
        except DecodeError:
            return None
        return cls(message.peers, message.localPeers)
