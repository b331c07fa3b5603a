"""What a peer may do that our own side does not."""

import pytest

from hyperfs import crypto
from hyperfs.protocol.codec import encode_request
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import (
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    ChannelRequested,
    DataReceived,
    HaveReceived,
    OptionsReceived,
    RequestReceived,
    StatusReceived,
    UnhaveReceived,
    UnwantReceived,
    WantReceived,
)
from hyperfs.protocol.frames import FrameReader, MessageType, encode_frame
from tests.support import vectors
from tests.support.wire import DISCOVERY_KEY, KEY, OTHER_KEY, RawPeer


def ready_responder() -> tuple[Connection, RawPeer]:
    connection = Connection(initiator=False)
    return connection, RawPeer(connection)


@pytest.mark.parametrize("message_type", [11, 12, 13, 14])
@pytest.mark.parametrize("number", [0, 1, 9])
def test_unknown_types_are_ignored(message_type: int, number: int) -> None:
    connection, peer = ready_responder()
    peer.send_open(1)
    connection.open_channel(KEY)
    assert peer.send_frame(number, message_type, b"whatever") == []


@pytest.mark.parametrize("message_type", [MessageType.OPTIONS, MessageType.EXTENSION])
def test_extensions_of_the_connection_are_ignored(message_type: MessageType) -> None:
    _, peer = ready_responder()
    assert peer.send_frame(0, message_type, b"\x0a\x01x" if message_type == MessageType.OPTIONS else b"\x00x") == []


def test_numbers_may_be_left_out() -> None:
    _, peer = ready_responder()
    peer.send_open(5)
    assert peer.send_open(300, OTHER_KEY) == [ChannelRequested(crypto.discovery_key(OTHER_KEY))]


def test_messages_on_a_channel_that_we_have_not_opened_are_dropped() -> None:
    _, peer = ready_responder()
    peer.send_open(1)
    assert peer.send_frame(1, MessageType.REQUEST, encode_request(1)) == []


def test_close_of_an_open_channel_is_answered_with_an_empty_close() -> None:
    connection, peer = ready_responder()
    peer.send_open(1)
    connection.open_channel(KEY)
    peer.answers()
    peer.send_frame(1, MessageType.CLOSE)
    assert peer.answers() == [(1, MessageType.CLOSE, b"")]


def test_close_by_discovery_key_on_another_number_closes() -> None:
    connection, peer = ready_responder()
    peer.send_open(1)
    channel = connection.open_channel(KEY)
    assert channel is not None
    assert peer.send_frame(7, MessageType.CLOSE, b"\x0a\x20" + DISCOVERY_KEY) == [ChannelClosed(channel)]


@pytest.mark.parametrize("body", [b"", b"\x0a\x20" + bytes(32)])
def test_close_of_nothing_is_ignored(body: bytes) -> None:
    _, peer = ready_responder()
    assert (peer.send_frame(4, MessageType.CLOSE, body), peer.answers()) == ([], [])


def test_whole_life_in_one_piece() -> None:
    connection, peer = ready_responder()
    channel = connection.open_channel(KEY)
    assert channel is not None
    capability = crypto.capability(KEY, peer.split.send_key, peer.split.receive_key)
    stream = b"".join(
        [
            encode_frame(1, MessageType.OPEN, b"\x0a\x20" + DISCOVERY_KEY + b"\x12\x20" + capability),
            encode_frame(1, MessageType.REQUEST, encode_request(3)),
            encode_frame(1, MessageType.CLOSE, b""),
        ]
    )
    assert peer.send(stream) == [
        ChannelOpened(channel),
        RequestReceived(channel, 3, 0, False, 0),
        ChannelClosed(channel),
    ]


def test_frames_of_a_connection_are_those_of_the_vectors() -> None:
    reader = FrameReader()
    frames = b"".join(bytes.fromhex(vector["frame"]) for vector in vectors.load("frames")["frames"])
    reader.space(len(frames))[:] = frames
    connection, peer = ready_responder()
    peer.send_open(1)
    peer.send_open(2, OTHER_KEY)
    first, second = connection.open_channel(KEY), connection.open_channel(OTHER_KEY)
    kinds = [
        type(event)
        for number, message_type, body in reader.frames()
        if number in (1, 2) and message_type != MessageType.OPEN
        for event in peer.send_frame(number, message_type, bytes(body))
    ]
    assert first is not None
    assert second is not None
    assert kinds == [
        OptionsReceived,
        StatusReceived,
        HaveReceived,
        HaveReceived,
        UnhaveReceived,
        WantReceived,
        UnwantReceived,
        RequestReceived,
        RequestReceived,
        CancelReceived,
        DataReceived,
    ]
