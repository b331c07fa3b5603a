"""Whatever some nodes of a DHT say, and whatever becomes of datagrams on the way."""

from tests.support.seeds import try_seeds


def test_a_bad_network_is_one_in_which_everybody_is_found() -> None:
    try_seeds("hostile_dht")
