"""A core's blocks are what was appended, whoever works on it at once and whatever fails."""

from tests.support.seeds import try_seeds


def test_no_order_of_things_harms_a_core() -> None:
    try_seeds("core_blocks")
