"""Whatever a peer sends."""

from tests.support.seeds import try_seeds


def test_no_peer_holds_anything_up() -> None:
    try_seeds("hostile_peer")
