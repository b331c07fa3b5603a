"""The map between a core's owner and those who look at its files, and a core seen through it."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from hyperfs.core import shared_map
from hyperfs.core.core import Core
from hyperfs.core.reader import Run
from hyperfs.core.shared_map import SharedMapReader, SharedMapWriter
from hyperfs.core.view import CoreView
from hyperfs.errors import BlockNotAvailable, DamagedStore
from hyperfs.storage import DiskDirectory
from hyperfs.storage.disk import DiskFile
from tests.support.cores import KEYS, CoreSource, writer

KEY = KEYS.public
T = TypeVar("T")
Closing = Callable[[T], T]


@pytest.fixture
def closing() -> Iterator[Closing[Any]]:
    """What is given to it is returned, and closed in the end, as the death of its process would."""
    with ExitStack() as stack:

        def closed_later(thing: Any) -> Any:
            stack.callback(thing.close_without_sync if isinstance(thing, Core) else thing.close)
            return thing

        yield closed_later


BLOCKS = [b"%03d" % index for index in range(300)]


def test_a_block_set_is_seen_at_once(closing: Closing[Any], tmp_path: Path) -> None:
    owner = closing(SharedMapWriter(tmp_path / "map", KEY))
    looker = closing(SharedMapReader(tmp_path / "map", KEY))
    owner.set_blocks(3, 10)
    assert [looker.has(3, 10), looker.has(2, 4), looker.get(9), looker.count(0, 64)] == [True, False, True, 7]


def test_the_generation_changes_before_a_block_goes(closing: Closing[Any], tmp_path: Path) -> None:
    owner = closing(SharedMapWriter(tmp_path / "map", KEY))
    looker = closing(SharedMapReader(tmp_path / "map", KEY))
    owner.set_blocks(0, 8)
    before = looker.generation
    owner.clear_blocks(2, 3)
    assert looker.generation > before
    assert looker.raw(0, 8) == b"\xdf"


def test_a_map_grows_under_its_readers(closing: Closing[Any], tmp_path: Path) -> None:
    owner = closing(SharedMapWriter(tmp_path / "map", KEY))
    looker = closing(SharedMapReader(tmp_path / "map", KEY))
    assert not looker.get(1_000_000)
    owner.reserve(999_999, 1_000_001)
    owner.set_blocks(999_999, 1_000_001)
    assert looker.has(999_999, 1_000_001)
    assert not looker.get(999_998)


def test_what_is_mapped_is_allocated_in_full(closing: Closing[Any], tmp_path: Path) -> None:
    owner = closing(SharedMapWriter(tmp_path / "map", KEY))
    owner.reserve(1_000_000, 1_000_001)
    status = (tmp_path / "map").stat()
    assert status.st_blocks * 512 >= status.st_size > 1_000_000 // 8


EDGE = shared_map._MAPPED_BLOCKS


@pytest.mark.parametrize("index", [0, 8191, EDGE - 1, EDGE, 2**31 - 1, 2**32 - 1])
def test_one_block_anywhere_is_told_and_costs_little(closing: Closing[Any], tmp_path: Path, index: int) -> None:
    owner = closing(SharedMapWriter(tmp_path / "map", KEY))
    looker = closing(SharedMapReader(tmp_path / "map", KEY))
    owner.reserve(index, index + 1)
    owner.set_blocks(index, index + 1)
    assert [looker.get(index), looker.get(index ^ 1), looker.count(0, 2**32)] == [True, False, 1]
    assert (tmp_path / "map").stat().st_blocks * 512 <= 1 << 19
    owner.clear_blocks(index, index + 1)
    assert [looker.get(index), looker.count(0, 2**32)] == [False, 0]


@pytest.mark.parametrize(("start", "end"), [(EDGE - 9, EDGE + 9), (EDGE, EDGE + 600_000), (EDGE + 3, EDGE + 5)])
def test_a_range_past_what_is_mapped_is_told_bit_by_bit(
    closing: Closing[Any], tmp_path: Path, start: int, end: int
) -> None:
    owner = closing(SharedMapWriter(tmp_path / "map", KEY))
    looker = closing(SharedMapReader(tmp_path / "map", KEY))
    owner.reserve(start, end)
    owner.set_blocks(start, end)
    assert looker.has(start, end)
    assert not looker.has(start - 1, end)
    assert not looker.has(start, end + 1)
    assert looker.count(EDGE - 64, end + 64) == end - start
    low = start // 8 * 8 - 8
    raw = int.from_bytes(looker.raw(low, low + 64), "big")
    assert [raw >> 63 - at & 1 for at in range(64)] == [start <= low + at < end for at in range(64)]


def test_raw_bits_past_what_is_mapped_are_taken_over(closing: Closing[Any], tmp_path: Path) -> None:
    owner = closing(SharedMapWriter(tmp_path / "map", KEY))
    looker = closing(SharedMapReader(tmp_path / "map", KEY))
    owner.set_raw(EDGE - 64, b"\xff" * 16)
    assert looker.has(EDGE - 64, EDGE + 64)
    assert looker.count(0, 2**32) == 128


def test_a_new_owner_takes_the_map_over_empty(closing: Closing[Any], tmp_path: Path) -> None:
    owner = closing(SharedMapWriter(tmp_path / "map", KEY))
    looker = closing(SharedMapReader(tmp_path / "map", KEY))
    owner.set_blocks(0, 8)
    generation, epoch = looker.generation, looker.epoch
    owner.close()
    closing(SharedMapWriter(tmp_path / "map", KEY))
    assert (looker.epoch, looker.get(0)) == (epoch + 1, False)
    assert looker.generation > generation


def test_a_map_that_is_not_there_yet_is_found_later(closing: Closing[Any], tmp_path: Path) -> None:
    looker = closing(SharedMapReader(tmp_path / "map", KEY))
    assert not looker.get(0)
    closing(SharedMapWriter(tmp_path / "map", KEY)).set_blocks(0, 1)
    assert looker.get(0)


def test_a_map_of_another_boot_says_nothing(
    closing: Closing[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing(SharedMapWriter(tmp_path / "map", KEY)).set_blocks(0, 1)
    monkeypatch.setattr(shared_map, "boot_id", lambda: bytes(16))
    assert not closing(SharedMapReader(tmp_path / "map", KEY)).get(0)


def test_the_map_of_another_core_is_refused(closing: Closing[Any], tmp_path: Path) -> None:
    closing(SharedMapWriter(tmp_path / "map", KEY))
    with pytest.raises(DamagedStore, match="is the map of core"):
        SharedMapReader(tmp_path / "map", bytes(32))


async def owned(tmp_path: Path) -> Core:
    core = await Core.open(DiskDirectory(tmp_path / "core"), key_pair=KEYS, shared_map_path=tmp_path / "map")
    await core.append(BLOCKS)
    return core


def viewed(core: Core, tmp_path: Path) -> CoreView:
    directory = DiskDirectory(tmp_path / "core", read_only=True)
    return CoreView(directory, tmp_path / "map", key=core.key, length=core.length, byte_length=core.byte_length)


async def test_a_view_reads_what_its_owner_has(closing: Closing[Any], tmp_path: Path) -> None:
    core = closing(await owned(tmp_path))
    view = closing(viewed(core, tmp_path))
    assert [view.get_local(index) for index in range(300)] == BLOCKS
    assert await view.read(Run(range(10, 20), 30, 30), 1, 5) == b"10011"


async def test_a_view_switches_to_a_head_it_is_told(closing: Closing[Any], tmp_path: Path) -> None:
    core = closing(await owned(tmp_path))
    view = closing(viewed(core, tmp_path))
    await core.append([b"new"])
    assert view.length == 300
    view.extended(core.length, core.byte_length)
    assert (view.length, await view.get(300)) == (301, b"new")


async def test_a_view_ignores_an_older_head(closing: Closing[Any], tmp_path: Path) -> None:
    view = closing(viewed(closing(await owned(tmp_path)), tmp_path))
    view.extended(5, 15)
    assert view.length == 300


async def test_a_view_does_not_see_a_cleared_block(closing: Closing[Any], tmp_path: Path) -> None:
    core = closing(await owned(tmp_path))
    view = closing(viewed(core, tmp_path))
    run = Run(range(300), 0, 900)
    await view.read(run, 0, 9)
    await core.clear(1, 2)
    assert view.get_local(1) is None
    with pytest.raises(BlockNotAvailable):
        await view.read(run, 0, 9)


async def test_a_block_cleared_while_it_is_read_is_asked_for(closing: Closing[Any], tmp_path: Path) -> None:
    core = closing(await owned(tmp_path))
    view = closing(viewed(core, tmp_path))
    real = view._data.file.read_nowait

    def clear_then_read(offset: int, size: int) -> bytes | None:
        assert core._presence._map is not None
        core._presence._map.clear_blocks(7, 8)
        return real(offset, size)

    view._data.file.read_nowait = clear_then_read  # type: ignore[method-assign]  # to clear at just that moment
    assert view.get_local(7) is None


async def test_a_view_that_rests_holds_nothing_and_reads_on(closing: Closing[Any], tmp_path: Path) -> None:
    core = closing(await owned(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    view = closing(viewed(core, tmp_path))
    run = Run(range(10, 20), 30, 30)
    for _ in range(2):
        reads: list[Callable[[], Awaitable[object]]] = [
            partial(view.get, 7),
            partial(view.read, run, 1, 5),
            partial(view.seek, 22),
        ]
        for read in reads:
            expected = await read()
            view.rest()
            assert len(os.listdir("/proc/self/fd")) == before
            assert await read() == expected
    view.rest()
    assert view.get_local(8) in (None, BLOCKS[8])
    view.rest()
    assert view.read_now(run, 0, 3) in (None, BLOCKS[10])
    await core.clear(8, 9)
    view.rest()
    assert not view.has(8, 9)
    with pytest.raises(BlockNotAvailable):
        await view.get(8)


async def test_a_view_that_rests_while_it_is_read_in_a_thread_reads_on(
    closing: Closing[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = closing(await owned(tmp_path))
    view = closing(viewed(core, tmp_path))
    monkeypatch.setattr(DiskFile, "read_nowait", lambda *_: None)
    rested = []

    async def rest_then_run(function: Callable[..., Any], *arguments: Any) -> Any:
        if not rested:
            view.rest()
            rested.append(function)
        return function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", rest_then_run)
    assert await view.get(7) == BLOCKS[7]
    assert rested
    rested.clear()
    assert await view.read(Run(range(10, 20), 30, 30), 1, 5) == b"10011"
    assert rested


async def test_a_view_asks_its_source_for_what_is_missing(closing: Closing[Any], tmp_path: Path) -> None:
    origin = await writer(BLOCKS)
    target = closing(await Core.open(DiskDirectory(tmp_path / "core"), key=KEY, shared_map_path=tmp_path / "map"))
    view = closing(viewed(target, tmp_path))
    view.source = CoreSource(origin, target)
    assert await view.get(42) == BLOCKS[42]


async def test_a_reopened_core_fills_its_map_again(closing: Closing[Any], tmp_path: Path) -> None:
    core = closing(await owned(tmp_path))
    view = closing(viewed(core, tmp_path))
    await core.close()
    closing(await Core.open(DiskDirectory(tmp_path / "core"), shared_map_path=tmp_path / "map"))
    assert [view.get_local(index) for index in range(300)] == BLOCKS


async def test_a_view_takes_the_shorter_head_of_a_new_owner(closing: Closing[Any], tmp_path: Path) -> None:
    core = closing(await owned(tmp_path))
    await core.sync()
    await core.append([b"lost with its owner", b"x"])
    view = closing(viewed(core, tmp_path))
    assert await view.get(301) == b"x"
    core._files.close()  # as kill -9 does: nothing is synced
    again = closing(await Core.open(DiskDirectory(tmp_path / "core"), shared_map_path=tmp_path / "map"))
    await again.append([b"y", b"another"])
    view.restarted(again.length, again.byte_length)
    assert (view.length, await view.get(301)) == (302, b"another")


async def test_an_owner_that_is_locked_out_leaves_the_map_alone(closing: Closing[Any], tmp_path: Path) -> None:
    core = closing(await owned(tmp_path))
    view = closing(viewed(core, tmp_path))
    with pytest.raises(Exception, match="in use by"):
        closing(await Core.open(DiskDirectory(tmp_path / "core"), shared_map_path=tmp_path / "map"))
    assert view.has(0, 300)
