"""The control socket's frames."""

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.daemon.wire import (
    MAX_HEADER,
    MAX_PAYLOAD,
    PREFIX,
    Cancel,
    Failure,
    Hello,
    Message,
    Notice,
    Reply,
    Request,
    decode,
    encode,
    sizes,
)
from hyperfs.errors import EncodingError

MESSAGES: list[Message] = [
    Hello(1, "0.1.0", 42),
    Request(1, "core.fetch", {"key": b"k" * 32, "ranges": [[0, 5]]}),
    Cancel(7),
    Reply(7, [1, "two", b"three", None]),
    Failure(7, {"kind": "UsageError", "message": "no"}),
    Notice("head", {"length": 3}),
]


def split(frame: bytes) -> tuple[bytes, int]:
    header_size, payload_size = sizes(frame[: PREFIX.size])
    assert len(frame) == PREFIX.size + header_size
    return frame[PREFIX.size :], payload_size


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_out_as_it_went_in(message: Message) -> None:
    header, payload_size = split(encode(message))
    assert (decode(header), payload_size) == (message, 0)


def test_a_payload_is_announced_in_the_prefix_and_handed_over_as_it_is() -> None:
    header, payload_size = split(encode(Request(1, "content.append", {}), 5))
    assert payload_size == 5
    assert decode(header, b"hello") == Request(1, "content.append", {}, b"hello")


def test_names_that_are_not_utf8_survive() -> None:
    header, _ = split(encode(Notice("n", {"path": "caf\udce9"})))
    assert decode(header) == Notice("n", {"path": "caf\udce9"})


@pytest.mark.parametrize(("header", "payload"), [(MAX_HEADER + 1, 0), (0, MAX_PAYLOAD + 1), (2**32 - 1, 2**32 - 1)])
def test_sizes_beyond_the_bounds_are_refused_before_anything_is_read(header: int, payload: int) -> None:
    with pytest.raises(EncodingError):
        sizes(PREFIX.pack(header, payload))


def test_a_message_too_large_for_a_frame_is_refused_when_it_is_made() -> None:
    with pytest.raises(EncodingError):
        encode(Reply(1, bytes(MAX_HEADER)))


@pytest.mark.parametrize(
    "fields",
    [
        None,
        5,
        [],
        [9, 1],
        [1, 2],
        [1, "id", "method", {}],
        [1, 2, "method", []],
        [3, 4, 5, 6],
        ["hyperfs", "1", "0", 1],
    ],
    ids=repr,
)
def test_what_is_no_message_is_refused(fields: object) -> None:
    with pytest.raises(EncodingError):
        decode(msgpack.packb(fields))


def test_only_requests_have_payloads() -> None:
    header, _ = split(encode(Cancel(1)))
    with pytest.raises(EncodingError):
        decode(header, b"x")


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_an_encoding_error(data: bytes) -> None:
    with contextlib.suppress(EncodingError):
        decode(data)


def test_a_map_whose_keys_cannot_be_keys_is_refused() -> None:
    with pytest.raises(EncodingError):
        decode(bytes.fromhex("910581910101"))
