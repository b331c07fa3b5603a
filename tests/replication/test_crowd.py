"""Many who watch the same film at about the same time, of one who has it: they give it to each other.

Their lines and the clock are made up.
"""

import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.core.reader import Priority
from hyperfs.replication import Replicator
from tests.support.crowd import Access, connect
from tests.support.peers import nursery_to_cancel, reader, serving, writer

BLOCK_BYTES = 64 << 10
COUNT = 19
VIEWERS = 6
RATE = 312_500.0
"""Of each one's line, in bytes a second: five times the film's."""
AHEAD = 16
"""Blocks that are fetched ahead of who watches, once he has read the first few."""


async def watch(replicator: Replicator, core: Core) -> None:
    """Read all of a film, a quarter of it faster than it is shown and the rest as it is shown."""
    async with trio.open_nursery() as ahead:
        for index in range(COUNT):
            if index in (1, COUNT // 2):
                wanted = range(index, min(COUNT, index + AHEAD))
                ahead.start_soon(replicator.fetch, core, [wanted], Priority.AHEAD, None)
            await core.get(index)
            if index >= COUNT // 4:
                await trio.sleep(5 * BLOCK_BYTES / RATE)


async def watched() -> tuple[float, float]:
    """Have all viewers come within six seconds; return how many films left the origin, and came to each viewer."""
    theirs = await writer(0, blocks=[bytes([index]) * BLOCK_BYTES for index in range(COUNT)])
    origin = (serving(theirs), Access(up=2.5 * RATE, down=2.5 * RATE, delay=0.005))
    async with nursery_to_cancel() as nursery:
        viewers: list[tuple[Replicator, Access]] = []
        cores: list[Core] = []
        for number in range(VIEWERS):
            viewer = (Replicator(), Access(up=RATE, down=RATE, delay=0.01))
            cores.append(await reader(viewer[0]))
            connect(nursery, viewer, origin, name=f"origin:{number}")
            for other, there in enumerate(viewers):
                connect(nursery, viewer, there, name=f"viewer-{other}:{number}")
            viewers.append(viewer)
        async with trio.open_nursery() as watching:
            for (replicator, _), core in zip(viewers, cores, strict=True):
                await trio.sleep(1)
                watching.start_soon(watch, replicator, core)
        came = sum(peer.downloaded_bytes for replicator, _ in viewers for peer in replicator.peer_statuses())
    size = COUNT * BLOCK_BYTES
    return origin[1].sent_bytes / size, came / size / VIEWERS


async def test_the_origin_gives_a_film_a_few_times_and_little_comes_twice(
    patient_clock: trio.testing.MockClock,
) -> None:
    films_given, films_each = await watched()
    assert films_given <= 0.4 * VIEWERS
    assert films_each <= 1.15
