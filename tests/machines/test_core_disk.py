"""A disk that fails one operation takes nothing that a core has promised."""

from tests.support.seeds import try_seeds


def test_no_single_failure_of_the_disk_takes_what_a_core_promised() -> None:
    try_seeds("core_disk")
