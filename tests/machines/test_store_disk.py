"""A call to the disk that fails takes nothing that a store has promised, and leaves nothing open."""

from tests.support.seeds import try_seeds


def test_no_call_that_fails_takes_what_a_store_promised() -> None:
    try_seeds("store_disk")
