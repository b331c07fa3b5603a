"""Bodies of messages: bytes to events and back.

A decoder returns an event whose every field has the form that docs/formats.md, "The wire", gives it, or raises
`PeerMisbehaved`; nothing above checks a length again. Parsing is protobuf's; by hand goes only what is hot: messages
that are written for each block, and the value of a large block, which is copied once, out of the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from hyperfs import varint
from hyperfs.crypto import HASH_BYTES, KEY_BYTES, SIGNATURE_BYTES
from hyperfs.errors import EncodingError, PeerMisbehaved
from hyperfs.protocol import messages_pb2
from hyperfs.protocol.events import (
    CancelReceived,
    DataReceived,
    Event,
    HaveReceived,
    OptionsReceived,
    RequestReceived,
    StatusReceived,
    UnhaveReceived,
    UnwantReceived,
    WantReceived,
)
from hyperfs.protocol.frames import MAX_FRAME_BYTES, MessageType
from hyperfs.tree_node import TreeNode

if TYPE_CHECKING:
    from hyperfs.protocol.channel import Channel

MAX_NUMBER = 2**53 - 1
"""The largest number of a block, a byte or a tree node: the reference counts in doubles."""

MAX_PROOF_NODES = 256
"""A proof has at most an uncle and a root for each level of the tree."""

MAX_EXTENSIONS = 256
MAX_EXTENSION_NAME_BYTES = 256

MAX_SMALL_BODY_BYTES = 1024
"""The longest body of a message that consists of a few numbers, keys and hashes."""
MAX_BODY_BYTES: dict[int, int] = {
    MessageType.OPTIONS: 128 * 1024,
    MessageType.HAVE: 256 * 1024,
    MessageType.DATA: MAX_FRAME_BYTES,
    MessageType.EXTENSION: MAX_FRAME_BYTES,
}
"""The longest bodies of the other messages: what is longer is not even parsed."""

_LARGE_BODY = 4096
_MAX_NODE_BYTES = 128
_NODE_FIELD = 3
_M = TypeVar("_M", bound=Message)


# Encoding


def encode_noise_payload(nonce: bytes) -> bytes:
    """Return the payload of a handshake message."""
    return messages_pb2.NoisePayload(nonce=nonce).SerializeToString()


def encode_open(discovery_key: bytes, capability: bytes) -> bytes:
    """Return the body of an Open."""
    return messages_pb2.Open(discoveryKey=discovery_key, capability=capability).SerializeToString()


def encode_close(discovery_key: bytes | None = None) -> bytes:
    """Return the body of a Close; with a discovery key it refuses an Open."""
    return messages_pb2.Close(discoveryKey=discovery_key).SerializeToString()


def encode_options(extensions: Iterable[str], *, ack: bool = False) -> bytes:
    """Return the body of an Options."""
    names = [name.encode() for name in extensions]
    return messages_pb2.Options(extensions=names, ack=ack).SerializeToString()


def encode_status(*, uploading: bool, downloading: bool) -> bytes:
    """Return the body of a Status, both fields written: an absent one reads as false."""
    return messages_pb2.Status(uploading=uploading, downloading=downloading).SerializeToString()


def encode_have(start: int, length: int, bitfield: bytes | None = None, *, ack: bool = False) -> bytes:
    """Return the body of a Have; ValueError for a bitfield with a length below 2."""
    body = encode_range(start, length)
    if bitfield is not None:
        if length < 2:
            raise ValueError(f"a Have of length {length} cannot carry a bitfield")
        body += b"\x1a" + varint.encode(len(bitfield)) + bitfield
    return body + b"\x20\x01" if ack else body


def encode_range(start: int, length: int | None) -> bytes:
    """Return the body of an Unhave, a Want or an Unwant."""
    body = b"\x08" + varint.encode(start)
    return body if length is None else body + b"\x10" + varint.encode(length)


def encode_request(index: int, byte_offset: int = 0, hash_only: bool = False, digest: int = 0) -> bytes:
    """Return the body of a Request; zeros are left out, as they mean the same."""
    body = encode_cancel(index, byte_offset, hash_only)
    return body + b"\x20" + varint.encode(digest) if digest else body


def encode_cancel(index: int, byte_offset: int = 0, hash_only: bool = False) -> bytes:
    """Return the body of a Cancel; zeros are left out, as they mean the same."""
    body = b"\x08" + varint.encode(index)
    if byte_offset:
        body += b"\x10" + varint.encode(byte_offset)
    if hash_only:
        body += b"\x18\x01"
    return body


def encode_data_around(
    index: int, value: bytes | None, nodes: Sequence[tuple[int, bytes, int]] = (), signature: bytes | None = None
) -> tuple[bytes, bytes]:
    """Return what stands before and behind ``value`` in the body of a Data."""
    head = b"\x08" + varint.encode(index)
    if value is not None:
        head += b"\x12" + varint.encode(len(value))
    tail = b""
    for tree_index, digest, size in nodes:
        node = b"\x08" + varint.encode(tree_index) + b"\x12\x20" + digest + b"\x18" + varint.encode(size)
        tail += b"\x1a" + varint.encode(len(node)) + node
    if signature is not None:
        tail += b"\x22" + varint.encode(len(signature)) + signature
    return head, tail


# Decoding


def decode_noise_payload(payload: bytes) -> bytes:
    """Return the nonce of a handshake's payload."""
    nonce = _parse(messages_pb2.NoisePayload, payload).nonce
    if len(nonce) != 24:
        raise PeerMisbehaved(f"sent a handshake with a nonce of {len(nonce)} bytes instead of 24")
    return nonce


def decode_open(body: memoryview) -> tuple[bytes, bytes]:
    """Return an Open's discovery key and capability, which is empty if there is none."""
    message = _parse(messages_pb2.Open, body)
    _check_size("a discovery key", message.discoveryKey, KEY_BYTES)
    return message.discoveryKey, message.capability


def decode_close(body: memoryview) -> bytes | None:
    """Return a Close's discovery key, if it has one."""
    message = _parse(messages_pb2.Close, body)
    if not message.HasField("discoveryKey"):
        return None
    _check_size("a discovery key", message.discoveryKey, KEY_BYTES)
    return message.discoveryKey


def decode_options(channel: Channel, body: memoryview) -> OptionsReceived:
    """Return the event of an Options."""
    extensions, ack = decode_extensions(body)
    return OptionsReceived(channel, extensions, ack)


def decode_extensions(body: memoryview) -> tuple[tuple[str, ...], bool]:
    """Return the names of extensions in an Options, in their order, and its ack."""
    message = _parse(messages_pb2.Options, body)
    if len(message.extensions) > MAX_EXTENSIONS:
        raise PeerMisbehaved(f"listed {len(message.extensions)} extensions, more than {MAX_EXTENSIONS}")
    for name in message.extensions:
        if len(name) > MAX_EXTENSION_NAME_BYTES:
            raise PeerMisbehaved(
                f"listed an extension whose name has {len(name)} bytes, more than {MAX_EXTENSION_NAME_BYTES}"
            )
    try:
        return tuple(name.decode() for name in message.extensions), message.ack
    except UnicodeDecodeError as error:
        raise PeerMisbehaved(f"listed an extension whose name is not UTF-8: {error}") from error


def decode_extension(body: memoryview) -> tuple[int, bytes]:
    """Return the id of an extension message, an index into the sender's list, and its payload."""
    try:
        extension_id, offset = varint.decode(body)
    except EncodingError as error:
        raise PeerMisbehaved(f"sent an extension message without an id: {error}") from error
    return extension_id, bytes(body[offset:])


def _decode_status(channel: Channel, body: memoryview) -> StatusReceived:
    message = _parse(messages_pb2.Status, body)
    return StatusReceived(channel, message.uploading, message.downloading)


def _decode_have(channel: Channel, body: memoryview) -> HaveReceived:
    message = _parse(messages_pb2.Have, body)
    start, length = message.start, message.length
    _check_number("a Have", start)
    _check_number("a Have", length)
    bitfield = message.bitfield if message.HasField("bitfield") else None
    return HaveReceived(channel, start, length, bitfield, message.ack)


def _decode_unhave(channel: Channel, body: memoryview) -> UnhaveReceived:
    message = _parse(messages_pb2.Unhave, body)
    _check_number("an Unhave", message.start)
    _check_number("an Unhave", message.length)
    return UnhaveReceived(channel, message.start, message.length)


def _decode_want(channel: Channel, body: memoryview) -> WantReceived:
    return WantReceived(channel, *_wanted(_parse(messages_pb2.Want, body)))


def _decode_unwant(channel: Channel, body: memoryview) -> UnwantReceived:
    return UnwantReceived(channel, *_wanted(_parse(messages_pb2.Unwant, body)))


def _wanted(message: messages_pb2.Want | messages_pb2.Unwant) -> tuple[int, int | None]:
    _check_number("a Want", message.start)
    if not message.HasField("length"):
        return message.start, None
    _check_number("a Want", message.length)
    return message.start, message.length


def _decode_request(channel: Channel, body: memoryview) -> RequestReceived:
    message = _parse(messages_pb2.Request, body)
    index, byte_offset = message.index, message.bytes
    if index > MAX_NUMBER or byte_offset > MAX_NUMBER:
        _check_number("a Request", max(index, byte_offset))
    return RequestReceived(channel, index, byte_offset, message.hash, message.nodes)


def _decode_cancel(channel: Channel, body: memoryview) -> CancelReceived:
    message = _parse(messages_pb2.Cancel, body)
    _check_number("a Cancel", message.index)
    _check_number("a Cancel", message.bytes)
    return CancelReceived(channel, message.index, message.bytes, message.hash)


def _decode_data(channel: Channel, body: memoryview) -> DataReceived:
    value: bytes | None = None
    if len(body) > _LARGE_BODY:
        value, body = _cut_out_value(body)
        _check_fields(body)
    message = _parse(messages_pb2.Data, body)
    index = message.index
    _check_number("a Data", index)
    if message.HasField("value"):
        value = message.value
    nodes: tuple[TreeNode, ...] = ()
    if message.nodes:
        if len(message.nodes) > MAX_PROOF_NODES:
            raise PeerMisbehaved(f"sent a proof of {len(message.nodes)} nodes, more than {MAX_PROOF_NODES}")
        nodes = tuple([TreeNode(node.index, node.hash, node.size) for node in message.nodes])
        for tree_index, digest, size in nodes:
            if len(digest) != HASH_BYTES:
                _check_size("a tree node's hash", digest, HASH_BYTES)
            if tree_index > MAX_NUMBER or size > MAX_NUMBER:
                _check_number("a tree node", max(tree_index, size))
    signature = message.signature or None
    if signature is not None:
        _check_size("a signature", signature, SIGNATURE_BYTES)
    return DataReceived(channel, index, value, nodes, signature)


def _cut_out_value(body: memoryview) -> tuple[bytes | None, memoryview]:
    """Return the value of a large Data and what is around it, so that protobuf does not copy it twice more.

    Works for a body that begins with index and value, as writers order them; any other is left whole.
    """
    try:
        if body[0] == 0x08:
            _, offset = varint.decode(body, 1)
            if body[offset] == 0x12:
                size, begin = varint.decode(body, offset + 1)
                end = begin + size
                if end <= len(body):
                    return bytes(body[begin:end]), memoryview(b"".join((body[:offset], body[end:])))
    except (EncodingError, IndexError):
        pass  # protobuf will say what is wrong
    return None, body


def _check_fields(body: memoryview) -> None:
    """Raise PeerMisbehaved for a Data with more, or larger, nodes than a proof can have, before it is parsed."""
    offset = 0
    try:
        for _ in range(MAX_PROOF_NODES + 8):
            if offset >= len(body):
                return
            tag, offset = varint.decode(body, offset)
            size, begin = varint.decode(body, offset)
            if tag & 7 == 2:
                if tag >> 3 == _NODE_FIELD and size > _MAX_NODE_BYTES:
                    raise PeerMisbehaved(f"sent a tree node of {size} bytes")
                offset = begin + size
            elif tag & 7 == 0:
                offset = begin
            else:
                return  # protobuf will say what is wrong
    except EncodingError:
        return  # likewise
    raise PeerMisbehaved(f"sent a proof of more than {MAX_PROOF_NODES} nodes")


def _parse(message_class: type[_M], body: bytes | memoryview) -> _M:
    try:
        message = message_class.FromString(bytes(body))
    except DecodeError as error:
        raise PeerMisbehaved(f"sent a malformed {message_class.DESCRIPTOR.name}: {error}") from error
    if not message.IsInitialized():
        raise PeerMisbehaved(f"sent a {message_class.DESCRIPTOR.name} without a field that it must have")
    return message


def _check_number(where: str, number: int) -> None:
    if number > MAX_NUMBER:
        raise PeerMisbehaved(f"sent {where} with the number {number}, more than a core can hold")


def _check_size(what: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise PeerMisbehaved(f"sent {what} of {len(data)} bytes instead of {size}")


DECODERS: dict[int, Callable[[Channel, memoryview], Event]] = {
    MessageType.STATUS: _decode_status,
    MessageType.HAVE: _decode_have,
    MessageType.UNHAVE: _decode_unhave,
    MessageType.WANT: _decode_want,
    MessageType.UNWANT: _decode_unwant,
    MessageType.REQUEST: _decode_request,
    MessageType.CANCEL: _decode_cancel,
    MessageType.DATA: _decode_data,
}
"""How each message of an open channel that needs nothing but its body becomes an event."""
