"""What holds beside the reference: cores that a test opened are closed after it."""

from collections.abc import Iterator

import pytest

from tests.support.reference_cores import OPENED


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Close the cores that a test opened."""
    yield
    while OPENED:
        OPENED.pop().close_without_sync()
