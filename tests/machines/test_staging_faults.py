"""No failure of the staging's disk, whatever the operation and the errno, takes what was promised."""

from tests.support.seeds import try_seeds


def test_nothing_is_found() -> None:
    try_seeds("staging_faults")
