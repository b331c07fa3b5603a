"""Whatever the owner of a drive puts into it."""

from tests.support.seeds import try_seeds


def test_no_drive_does_more_than_be_refused() -> None:
    try_seeds("hostile_drive")
