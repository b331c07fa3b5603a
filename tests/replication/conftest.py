"""What most tests of replication begin with: a reader that has nothing yet, and a nursery for its connections."""

from collections.abc import AsyncIterator

import pytest
import trio

from hyperfs.core.core import Core
from hyperfs.replication import Replicator
from hyperfs.trie import HypertrieExtension
from tests.support.peers import nursery_to_cancel, reader


@pytest.fixture
def replicator() -> Replicator:
    """The reader's replicator."""
    return Replicator(extensions=[HypertrieExtension()])


@pytest.fixture
async def core(replicator: Replicator) -> Core:
    """The reader's core, empty, which has its blocks from ``replicator``."""
    return await reader(replicator)


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that is cancelled after the test, and that ends one that hangs."""
    async with nursery_to_cancel() as nursery:
        yield nursery
