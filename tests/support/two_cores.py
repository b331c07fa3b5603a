"""Cores as programs open them, joined over streams in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

import hyperfs
from hyperfs.replication.status import Ending

LIMIT_SECONDS = 60.0


class Replicated:
    """Two cores that replicate; how it ended on each side once it has."""

    def __init__(self) -> None:
        self.ours: Ending | None = None
        self.theirs: Ending | None = None
        self.over = trio.Event()


def replicate(
    nursery: trio.Nursery,
    ours: hyperfs.OpenCore | hyperfs.Connection,
    theirs: hyperfs.OpenCore | hyperfs.Connection,
    *,
    of_ours: dict[str, Any] | None = None,
    of_theirs: dict[str, Any] | None = None,
    **options: Any,
) -> Replicated:
    """Replicate two cores with ``options`` in ``nursery``; the first one dials."""
    left, right = trio.testing.memory_stream_pair()
    replicated = Replicated()

    async def run_ours() -> None:
        assert isinstance(ours, hyperfs.OpenCore)
        replicated.ours = await ours.replicate(left, initiator=True, **{**options, **(of_ours or {})})

    async def run_theirs() -> None:
        assert isinstance(theirs, hyperfs.OpenCore)
        replicated.theirs = await theirs.replicate(right, initiator=False, **{**options, **(of_theirs or {})})

    async def run() -> None:
        async with trio.open_nursery() as both:
            both.start_soon(run_ours)
            both.start_soon(run_theirs)
        replicated.over.set()

    nursery.start_soon(run)
    return replicated


@asynccontextmanager
async def a_writer_and_a_reader(
    *blocks: bytes, **options: Any
) -> AsyncIterator[tuple[hyperfs.OpenCore, hyperfs.OpenCore]]:
    """Open a core of ours with ``blocks``, and one of the same key with ``options``, both in memory."""
    with trio.fail_after(LIMIT_SECONDS):
        async with (
            hyperfs.open_core(hyperfs.memory()) as writer,
            hyperfs.open_core(hyperfs.memory(), writer.key, **options) as reader,
        ):
            if blocks:
                await writer.append(list(blocks))
            yield writer, reader


@asynccontextmanager
async def to_cancel() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that is cancelled when its block ends."""
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()
