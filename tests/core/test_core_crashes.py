"""Crashes at any moment: a core opens at a consistent length, whole, with all that was synced."""

import random

import pytest

from hyperfs.core.core import Core
from hyperfs.errors import InvalidKey
from hyperfs.storage import MemoryDirectory
from tests.support.cores import KEYS, bring, reader, writer
from tests.support.crashes import RecordingDirectory, Replay

SEEDS = range(6)


def block(index: int) -> bytes:
    return b"%d." % index * (1 + index * 7 % 90)


async def opened(directory: MemoryDirectory) -> Core | None:
    """Return the core, None when not even its key was written yet."""
    try:
        return await Core.open(directory)
    except InvalidKey:
        return None


async def check(directory: MemoryDirectory, durable: int, highest: int, present: set[int]) -> int:
    """Check one crashed directory and return the core's length."""
    core = await opened(directory)
    if core is None:
        assert not durable
        return 0
    assert durable <= core.length <= highest
    assert await core.audit() == []
    for index in range(core.length):
        if core.has(index, index + 1):
            assert await core.get(index) == block(index)
    assert {index for index in present if core.has(index, index + 1)} == present
    length = core.length
    await core.close()
    return length


async def written(chance: random.Random) -> tuple[RecordingDirectory, list[tuple[int, int]]]:
    """Append, sync and clear; return what was done, and (position, durable length) after each sync."""
    directory = RecordingDirectory()
    core = await Core.open(directory, key_pair=KEYS)
    synced = []
    for _ in range(12):
        count = chance.choice([1, 1, 2, 5, 30])
        await core.append([block(index) for index in range(core.length, core.length + count)])
        if chance.random() < 0.5:
            await core.sync()
            synced.append((len(directory.operations), core.length))
        if chance.random() < 0.2:
            start = chance.randrange(core.length)
            await core.clear(start, start + chance.randrange(1, 9))
            synced.append((len(directory.operations), core.length))
    return directory, synced


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_writer_opens_whole_after_any_crash(seed: int) -> None:
    chance = random.Random(seed)
    directory, synced = await written(chance)
    replay = Replay(directory.operations)
    for position in range(len(directory.operations) + 1):
        replay.advance(position)
        durable = max((length for at, length in synced if at <= position), default=0)
        await check(replay.killed(), durable, 400, set())
        await check(replay.lost_power(chance), durable, 400, set())


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_writer_goes_on_after_any_crash(seed: int) -> None:
    chance = random.Random(100 + seed)
    directory, _ = await written(chance)
    replay = Replay(directory.operations)
    for position in range(0, len(directory.operations), 5):
        replay.advance(position)
        left = replay.lost_power(chance)
        core = await opened(left)
        if core is None:
            continue
        length = core.length
        await core.append([block(length), block(length + 1)])
        await core.append([block(length + 2)])
        await core.close()
        assert await check(left, length + 3, length + 3, set()) == length + 3
        core = await Core.open(left)
        target = await reader()
        await bring(core, target, [length + 1])
        await core.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_reader_opens_whole_after_any_crash(seed: int) -> None:
    chance = random.Random(200 + seed)
    source, directory = await writer(), RecordingDirectory()
    target = await reader(directory=directory)
    synced: list[tuple[int, int, set[int]]] = []
    for _ in range(6):
        await source.append([block(index) for index in range(source.length, source.length + chance.choice([1, 7, 20]))])
        await bring(source, target, [chance.randrange(source.length) for _ in range(5)])
        if chance.random() < 0.6:
            await target.sync()
            here = {index for index in range(target.length) if target.has(index, index + 1)}
            synced.append((len(directory.operations), target.length, here))
    replay = Replay(directory.operations)
    for position in range(0, len(directory.operations) + 1, 2):
        replay.advance(position)
        done = [(length, here) for at, length, here in synced if at <= position]
        durable, here = done[-1] if done else (0, set())
        await check(replay.lost_power(chance), durable, source.length, here)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_crash_while_recovering_is_recovered_from(seed: int) -> None:
    chance = random.Random(300 + seed)
    directory, synced = await written(chance)
    replay = Replay(directory.operations)
    replay.advance(len(directory.operations) * 2 // 3)
    durable = max((length for at, length in synced if at <= replay.position), default=0)
    left = replay.lost_power(chance)
    recovering = RecordingDirectory(left.files)
    core = await opened(recovering)
    if core is not None:
        await core.close()
    again = Replay(recovering.operations, left.files)
    for position in range(len(recovering.operations) + 1):
        again.advance(position)
        await check(again.lost_power(chance), durable, 400, set())


async def test_bits_of_our_blocks_that_a_power_cut_tore_off_are_set_again() -> None:
    directory = MemoryDirectory()
    core = await Core.open(directory, key_pair=KEYS)
    await core.append([block(index) for index in range(9000)])
    await core.clear(3000, 4000)
    await core.close()
    torn = directory.files["bitfield"].data
    for sector in (512, 7 * 512):  # of blocks 3840 to 7935, and those from 8192 on
        torn[sector : sector + 512] = bytes(512)
    core = await Core.open(directory)
    assert list(core.missing(0, core.length)) == [range(3000, 4000)]
    assert await core.audit() == []
