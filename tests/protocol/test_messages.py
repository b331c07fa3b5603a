"""Every message between honest peers, in any pieces of the bytes, and how much is waiting to be sent."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import (
    DataReceived,
    ExtensionReceived,
    RequestReceived,
)
from hyperfs.protocol.frames import MAX_FRAME_BYTES
from hyperfs.tree_node import TreeNode
from tests.support.wire import Pair, one_of_each, send_one_of_each


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
        DataReceived(right, 10, b"block", (TreeNode(20, bytes(32), 5),), bytes(64)),
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
