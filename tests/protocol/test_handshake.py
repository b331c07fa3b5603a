"""The handshake of a connection: what the reference says, in any pieces, and what comes right after it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs import varint
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import (
    ChannelOpened,
    ChannelRequested,
    Event,
    HandshakeDone,
)
from hyperfs.protocol.noise import NoiseKeyPair
from tests.support import vectors
from tests.support.wire import DISCOVERY_KEY, KEY, Pair


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


def test_without_encryption_frames_go_over_the_wire_as_they_are() -> None:
    left, right = (Connection(initiator=initiator, encrypted=False) for initiator in (True, False))
    for one, other in ((left, right), (right, left), (left, right)):
        other.receive(one.take_output())
    assert left.is_ready
    assert right.is_ready
    channel = left.open_channel(KEY)
    sent = bytes(left.take_output())
    assert DISCOVERY_KEY in sent
    assert [type(event) for event in right.receive(sent)] == [ChannelRequested]
    assert right.open_channel(KEY) is not None
    assert ChannelOpened in [type(event) for event in left.receive(right.take_output())]
    assert channel is not None
    assert channel.is_open
