"""A connection between honest peers: handshake, channels, every message, and every split of the bytes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs import crypto, varint
from hyperfs.protocol.channel import Channel, ChannelState
from hyperfs.protocol.codec import encode_request
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import (
    CancelReceived,
    ChannelClosed,
    ChannelOpened,
    ChannelRefused,
    ChannelRequested,
    DataReceived,
    Event,
    ExtensionReceived,
    HandshakeDone,
    HaveReceived,
    OptionsReceived,
    ProofNode,
    RequestReceived,
    StatusReceived,
    UnhaveReceived,
    UnwantReceived,
    WantReceived,
)
from hyperfs.protocol.frames import MAX_FRAME_BYTES, FrameReader, MessageType, encode_frame
from hyperfs.protocol.noise import NoiseKeyPair
from tests.support import vectors
from tests.support.wire import KEY, OTHER_KEY, Pair, RawPeer

DISCOVERY_KEY = crypto.discovery_key(KEY)

# The handshake


def reference_connections() -> tuple[Connection, Connection]:
    vector = vectors.load("handshake")

    def side(static: str, ephemeral: str, nonce: str, *, initiator: bool) -> Connection:
        return Connection(
            initiator=initiator,
            static_key=NoiseKeyPair.of_secret(bytes.fromhex(vector["keys"][static]["sk"])),
            ephemeral_key=NoiseKeyPair.of_secret(bytes.fromhex(vector["keys"][ephemeral]["sk"])),
            nonce=bytes.fromhex(vector[nonce]),
        )

    return (
        side("is", "ie", "nonceInitiator", initiator=True),
        side("rs", "re", "nonceResponder", initiator=False),
    )


def reference_messages() -> list[bytes]:
    messages = [bytes.fromhex(message["message"]) for message in vectors.load("handshake")["messages"]]
    return [varint.encode(len(message)) + message for message in messages]


def test_initiator_sends_what_the_reference_sends() -> None:
    initiator, _ = reference_connections()
    first, second, third = reference_messages()
    sent = [bytes(initiator.take_output())]
    initiator.receive(second)
    assert [*sent, bytes(initiator.take_output())] == [first, third]


def test_responder_sends_what_the_reference_sends() -> None:
    _, responder = reference_connections()
    first, second, _ = reference_messages()
    responder.receive(first)
    assert responder.take_output() == second


def test_initiator_learns_the_responder_s_static_key() -> None:
    initiator, responder = reference_connections()
    assert initiator.receive(reference_messages()[1]) == [HandshakeDone(responder.static_public_key)]


def test_responder_learns_the_initiator_s_static_key() -> None:
    initiator, responder = reference_connections()
    first, _, third = reference_messages()
    responder.receive(first)
    assert responder.receive(third) == [HandshakeDone(initiator.static_public_key)]


def test_keep_alive_is_encrypted_like_the_reference_s_bytes() -> None:
    initiator, _ = reference_connections()
    initiator.receive(reference_messages()[1])
    initiator.take_output()
    initiator.send_keep_alive()
    first = vectors.load("handshake")["initiatorToResponder"][0]
    expected = int(first["plain"][:2], 16) ^ int(first["cipher"][:2], 16)
    assert initiator.take_output() == bytes([expected])


def test_ciphertext_in_the_same_piece_as_the_last_handshake_message() -> None:
    pair = Pair()
    pair.right.receive(pair.left.take_output())
    pair.left.receive(pair.right.take_output())
    pair.left.open_channel(KEY)
    assert pair.right.receive(pair.left.take_output()) == [
        HandshakeDone(pair.left.static_public_key),
        ChannelRequested(DISCOVERY_KEY),
    ]


def test_two_connections_without_a_given_key_have_different_ones() -> None:
    assert Connection(initiator=True).static_public_key != Connection(initiator=True).static_public_key


def test_keep_alive_before_the_handshake_sends_nothing() -> None:
    responder = Connection(initiator=False)
    responder.send_keep_alive()
    assert responder.take_output() == b""


def test_keep_alive_is_no_event() -> None:
    pair = Pair.ready()
    pair.left.send_keep_alive()
    assert pair.pump() == ([], [])


def test_opening_before_the_handshake_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="handshake"):
        Connection(initiator=True).open_channel(KEY)


# Opening and closing


def test_open_asks_the_other_side() -> None:
    pair = Pair.ready()
    pair.left.open_channel(KEY)
    assert pair.pump() == ([], [ChannelRequested(DISCOVERY_KEY)])


def test_answering_opens_both_sides() -> None:
    pair = Pair.ready()
    left = pair.left.open_channel(KEY)
    pair.pump()
    right = pair.right.open_channel(KEY)
    assert left is not None
    assert right is not None
    assert right.is_open
    assert pair.pump()[0][0] == ChannelOpened(left)


def test_both_sides_opening_at_once() -> None:
    pair = Pair.ready()
    left, right = pair.left.open_channel(KEY), pair.right.open_channel(KEY)
    assert left is not None
    assert right is not None
    left_events, right_events = pair.pump()
    assert (left_events[0], right_events[0]) == (ChannelOpened(left), ChannelOpened(right))


def test_options_follow_an_open_by_themselves_with_sorted_names() -> None:
    pair = Pair.ready()
    pair.left.open_channel(KEY)
    pair.pump()
    pair.right.open_channel(KEY, extensions=["b", "a"])
    left_events, _ = pair.pump()
    channel = pair.left.channel(DISCOVERY_KEY)
    assert channel is not None
    assert left_events[1:] == [OptionsReceived(channel, ("a", "b"), False)]


def test_options_wait_until_both_sides_have_opened() -> None:
    pair = Pair.ready()
    pair.left.open_channel(KEY, extensions=["a"])
    assert pair.pump()[1] == [ChannelRequested(DISCOVERY_KEY)]


def test_refusing_ends_the_other_s_channel() -> None:
    pair = Pair.ready()
    channel = pair.left.open_channel(KEY)
    assert channel is not None
    pair.pump()
    pair.right.refuse(DISCOVERY_KEY)
    assert pair.pump() == ([ChannelRefused(channel)], [])


def test_refused_core_can_be_asked_for_again() -> None:
    pair = Pair.ready()
    pair.left.open_channel(KEY)
    pair.pump()
    pair.right.refuse(DISCOVERY_KEY)
    pair.pump()
    pair.left.open_channel(KEY)
    assert pair.pump() == ([], [ChannelRequested(DISCOVERY_KEY)])


def test_refusing_uses_up_a_number() -> None:
    pair = Pair.ready()
    pair.left.open_channel(KEY)
    pair.pump()
    pair.right.refuse(DISCOVERY_KEY)
    channel = pair.right.open_channel(OTHER_KEY)
    assert channel is not None
    assert channel.local_number == 2


def test_refusing_what_nobody_asked_for_sends_nothing() -> None:
    pair = Pair.ready()
    pair.right.refuse(DISCOVERY_KEY)
    assert pair.pump() == ([], [])


def test_closing_tells_the_other_side() -> None:
    pair = Pair.ready()
    left, right = pair.open()
    left.close()
    assert pair.pump() == ([], [ChannelClosed(right)])


def test_closing_twice_sends_one_close() -> None:
    pair = Pair.ready()
    left, _ = pair.open()
    left.close()
    pair.left.take_output()
    left.close()
    assert pair.left.take_output() == b""


def test_both_sides_closing_at_once() -> None:
    pair = Pair.ready()
    left, right = pair.open()
    left.close()
    right.close()
    assert pair.pump() == ([], [])


def test_closing_before_the_answer_takes_the_request_back() -> None:
    pair = Pair.ready()
    channel = pair.left.open_channel(KEY)
    assert channel is not None
    pair.pump()
    channel.close()
    pair.pump()
    pair.right.refuse(DISCOVERY_KEY)
    assert pair.pump() == ([], [])


def test_closed_core_opens_again_under_a_new_number() -> None:
    pair = Pair.ready()
    left, _ = pair.open()
    left.close()
    pair.pump()
    again, _ = pair.open()
    assert (again.is_open, again.local_number) == (True, 2)


def test_closing_and_opening_again_at_once() -> None:
    pair = Pair.ready()
    left, right = pair.open()
    left.close()
    pair.left.open_channel(KEY)
    assert pair.pump() == ([], [ChannelClosed(right), ChannelRequested(DISCOVERY_KEY)])


def test_opening_twice_gives_the_same_channel() -> None:
    pair = Pair.ready()
    assert pair.left.open_channel(KEY) is pair.left.open_channel(KEY)


def test_channels_of_two_cores_do_not_mix() -> None:
    pair = Pair.ready()
    left, right = pair.open()
    other_left, other_right = pair.open(OTHER_KEY)
    left.send_request(1)
    other_left.send_request(2)
    assert pair.pump()[1] == [
        RequestReceived(right, 1, 0, False, 0),
        RequestReceived(other_right, 2, 0, False, 0),
    ]


def test_sending_before_the_channel_is_open_is_a_mistake() -> None:
    pair = Pair.ready()
    channel = pair.left.open_channel(KEY)
    assert channel is not None
    with pytest.raises(RuntimeError, match="not open yet"):
        channel.send_request(1)


def test_sending_on_a_closed_channel_is_dropped() -> None:
    pair = Pair.ready()
    left, _ = pair.open()
    left.close()
    pair.pump()
    left.send_data(1, b"block")
    left.send_request(1)
    assert pair.left.pending_output == 0


def test_what_crosses_a_close_is_dropped() -> None:
    pair = Pair.ready()
    left, right = pair.open()
    left.close()
    right.send_data(1, b"block")
    assert pair.pump() == ([], [ChannelClosed(right)])


def test_open_channels_are_listed() -> None:
    pair = Pair.ready()
    left, _ = pair.open()
    other, _ = pair.open(OTHER_KEY)
    left.close()
    assert pair.left.channels == (other,)


def test_state_of_a_channel_over_its_life() -> None:
    pair = Pair.ready()
    channel = pair.left.open_channel(KEY)
    assert channel is not None
    states = [channel.state]
    pair.pump()
    pair.right.open_channel(KEY)
    pair.pump()
    states.append(channel.state)
    channel.close()
    assert [*states, channel.state] == [ChannelState.OPENING, ChannelState.OPEN, ChannelState.CLOSED]


# Messages


def send_one_of_each(channel: Channel) -> None:
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
    channel.send_data(10, b"block", [(20, bytes(32), 5)], bytes(64))
    channel.send_data(11, b"")
    channel.send_data(12, None)
    channel.send_data(13, bytes(70_000), [], bytes(64))
    channel.send_extension("hypertrie", b"payload")


def one_of_each(channel: Channel) -> list[Event]:
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
        DataReceived(channel, 10, b"block", (ProofNode(20, bytes(32), 5),), bytes(64)),
        DataReceived(channel, 11, b"", (), None),
        DataReceived(channel, 12, None, (), None),
        DataReceived(channel, 13, bytes(70_000), (), bytes(64)),
        ExtensionReceived(channel, "hypertrie", b"payload"),
    ]


def test_every_message_arrives() -> None:
    pair = Pair.ready()
    left, right = pair.open(extensions=("hypertrie",))
    send_one_of_each(left)
    assert pair.pump()[1] == one_of_each(right)


def test_every_message_arrives_byte_by_byte() -> None:
    pair = Pair.ready()
    left, right = pair.open(extensions=("hypertrie",))
    left.send_request(300, digest=5)
    left.send_data(10, b"block", [(20, bytes(32), 5)], bytes(64))
    left.send_extension("hypertrie", b"payload")
    stream = bytes(pair.left.take_output())
    events = [event for byte in stream for event in pair.right.receive(bytes([byte]))]
    assert events == [
        RequestReceived(right, 300, 0, False, 5),
        DataReceived(right, 10, b"block", (ProofNode(20, bytes(32), 5),), bytes(64)),
        ExtensionReceived(right, "hypertrie", b"payload"),
    ]


@given(points=st.lists(st.integers(0), max_size=20))
def test_every_message_arrives_in_any_pieces(points: list[int]) -> None:
    pair = Pair.ready()
    left, right = pair.open(extensions=("hypertrie",))
    send_one_of_each(left)
    stream = bytes(pair.left.take_output())
    ends = sorted({0, len(stream), *(point % len(stream) for point in points)})
    events = [event for begin, end in itertools.pairwise(ends) for event in pair.right.receive(stream[begin:end])]
    assert events == one_of_each(right)


@given(points=st.lists(st.integers(0), max_size=10))
def test_handshake_arrives_in_any_pieces(points: list[int]) -> None:
    pair = Pair()

    def deliver(to: Connection, data: bytes) -> list[Event]:
        ends = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
        return [event for begin, end in itertools.pairwise(ends) for event in to.receive(data[begin:end])]

    deliver(pair.right, bytes(pair.left.take_output()))
    deliver(pair.left, bytes(pair.right.take_output()))
    pair.left.open_channel(KEY)
    assert deliver(pair.right, bytes(pair.left.take_output())) == [
        HandshakeDone(pair.left.static_public_key),
        ChannelRequested(DISCOVERY_KEY),
    ]


def test_output_may_be_taken_in_any_pieces() -> None:
    pair = Pair.ready()
    left, right = pair.open()
    stream = b""
    for index in range(5):
        left.send_request(index)
        stream += pair.left.take_output()
    assert pair.right.receive(stream) == [RequestReceived(right, index, 0, False, 0) for index in range(5)]


def test_pending_output_counts_what_will_be_taken() -> None:
    pair = Pair.ready()
    left, _ = pair.open()
    left.send_data(1, bytes(1000), [(2, bytes(32), 1000)])
    left.send_request(1)
    pending = pair.left.pending_output
    taken = len(pair.left.take_output())
    assert (pending, pair.left.pending_output) == (taken, 0)


def test_pending_output_counts_the_handshake() -> None:
    connection = Connection(initiator=True)
    assert connection.pending_output == len(connection.take_output())


def test_block_too_large_for_a_frame_is_a_mistake() -> None:
    pair = Pair.ready()
    left, _ = pair.open()
    with pytest.raises(ValueError, match="does not fit a frame"):
        left.send_data(0, bytes(MAX_FRAME_BYTES))


def test_block_that_fills_a_frame_arrives() -> None:
    pair = Pair.ready()
    left, right = pair.open()
    value = bytes(MAX_FRAME_BYTES - 8)
    left.send_data(0, value)
    assert pair.pump()[1] == [DataReceived(right, 0, value, (), None)]


# Extensions


def test_extensions_go_by_the_sender_s_index() -> None:
    pair = Pair.ready()
    left = pair.left.open_channel(KEY, extensions=["a", "hypertrie"])
    pair.pump()
    right = pair.right.open_channel(KEY, extensions=["hypertrie"])
    pair.pump()
    assert left is not None
    assert right is not None
    left.send_extension("hypertrie", b"from index 1")
    right.send_extension("hypertrie", b"from index 0")
    assert pair.pump() == (
        [ExtensionReceived(left, "hypertrie", b"from index 0")],
        [ExtensionReceived(right, "hypertrie", b"from index 1")],
    )


def test_changed_extensions_are_listed_again() -> None:
    pair = Pair.ready()
    left, right = pair.open(extensions=("b",))
    left.set_extensions(["b", "a"])
    left.send_extension("b", b"x")
    assert pair.pump()[1] == [OptionsReceived(right, ("a", "b"), False), ExtensionReceived(right, "b", b"x")]


def test_unchanged_extensions_are_not_listed_again() -> None:
    pair = Pair.ready()
    left, _ = pair.open(extensions=("b",))
    left.set_extensions(["b"])
    assert pair.left.pending_output == 0


def test_extensions_changed_while_opening_are_listed_once() -> None:
    pair = Pair.ready()
    left = pair.left.open_channel(KEY, extensions=["a"])
    assert left is not None
    left.set_extensions(["b"])
    pair.pump()
    right = pair.right.open_channel(KEY)
    assert right is not None
    assert pair.pump()[1] == [OptionsReceived(right, ("b",), False)]


def test_peer_s_extensions_are_known() -> None:
    pair = Pair.ready()
    left, _ = pair.open(extensions=("hypertrie",))
    assert (left.remote_supports("hypertrie"), left.remote_supports("other")) == (True, False)


def test_sending_an_unlisted_extension_is_a_mistake() -> None:
    pair = Pair.ready()
    left, _ = pair.open(extensions=("b",))
    with pytest.raises(ValueError, match="'c' is not among those listed"):
        left.send_extension("c", b"")


def test_extension_message_of_no_listed_name_is_dropped() -> None:
    pair = Pair.ready()
    left, right = pair.open(extensions=("a",))
    right.remote_extensions = ()
    left.send_extension("a", b"before its Options")
    assert pair.pump() == ([], [])


# What a raw peer may do that our own side does not


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
