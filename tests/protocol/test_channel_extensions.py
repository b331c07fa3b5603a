"""Extensions of a channel: listed by name, sent by number."""

import pytest

from hyperfs.protocol.events import (
    ExtensionReceived,
    OptionsReceived,
)
from tests.support.wire import KEY, Pair


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
