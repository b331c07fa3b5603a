"""Whatever becomes of uTP's datagrams on the way, and whatever others send in anybody's name."""

from tests.support.seeds import try_seeds


def test_what_is_said_by_utp_arrives_and_nobody_is_spoken_for() -> None:
    try_seeds("hostile_utp")
