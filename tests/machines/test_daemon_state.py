"""What several clients ask of a daemon at once is all done, and all there after its next start."""

from tests.support.seeds import try_seeds


def test_no_order_of_requests_loses_what_was_answered() -> None:
    try_seeds("daemon_state")
