"""Bodies of messages: the reference's bytes, what we write, and what is refused."""

import contextlib
from typing import Any, cast

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.errors import PeerMisbehaved
from hyperfs.protocol import codec, messages_pb2
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.codec import DECODERS, MAX_NUMBER
from hyperfs.protocol.events import (
    CancelReceived,
    DataReceived,
    Event,
    HaveReceived,
    RequestReceived,
    StatusReceived,
    UnhaveReceived,
    UnwantReceived,
    WantReceived,
)
from hyperfs.protocol.frames import MessageType
from hyperfs.tree_node import TreeNode
from tests.support import vectors
from tests.support.wire import violation

VECTORS: list[dict[str, Any]] = vectors.load("frames")["frames"]
CHANNEL = cast(Channel, object())
NUMBERS = st.integers(0, MAX_NUMBER)
NODES = st.lists(st.builds(TreeNode, NUMBERS, st.binary(min_size=32, max_size=32), NUMBERS), max_size=4).map(tuple)

MESSAGES: dict[int, type[Message]] = {
    MessageType.OPEN: messages_pb2.Open,
    MessageType.OPTIONS: messages_pb2.Options,
    MessageType.STATUS: messages_pb2.Status,
    MessageType.HAVE: messages_pb2.Have,
    MessageType.UNHAVE: messages_pb2.Unhave,
    MessageType.WANT: messages_pb2.Want,
    MessageType.UNWANT: messages_pb2.Unwant,
    MessageType.REQUEST: messages_pb2.Request,
    MessageType.CANCEL: messages_pb2.Cancel,
    MessageType.DATA: messages_pb2.Data,
    MessageType.CLOSE: messages_pb2.Close,
}


def body_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["frame"])[2 if vector["channel"] < 8 else 3 :]


def plain(value: Any) -> Any:
    """Turn the fields of a vector into what protobuf's constructors take."""
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"]) if "hex" in value else {key: plain(field) for key, field in value.items()}
    if isinstance(value, list):
        return [item.encode() if isinstance(item, str) else plain(item) for item in value]
    return value


def decode(message_type: MessageType, body: bytes) -> Event:
    return DECODERS[message_type](CHANNEL, memoryview(body))


def decode_data(body: bytes) -> DataReceived:
    event = decode(MessageType.DATA, body)
    assert isinstance(event, DataReceived)
    return event


def encode_data(event: DataReceived) -> bytes:
    head, tail = codec.encode_data_around(event.index, event.value, event.nodes, event.signature)
    return head + (event.value or b"") + tail


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['type']}-{vector['frame'][:10]}")
def test_reference_s_messages_are_those_of_our_proto(vector: dict[str, Any]) -> None:
    message = MESSAGES[vector["type"]](**plain(vector["message"]))
    assert message.SerializeToString() == body_of(vector)


def vector_of(message_type: MessageType, nth: int = 0) -> bytes:
    return body_of([vector for vector in VECTORS if vector["type"] == message_type][nth])


def test_reference_s_options_are_written_the_same() -> None:
    assert codec.encode_options(["hypertrie"]) == vector_of(MessageType.OPTIONS)


def test_reference_s_options_are_read() -> None:
    assert codec.decode_extensions(memoryview(vector_of(MessageType.OPTIONS))) == (("hypertrie",), False)


def test_reference_s_refusal_is_read() -> None:
    expected = VECTORS[-1]["message"]["discoveryKey"]["hex"]
    assert codec.decode_close(memoryview(vector_of(MessageType.CLOSE, 1))) == bytes.fromhex(expected)


def test_reference_s_refusal_is_written_the_same() -> None:
    key = bytes.fromhex(VECTORS[-1]["message"]["discoveryKey"]["hex"])
    assert codec.encode_close(key) == vector_of(MessageType.CLOSE, 1)


def test_reference_s_close_has_no_key() -> None:
    assert codec.decode_close(memoryview(vector_of(MessageType.CLOSE))) is None


def test_reference_s_open_is_written_the_same() -> None:
    discovery_key, capability = codec.decode_open(memoryview(vector_of(MessageType.OPEN)))
    assert codec.encode_open(discovery_key, capability) == vector_of(MessageType.OPEN)


READ = [
    (MessageType.STATUS, 0, StatusReceived(CHANNEL, True, False)),
    (MessageType.HAVE, 0, HaveReceived(CHANNEL, 0, 1048576, bytes.fromhex("9303"), False)),
    (MessageType.HAVE, 1, HaveReceived(CHANNEL, 41, 1, None, False)),
    (MessageType.UNHAVE, 0, UnhaveReceived(CHANNEL, 7, 3)),
    (MessageType.WANT, 0, WantReceived(CHANNEL, 0, 1048576)),
    (MessageType.UNWANT, 0, UnwantReceived(CHANNEL, 0, 1048576)),
    (MessageType.REQUEST, 0, RequestReceived(CHANNEL, 12, 0, False, 5)),
    (MessageType.REQUEST, 1, RequestReceived(CHANNEL, 4000000000, 0, False, 2**53 - 1)),
    (MessageType.CANCEL, 0, CancelReceived(CHANNEL, 12, 0, False)),
]


@pytest.mark.parametrize(("message_type", "nth", "event"), READ)
def test_reference_s_message_is_read(message_type: MessageType, nth: int, event: Event) -> None:
    assert decode(message_type, vector_of(message_type, nth)) == event


def test_reference_s_data_is_read() -> None:
    node = VECTORS[11]["message"]["nodes"][0]
    assert decode_data(vector_of(MessageType.DATA)) == DataReceived(
        CHANNEL, 12, b"block", (TreeNode(26, bytes.fromhex(node["hash"]["hex"]), 5),), b"\x09" * 64
    )


def test_reference_s_data_is_written_the_same() -> None:
    body = vector_of(MessageType.DATA)
    assert encode_data(decode_data(body)) == body


WRITTEN = [
    (codec.encode_status(uploading=True, downloading=False), MessageType.STATUS, 0),
    (codec.encode_have(0, 1048576, bytes.fromhex("9303")), MessageType.HAVE, 0),
    (codec.encode_have(41, 1), MessageType.HAVE, 1),
    (codec.encode_range(7, 3), MessageType.UNHAVE, 0),
    (codec.encode_range(0, 1048576), MessageType.WANT, 0),
    (codec.encode_request(4000000000, digest=2**53 - 1), MessageType.REQUEST, 1),
    (codec.encode_cancel(12), MessageType.CANCEL, 0),
    (codec.encode_close(), MessageType.CLOSE, 0),
]


@pytest.mark.parametrize(("body", "message_type", "nth"), WRITTEN)
def test_message_is_written_like_the_reference_s(body: bytes, message_type: MessageType, nth: int) -> None:
    assert body == vector_of(message_type, nth)


@given(index=NUMBERS, byte_offset=NUMBERS, hash_only=st.booleans(), digest=st.integers(0, 2**64 - 1))
def test_request_comes_back(index: int, byte_offset: int, hash_only: bool, digest: int) -> None:
    body = codec.encode_request(index, byte_offset, hash_only, digest)
    assert decode(MessageType.REQUEST, body) == RequestReceived(CHANNEL, index, byte_offset, hash_only, digest)


@given(index=NUMBERS, byte_offset=NUMBERS, hash_only=st.booleans())
def test_cancel_comes_back(index: int, byte_offset: int, hash_only: bool) -> None:
    body = codec.encode_cancel(index, byte_offset, hash_only)
    assert decode(MessageType.CANCEL, body) == CancelReceived(CHANNEL, index, byte_offset, hash_only)


@given(start=NUMBERS, length=st.integers(2, MAX_NUMBER), bitfield=st.none() | st.binary(max_size=20))
def test_have_comes_back(start: int, length: int, bitfield: bytes | None) -> None:
    body = codec.encode_have(start, length, bitfield)
    assert decode(MessageType.HAVE, body) == HaveReceived(CHANNEL, start, length, bitfield, False)


@given(start=NUMBERS, length=st.none() | NUMBERS)
def test_want_comes_back(start: int, length: int | None) -> None:
    assert decode(MessageType.WANT, codec.encode_range(start, length)) == WantReceived(CHANNEL, start, length)


@given(
    index=NUMBERS,
    value=st.none() | st.sampled_from([b"", b"small", bytes(4096), bytes(range(256)) * 256]),
    nodes=NODES,
    signature=st.none() | st.binary(min_size=64, max_size=64),
)
def test_data_comes_back(index: int, value: bytes | None, nodes: tuple[TreeNode, ...], signature: bytes | None) -> None:
    event = DataReceived(CHANNEL, index, value, nodes, signature)
    assert decode_data(encode_data(event)) == event


@given(index=NUMBERS, value=st.none() | st.binary(max_size=50), nodes=NODES, signature=st.none() | st.just(bytes(64)))
def test_data_is_written_as_protobuf_writes_it(
    index: int, value: bytes | None, nodes: tuple[TreeNode, ...], signature: bytes | None
) -> None:
    message = messages_pb2.Data(
        index=index,
        value=value,
        nodes=[messages_pb2.Data.Node(index=node.tree_index, hash=node.hash, size=node.size) for node in nodes],
        signature=signature,
    )
    assert encode_data(DataReceived(CHANNEL, index, value, nodes, signature)) == message.SerializeToString()


def test_large_value_behind_other_fields_is_read() -> None:
    value = bytes(10_000)
    reordered = b"\x22\x40" + bytes(64) + b"\x12\x90\x4e" + value + b"\x08\x05"
    assert decode_data(reordered) == DataReceived(CHANNEL, 5, value, (), bytes(64))


def test_last_of_two_values_counts_in_a_large_message() -> None:
    assert decode_data(b"\x08\x05\x12\x90\x4e" + bytes(10_000) + b"\x12\x01x").value == b"x"


def test_unknown_fields_are_ignored() -> None:
    assert decode(MessageType.CANCEL, b"\x08\x0c\x7a\x03abc") == CancelReceived(CHANNEL, 12, 0, False)


def test_absent_flags_of_a_status_read_as_false() -> None:
    assert decode(MessageType.STATUS, b"") == StatusReceived(CHANNEL, False, False)


def test_present_and_empty_bitfield_is_not_an_absent_one() -> None:
    event = decode(MessageType.HAVE, codec.encode_have(0, 8192, b""))
    assert isinstance(event, HaveReceived)
    assert event.bitfield == b""


@pytest.mark.parametrize("length", [0, 1])
def test_bitfield_of_a_single_block_is_a_mistake(length: int) -> None:
    with pytest.raises(ValueError, match="cannot carry a bitfield"):
        codec.encode_have(0, length, b"")


REFUSED = [
    (MessageType.REQUEST, b"", "sent a Request without"),
    (MessageType.REQUEST, b"\x08", "sent a malformed Request"),
    (MessageType.REQUEST, codec.encode_request(2**53), "9007199254740992"),
    (MessageType.REQUEST, codec.encode_request(0, 2**53), "9007199254740992"),
    (MessageType.CANCEL, codec.encode_cancel(2**53), "9007199254740992"),
    (MessageType.HAVE, codec.encode_have(2**53, 1), "9007199254740992"),
    (MessageType.HAVE, codec.encode_have(0, 2**53), "9007199254740992"),
    (MessageType.HAVE, b"\x10\x01", "sent a Have without"),
    (MessageType.UNHAVE, codec.encode_range(2**53, 1), "9007199254740992"),
    (MessageType.WANT, codec.encode_range(0, 2**53), "9007199254740992"),
    (MessageType.UNWANT, codec.encode_range(2**53, None), "9007199254740992"),
    (MessageType.STATUS, b"\x0a\xff", "sent a malformed Status"),
    (MessageType.DATA, b"\x12\x01x", "sent a Data without"),
    (MessageType.DATA, b"\x08\x01\x12\x90\x4e" + bytes(5000), "sent a malformed Data"),
    (MessageType.DATA, b"\x08" + b"\xff" * 5000, "sent a malformed Data"),
    (MessageType.DATA, b"".join(codec.encode_data_around(2**53, b"")), "9007199254740992"),
    (MessageType.DATA, b"".join(codec.encode_data_around(0, None, [(2**53, bytes(32), 0)])), "9007199254740992"),
    (MessageType.DATA, b"".join(codec.encode_data_around(0, None, [(0, bytes(32), 2**53)])), "9007199254740992"),
    (MessageType.DATA, b"\x08\x01\x1a\x06\x08\x01\x12\x00\x18\x01", "hash of 0 bytes instead of 32"),
    (MessageType.DATA, b"\x08\x01\x1a\x02\x08\x01", "sent a Data without"),
    (MessageType.DATA, b"".join(codec.encode_data_around(0, b"", (), bytes(63))), "signature of 63 bytes"),
    (MessageType.DATA, b"".join(codec.encode_data_around(0, None, [(0, bytes(32), 0)] * 257)), "257 nodes"),
]


@pytest.mark.parametrize(("message_type", "body", "reason"), REFUSED)
def test_message_of_the_wrong_form_is_refused(message_type: MessageType, body: bytes, reason: str) -> None:
    assert reason in violation(decode, message_type, body)


REFUSED_NAMES = [
    ([b"\xff"], "not UTF-8"),
    ([b"x" * 257], "257 bytes"),
    ([b"x"] * 257, "257 extensions"),
]


@pytest.mark.parametrize(("names", "reason"), REFUSED_NAMES)
def test_extension_names_are_bounded(names: list[bytes], reason: str) -> None:
    body = messages_pb2.Options(extensions=names).SerializeToString()
    assert reason in violation(codec.decode_extensions, memoryview(body))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_discovery_key_of_another_size_is_refused(size: int) -> None:
    body = memoryview(messages_pb2.Open(discoveryKey=bytes(size)).SerializeToString())
    assert f"of {size} bytes instead of 32" in violation(codec.decode_open, body)


@pytest.mark.parametrize("size", [0, 23, 25])
def test_nonce_of_another_size_is_refused(size: int) -> None:
    assert f"of {size} bytes instead of 24" in violation(
        codec.decode_noise_payload, codec.encode_noise_payload(bytes(size))
    )


@given(message_type=st.sampled_from(list(DECODERS)), body=st.binary(max_size=80))
def test_garbage_is_an_event_or_a_violation(message_type: MessageType, body: bytes) -> None:
    with contextlib.suppress(PeerMisbehaved):
        assert decode(message_type, body)
