"""A writable mount keeps what it promised, in whatever order its programs, commits and threads go on."""

from tests.support.seeds import try_seeds


def test_no_order_of_things_loses_what_was_promised() -> None:
    try_seeds("staging")
