"""Reading a file's run of blocks, here and from a source."""

import os
import random
from pathlib import Path

import pytest
import trio

from hyperfs.core.core import Core
from hyperfs.core.nonblocking import WouldWait
from hyperfs.core.reader import Run
from hyperfs.errors import BlockNotAvailable, DamagedStore, InvalidRun
from hyperfs.storage import DiskDirectory, MemoryDirectory
from tests.support.cold_disk import ColdDirectory
from tests.support.cores import KEYS, CoreSource, bring, reader, writer

EVEN = [bytes([index]) * 100 for index in range(64)]
UNEVEN = [b"", b"a" * 5, b"b" * 1000, b"", b"", b"c", b"d" * 70, b"e" * 3, b"", b"f" * 400, b"g", b"", b"h" * 90]


def run_of(blocks: list[bytes], start: int, stop: int) -> Run:
    return Run(range(start, stop), sum(map(len, blocks[:start])), sum(map(len, blocks[start:stop])))


async def sparse(blocks: list[bytes]) -> tuple[Core, CoreSource]:
    """A reader with nothing but a source that has ``blocks``."""
    target = await reader()
    source = CoreSource(await writer(blocks), target)
    target.source = source
    return target, source


@pytest.mark.parametrize("blocks", [EVEN, UNEVEN], ids=["even", "uneven"])
async def test_any_part_of_a_run_is_read(blocks: list[bytes]) -> None:
    core = await writer(blocks)
    chance = random.Random(1)
    for _ in range(200):
        start = chance.randrange(len(blocks))
        stop = chance.randrange(start, len(blocks)) + 1
        content = b"".join(blocks[start:stop])
        position, size = chance.randrange(len(content) + 3), chance.randrange(300)
        assert await core.read(run_of(blocks, start, stop), position, size) == content[position : position + size]


@pytest.mark.parametrize("blocks", [EVEN, UNEVEN], ids=["even", "uneven"])
async def test_what_is_here_is_read_without_waiting(blocks: list[bytes]) -> None:
    core = await writer(blocks)
    run = run_of(blocks, 0, len(blocks))
    content = b"".join(blocks)
    for position in range(0, len(content) + 50, 37):
        assert core.read_now(run, position, 100) == content[position : position + 100]


async def test_nothing_is_read_without_waiting_of_a_run_that_lacks_a_block() -> None:
    target, source = await sparse(EVEN)
    await bring(source.origin, target, range(1, 8))
    assert target.read_now(run_of(EVEN, 0, 8), 150, 10) is None


async def test_nothing_is_read_without_waiting_once_a_block_was_cleared() -> None:
    core = await writer(EVEN)
    run = run_of(EVEN, 0, 8)
    assert core.read_now(run, 0, 10) is not None
    await core.clear(5, 6)
    assert core.read_now(run, 0, 10) is None


async def test_a_run_that_is_not_where_its_blocks_are_is_left_to_the_patient_read() -> None:
    core = await writer(EVEN)
    assert core.read_now(Run(range(1, 3), 7, 20), 0, 10) is None


@pytest.mark.parametrize("blocks", [EVEN, UNEVEN], ids=["even", "uneven"])
async def test_any_part_of_a_run_is_brought_and_read(blocks: list[bytes]) -> None:
    chance = random.Random(2)
    for _ in range(60):
        target, _ = await sparse(blocks)
        for _ in range(4):
            start = chance.randrange(len(blocks))
            stop = chance.randrange(start, len(blocks)) + 1
            content = b"".join(blocks[start:stop])
            position, size = chance.randrange(len(content) + 1), chance.randrange(300)
            assert await target.read(run_of(blocks, start, stop), position, size) == content[position : position + size]


async def test_reading_brings_only_the_blocks_it_needs() -> None:
    target, source = await sparse(EVEN)
    await target.read(run_of(EVEN, 8, 64), 4000, 250)
    assert sorted(source.fetched + source.sought) == [48, 49, 50]


async def test_the_end_of_a_run_is_read_first() -> None:
    target, source = await sparse(EVEN)
    assert await target.read(run_of(EVEN, 0, 64), 6390, 100) == bytes([63]) * 10
    assert source.fetched + source.sought == [63]


async def test_readahead_brings_blocks_without_reading_them() -> None:
    target, _ = await sparse(EVEN)
    await target.ahead(run_of(EVEN, 8, 64), 1000, 400)
    assert target.has(18, 22)


async def test_an_empty_run_is_empty() -> None:
    core = await writer(EVEN)
    assert await core.read(Run(range(3, 3), 300, 0), 0, 10) == b""


@pytest.mark.parametrize(
    "run",
    [Run(range(2, 4), 201, 200), Run(range(2, 4), 200, 201), Run(range(2, 4), 100, 200), Run(range(2, 2), 200, 100)],
    ids=["shifted", "too long", "elsewhere", "no blocks"],
)
async def test_a_run_that_is_not_where_its_blocks_are_is_refused(run: Run) -> None:
    core = await writer(EVEN)
    with pytest.raises(InvalidRun, match="claimed"):
        await core.read(run, 0, 10)


async def test_a_run_past_the_end_of_the_core_is_asked_for() -> None:
    target, source = await sparse(EVEN)
    await bring(source.origin, target, [0])
    with pytest.raises(BlockNotAvailable):
        await target.read(Run(range(64, 65), 6400, 10), 0, 10)


async def test_a_missing_block_without_a_source_is_not_available() -> None:
    target = await reader()
    with pytest.raises(BlockNotAvailable, match="nobody to ask"):
        await target.get(0)


async def test_get_asks_the_source() -> None:
    target, _ = await sparse(EVEN)
    assert await target.get(9) == EVEN[9]


async def test_fetch_asks_only_for_what_is_missing() -> None:
    target, source = await sparse(EVEN)
    await target.fetch([range(4)])
    await target.fetch([range(4), range(3, 6)])
    assert source.fetched == [0, 1, 2, 3, 4, 5]


async def test_seeking_asks_the_source() -> None:
    target, source = await sparse(UNEVEN)
    await bring(source.origin, target, [0])
    assert await target.seek(1077) == (7, 1)


async def test_waiting_for_a_longer_core_ends_when_it_grows() -> None:
    core = await writer(EVEN)
    lengths = []

    async def wait() -> None:
        await core.wait_longer(64)
        lengths.append(core.length)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await core.append([b"x"])
    assert lengths == [65]


async def test_update_learns_a_new_head() -> None:
    target, source = await sparse(EVEN)
    await target.update()
    assert target.length == 64
    assert source.fetched == []


async def test_a_read_that_would_wait_is_made_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = await writer(EVEN, directory=DiskDirectory(tmp_path))

    def preadv(*arguments: object) -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "preadv", preadv)
    assert core.get_local(3) is None
    assert await core.get(3) == EVEN[3]
    assert await core.read(run_of(EVEN, 2, 9), 150, 100) == EVEN[3][:50] + EVEN[4][:50]
    assert await core.seek(350) == (3, 50)
    with pytest.raises(WouldWait):
        core.seek_local(351)
    assert (await core.proof(5)).signature is not None
    await core.close()


async def test_a_cleared_block_is_missing_and_its_neighbours_are_not() -> None:
    core = await writer(EVEN)
    await core.clear(3, 6)
    assert [core.get_local(index) for index in (2, 3, 5, 6)] == [EVEN[2], None, None, EVEN[6]]


async def test_a_cleared_run_is_asked_for_again() -> None:
    target, source = await sparse(EVEN)
    run = run_of(EVEN, 0, 8)
    await target.read(run, 0, 800)
    await target.clear(2, 3)
    assert await target.read(run, 0, 800) == b"".join(EVEN[:8])
    assert source.fetched.count(2) == 2


async def test_clearing_frees_space(tmp_path: Path) -> None:
    core = await writer([os.urandom(1 << 16)] * 32, directory=DiskDirectory(tmp_path))
    await core.sync()
    before = core.allocated()
    await core.clear(0, 32)
    assert core.allocated() < before
    await core.close()


async def test_data_that_ends_early_is_named() -> None:
    directory = MemoryDirectory()
    core = await writer(EVEN, directory=directory)
    del directory.files["data"].data[1000:]
    with pytest.raises(DamagedStore, match="data ends before byte 1100"):
        await core.get(10)


async def test_what_is_missing_and_present_comes_in_ranges() -> None:
    target, source = await sparse(EVEN)
    await bring(source.origin, target, [1, 2, 9])
    assert list(target.missing(0, 12)) == [range(1), range(3, 9), range(10, 12)]
    assert list(target.present(0, 64)) == [range(1, 3), range(9, 10)]
    assert target.raw_bits(0, 16) == b"\x60\x40"


async def test_reads_go_on_while_blocks_are_cleared_and_brought_again() -> None:
    target, _ = await sparse(EVEN)
    run = run_of(EVEN, 0, 64)
    content = b"".join(EVEN)
    chance = random.Random(5)

    async def clear() -> None:
        for _ in range(30):
            start = chance.randrange(64)
            await target.clear(start, start + 5)

    async def read() -> None:
        for _ in range(60):
            position = chance.randrange(6400)
            assert await target.read(run, position, 500) == content[position : position + 500]
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(clear)
        nursery.start_soon(read)
        nursery.start_soon(read)


async def test_keys_are_told() -> None:
    core = await writer()
    assert (core.key, core.writable, (await reader()).writable) == (KEYS.public, True, False)


async def with_a_path_missing() -> tuple[Core, CoreSource]:
    """A reader that has block 0 from when that was all, and block 15 of 16: between 0 and the newer root nodes lack."""
    target, source = await sparse([b"aa"])
    await bring(source.origin, target, [0])
    await source.origin.append([b"aa"] * 15)
    await bring(source.origin, target, [15])
    assert not target.has_node(3)
    return target, source


@pytest.mark.parametrize("byte_offset", [1, 2, 8, 9, 20, 31])
async def test_any_byte_is_found_though_the_tree_lacks_the_path_to_a_block_that_is_here(byte_offset: int) -> None:
    target, _ = await with_a_path_missing()
    assert await target.seek(byte_offset) == divmod(byte_offset, 2)


async def test_a_run_is_read_though_the_tree_lacks_the_path_to_a_block_that_is_here() -> None:
    target, _ = await with_a_path_missing()
    assert await target.read(Run(range(9), 0, 18), 1, 10) == b"a" * 10


async def test_what_is_here_is_read_without_a_source_though_the_tree_lacks_the_path_to_it() -> None:
    target, _ = await with_a_path_missing()
    target.source = None
    assert await target.read(Run(range(9), 0, 18), 0, 2) == b"aa"
    assert await target.read(Run(range(9), 0, 18), 1, 1) == b"a"


async def test_the_path_that_was_missing_is_kept() -> None:
    target, _ = await with_a_path_missing()
    await target.seek(1)
    assert target.seek_local(1) == (0, 1)


async def test_a_block_that_comes_while_the_tree_is_read_is_not_taken_for_an_empty_one() -> None:
    directory = ColdDirectory(reads_before=True)
    source, target = await writer(EVEN), await reader(directory=directory)
    await bring(source, target, [0])
    directory.freeze("tree")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(target.get, 0)
        await trio.to_thread.run_sync(directory.waiting.wait)
        await bring(source, target, [21])
        directory.thaw()
    assert await target.get(21) == EVEN[21]
