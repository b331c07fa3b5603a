"""Bytes that are staged over bytes that have to be waited for."""

import os
from pathlib import Path

import trio
import trio.testing

from hyperfs.mount.staging.extents import Content
from hyperfs.mount.staging.files import SyncedNames
from hyperfs.mount.staging.segments import Segments


class Slow:
    """Bytes that come when ``ready`` is set."""

    size = 8

    def __init__(self) -> None:
        self.ready = trio.Event()

    async def read(self, position: int, size: int) -> bytes:
        await self.ready.wait()
        return b"below..."[position : position + size]


async def test_what_is_dropped_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    segments = Segments(tmp_path, SyncedNames(tmp_path))
    slow = Slow()
    content = Content(slow, slow.size)
    content.lay(await content.put(5, b"!", segments))
    segments.begin_anew()
    found: list[bytes] = []

    async def read() -> None:
        found.append(await content.read(0, 8))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        content.drop()
        segments.delete(segments.idle())
        slow.ready.set()
    assert found == [b"below!.."]
    segments.delete(segments.idle())
    assert os.listdir(tmp_path) == []
