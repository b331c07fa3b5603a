"""A connection to a peer that means harm: every violation ends it by name, and nothing it can grow is unbounded."""

import contextlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs import crypto, varint
from hyperfs.errors import PeerMisbehaved
from hyperfs.protocol import connection as connection_module
from hyperfs.protocol.codec import encode_close, encode_open, encode_request
from hyperfs.protocol.connection import MAX_CHANNELS, MAX_UNPROVEN_BYTES, Connection
from hyperfs.protocol.events import ChannelRequested
from hyperfs.protocol.frames import MAX_FRAME_BYTES, MessageType, encode_frame
from hyperfs.protocol.noise import NoiseKeyPair, NoiseXX
from tests.support.wire import DISCOVERY_KEY, KEY, OTHER_KEY, RawPeer, handshake_message, violation


def ready() -> tuple[Connection, RawPeer]:
    connection = Connection(initiator=False)
    return connection, RawPeer(connection)


def with_open_channel() -> tuple[Connection, RawPeer]:
    connection, peer = ready()
    peer.send_open(1)
    assert connection.open_channel(KEY) is not None
    peer.answers()
    return connection, peer


# In the handshake


@pytest.mark.parametrize("initiator", [True, False])
def test_handshake_message_over_the_limit_is_refused_by_its_length_alone(initiator: bool) -> None:
    connection = Connection(initiator=initiator)
    assert "65536 bytes" in violation(connection.receive, varint.encode(65536))


@pytest.mark.parametrize("initiator", [True, False])
def test_endless_length_in_the_handshake_is_refused(initiator: bool) -> None:
    connection = Connection(initiator=initiator)
    assert "length is no number" in violation(connection.receive, b"\xff" * 10)


@pytest.mark.parametrize("initiator", [True, False])
def test_empty_handshake_message_is_refused(initiator: bool) -> None:
    assert "too short" in violation(Connection(initiator=initiator).receive, b"\x00")


def test_garbage_instead_of_the_second_message_is_refused() -> None:
    connection = Connection(initiator=True)
    assert "authenticate" in violation(connection.receive, handshake_message(b"g" * 122))


def test_garbage_instead_of_the_third_message_is_refused() -> None:
    connection = Connection(initiator=False)
    noise = NoiseXX(initiator=True, static=NoiseKeyPair.generate())
    connection.receive(handshake_message(noise.write_message(b"\x0a\x18" + bytes(24))))
    assert "authenticate" in violation(connection.receive, handshake_message(b"g" * 90))


@pytest.mark.parametrize("payload", [b"", b"\x0a\x17" + bytes(23), b"\xff"])
def test_handshake_without_a_nonce_is_refused(payload: bytes) -> None:
    noise = NoiseXX(initiator=True, static=NoiseKeyPair.generate())
    connection = Connection(initiator=False)
    assert "sent a" in violation(connection.receive, handshake_message(noise.write_message(payload)))


def test_other_protocol_on_the_port_is_refused() -> None:
    connection = Connection(initiator=False)
    message = violation(connection.receive, b"GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/8\r\n\r\n" * 2)
    assert message.startswith("sent a")


@given(st.lists(st.binary(max_size=200), max_size=8), st.booleans())
def test_any_garbage_in_the_handshake_is_waited_out_or_refused(pieces: list[bytes], initiator: bool) -> None:
    connection = Connection(initiator=initiator)
    with contextlib.suppress(PeerMisbehaved):
        for piece in pieces:
            assert connection.receive(piece) == []


# After it


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8))
def test_any_garbage_after_the_handshake_is_harmless(pieces: list[bytes]) -> None:
    connection, peer = with_open_channel()
    with contextlib.suppress(PeerMisbehaved):
        for piece in pieces:
            peer.send(piece)
    assert connection.pending_output < 10_000


@given(number=st.integers(0, 3), message_type=st.integers(0, 15), body=st.binary(max_size=100))
def test_any_body_in_a_frame_is_harmless(number: int, message_type: int, body: bytes) -> None:
    _, peer = with_open_channel()
    with contextlib.suppress(PeerMisbehaved):
        peer.send_frame(number, message_type, body)


def test_nine_mebibyte_frame_is_refused() -> None:
    _, peer = with_open_channel()
    assert "9437184 bytes" in violation(peer.send, varint.encode(9 * 1024 * 1024))


def test_endless_varint_is_refused() -> None:
    _, peer = with_open_channel()
    assert "length is no number" in violation(peer.send, b"\xff" * 11)


def test_connection_stays_over_after_a_violation() -> None:
    connection, peer = with_open_channel()
    first = violation(peer.send, varint.encode(MAX_FRAME_BYTES + 1))
    assert violation(connection.receive, b"anything") == first


def test_nothing_is_sent_after_a_violation() -> None:
    connection, peer = ready()
    peer.send_open(1)
    channel = connection.open_channel(KEY)
    assert channel is not None
    violation(peer.send, b"\xff" * 11)
    channel.send_request(1)
    connection.send_keep_alive()
    assert (len(connection.take_output()), connection.pending_output) == (0, 0)


# Channels


@pytest.mark.parametrize("message_type", [MessageType.DATA, MessageType.REQUEST, MessageType.OPTIONS])
def test_message_on_a_channel_never_opened_is_refused(message_type: MessageType) -> None:
    _, peer = with_open_channel()
    message = violation(peer.send_frame, 2, message_type, encode_request(1))
    assert message == f"sent {message_type.name.capitalize()} on channel 2, which it never opened"


@pytest.mark.parametrize("message_type", [MessageType.DATA, MessageType.HAVE])
def test_core_message_on_channel_0_is_refused(message_type: MessageType) -> None:
    _, peer = with_open_channel()
    assert "channel 0" in violation(peer.send_frame, 0, message_type, encode_request(1))


def test_opening_channel_0_is_refused() -> None:
    _, peer = ready()
    assert "channel 0" in violation(peer.send_open, 0)


def test_opening_one_core_twice_is_refused() -> None:
    _, peer = with_open_channel()
    assert "twice" in violation(peer.send_open, 2)


def test_asking_for_one_core_twice_is_refused() -> None:
    _, peer = ready()
    peer.send_open(1)
    assert "twice" in violation(peer.send_open, 2)


def test_number_in_use_is_refused() -> None:
    _, peer = with_open_channel()
    assert "used before" in violation(peer.send_open, 1, OTHER_KEY)


def test_number_of_a_closed_channel_is_refused() -> None:
    _, peer = with_open_channel()
    peer.send_frame(1, MessageType.CLOSE)
    assert "used before" in violation(peer.send_open, 1, OTHER_KEY)


def test_number_that_a_refusal_used_is_refused() -> None:
    _, peer = ready()
    peer.send_frame(3, MessageType.CLOSE, encode_close(DISCOVERY_KEY))
    assert "used before" in violation(peer.send_open, 3)


@pytest.mark.parametrize("capability", [b"", bytes(32), bytes(31)])
def test_wrong_capability_for_a_channel_that_we_opened_ends_the_connection(capability: bytes) -> None:
    connection, peer = ready()
    connection.open_channel(KEY)
    with pytest.raises(PeerMisbehaved, match="wrong capability"):
        peer.send_open(1, capability=capability)


def test_our_own_capability_sent_back_is_wrong() -> None:
    connection, peer = ready()
    connection.open_channel(KEY)
    ours = crypto.capability(KEY, peer.split.receive_key, peer.split.send_key)
    with pytest.raises(PeerMisbehaved, match="wrong capability"):
        peer.send_open(1, capability=ours)


def test_capability_for_another_core_is_wrong() -> None:
    connection, peer = ready()
    connection.open_channel(KEY)
    with pytest.raises(PeerMisbehaved, match="wrong capability"):
        peer.send_open(1, capability=crypto.capability(OTHER_KEY, peer.split.send_key, peer.split.receive_key))


# What a stranger learns


def test_wrong_capability_does_not_open() -> None:
    connection, peer = ready()
    peer.send_open(1, capability=bytes(32))
    assert connection.open_channel(KEY) is None


def test_wrong_capability_is_answered_like_an_unknown_core() -> None:
    connection, peer = ready()
    peer.send_open(1, capability=bytes(32))
    connection.open_channel(KEY)
    known = peer.answers()
    connection, peer = ready()
    peer.send_open(1, capability=bytes(32))
    connection.refuse(DISCOVERY_KEY)
    assert known == peer.answers() == [(1, MessageType.CLOSE, encode_close(DISCOVERY_KEY))]


@pytest.mark.parametrize("known", [True, False])
def test_capabilities_are_compared_in_constant_time_for_known_and_unknown_cores(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append((given, expected))
        return hmac.compare_digest(given, expected)

    connection, peer = ready()
    peer.send_open(1, capability=bytes(32))
    monkeypatch.setattr(connection_module, "compare_digest", compare)
    if known:
        connection.open_channel(KEY)
    else:
        connection.refuse(DISCOVERY_KEY)
    assert [len(given) for given, _ in compared] == [32]


def test_refused_peer_may_prove_itself_later() -> None:
    connection, peer = ready()
    peer.send_open(1, capability=bytes(32))
    connection.open_channel(KEY)
    peer.send_frame(1, MessageType.CLOSE)
    peer.send_open(2)
    assert connection.open_channel(KEY) is not None


# What a stranger can make us do


def test_asking_taking_back_and_asking_in_one_piece_can_be_answered_once_for_each() -> None:
    connection, peer = ready()
    capability = crypto.capability(KEY, peer.split.send_key, peer.split.receive_key)
    body = encode_open(DISCOVERY_KEY, capability)
    stream = (
        encode_frame(1, MessageType.OPEN, body)
        + encode_frame(1, MessageType.CLOSE, b"")
        + encode_frame(2, MessageType.OPEN, body)
    )
    channels = [connection.open_channel(KEY) for event in peer.send(stream) if isinstance(event, ChannelRequested)]
    assert len(channels) == 2
    assert channels[0] is channels[1]


# What a stranger can make us keep


def flood(peer: RawPeer, first: int, count: int) -> list[ChannelRequested]:
    stream = b"".join(
        encode_frame(number, MessageType.OPEN, encode_open(number.to_bytes(32, "big"), bytes(32)))
        for number in range(first, first + count)
    )
    return [event for event in peer.send(stream) if isinstance(event, ChannelRequested)]


def test_opens_beyond_the_limit_are_refused_without_asking_us() -> None:
    _, peer = ready()
    asked = flood(peer, 1, MAX_CHANNELS + 3)
    assert (len(asked), len(peer.answers())) == (MAX_CHANNELS, 3)


def test_refusals_beyond_the_limit_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_REFUSALS", 5)
    connection, peer = ready()
    for event in flood(peer, 1, 5):
        connection.refuse(event.discovery_key)
    assert "opened 5 channels that were refused" in violation(flood, peer, 6, 1)


def test_refused_opens_leave_nothing_behind() -> None:
    connection, peer = ready()
    for event in flood(peer, 1, 100):
        connection.refuse(event.discovery_key)
    assert (len(connection._remote), len(connection._requested), len(connection._channels)) == (0, 0, 0)


def test_closed_channels_leave_nothing_behind() -> None:
    connection, peer = with_open_channel()
    peer.send_frame(1, MessageType.CLOSE)
    assert (len(connection._remote), len(connection._requested), len(connection._channels)) == (0, 0, 0)


def test_closes_of_nothing_leave_nothing_behind() -> None:
    connection, peer = ready()
    for number in range(1, 100):
        peer.send_frame(number, MessageType.CLOSE, encode_close(number.to_bytes(32, "big")))
    assert (len(connection._remote), connection.pending_output) == (0, 0)


def test_a_large_frame_of_who_has_shown_to_know_no_key_is_refused_at_its_header() -> None:
    _, peer = ready()
    begun = encode_frame(1, MessageType.DATA, bytes(MAX_UNPROVEN_BYTES))[:100]
    assert "has shown for no core that it knows the key" in violation(peer.send, begun)


def test_a_large_frame_on_a_channel_that_was_open_is_waited_for() -> None:
    _, peer = with_open_channel()
    peer.send(encode_frame(1, MessageType.DATA, bytes(MAX_UNPROVEN_BYTES))[:100])
