"""What holds for all tests of mounts."""

import math

import pytest

from hyperfs.mount.staging import journal


@pytest.fixture(autouse=True)
def journal_that_is_never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no busy machine decide whether records are written in place."""
    monkeypatch.setattr(journal, "SLOW_SECONDS", math.inf)
