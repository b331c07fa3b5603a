"""The control socket's frames."""

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.daemon.wire import (
    MAX_MESSAGE,
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
    size_of,
)
from hyperfs.errors import EncodingError

MESSAGES: list[Message] = [
    Hello(1, "0.1.0", 42),
    Request(1, "core.fetch", {"key": b"k" * 32, "ranges": [[0, 5]]}),
    Cancel(7),
    Reply(7, [1, "two", b"three", None]),
    Reply(7, {"lease": 3}, has_descriptor=True),
    Failure(7, {"kind": "UsageError", "message": "no"}),
    Notice("head", {"length": 3}),
]


def packed_in(frame: bytes) -> bytes:
    assert len(frame) == PREFIX.size + size_of(frame[: PREFIX.size])
    return frame[PREFIX.size :]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_out_as_it_went_in(message: Message) -> None:
    assert decode(packed_in(encode(message))) == message


def test_names_that_are_not_utf8_survive() -> None:
    assert decode(packed_in(encode(Notice("n", {"path": "caf\udce9"})))) == Notice("n", {"path": "caf\udce9"})


@pytest.mark.parametrize("size", [MAX_MESSAGE + 1, 2**32 - 1])
def test_a_size_beyond_the_bound_is_refused_before_anything_is_read(size: int) -> None:
    with pytest.raises(EncodingError):
        size_of(PREFIX.pack(size, 0))


def test_nothing_comes_behind_a_message() -> None:
    with pytest.raises(EncodingError):
        size_of(PREFIX.pack(5, 1))


def test_a_message_too_large_for_a_frame_is_refused_when_it_is_made() -> None:
    with pytest.raises(EncodingError):
        encode(Reply(1, bytes(MAX_MESSAGE)))


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
        [3, 4, 5],
        [3, 4, 5, 6],
        ["hyperfs", "1", "0", 1],
    ],
    ids=repr,
)
def test_what_is_no_message_is_refused(fields: object) -> None:
    with pytest.raises(EncodingError):
        decode(msgpack.packb(fields))


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_an_encoding_error(data: bytes) -> None:
    with contextlib.suppress(EncodingError):
        decode(data)


def test_a_map_whose_keys_cannot_be_keys_is_refused() -> None:
    with pytest.raises(EncodingError):
        decode(bytes.fromhex("910581910101"))
