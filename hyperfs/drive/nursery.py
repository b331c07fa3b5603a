"""A nursery for tasks that are one piece of work, so that the work fails with one error.

The rule: an error that was the only one comes out as itself, not in a group, since callers handle errors by their type.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_work() -> AsyncIterator[trio.Nursery]:
    """Open a nursery; of several errors the first one comes out, with the others as its context."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:  # whatever tasks ended of, a cancellation too; nothing is kept back
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        if isinstance(first, trio.Cancelled):
            raise
        raise first from group
