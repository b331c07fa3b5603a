"""Channels between honest peers: asked for, answered, refused, closed, and opened again."""

import pytest

from hyperfs.protocol.channel import ChannelState
from hyperfs.protocol.events import (
    ChannelClosed,
    ChannelOpened,
    ChannelRefused,
    ChannelRequested,
    OptionsReceived,
    RequestReceived,
)
from tests.support.wire import DISCOVERY_KEY, KEY, OTHER_KEY, Pair


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
