"""Crashes at any moment: a core opens at a consistent length, whole, with all that was synced."""

import errno
import random

import pytest

from hyperfs.core.core import Core
from hyperfs.core.head_record import HeadRecord
from hyperfs.errors import InvalidKey
from hyperfs.storage import MemoryDirectory
from tests.support.cores import KEYS, bring, reader, writer
from tests.support.crashes import Operation, RecordingDirectory, Replay, folder_of

SEEDS = range(3)
THIS_BOOT, NEXT_BOOT = b"1" * 16, b"2" * 16


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


def recorded(operations: list[Operation], *, left: MemoryDirectory | None = None) -> tuple[RecordingDirectory, ...]:
    """Return the folder of a core and that of its record, which note what is done to them in one list."""
    return tuple(
        RecordingDirectory(folder_of(left, prefix).files if left else None, operations=operations, prefix=prefix)
        for prefix in ("core/", "own/")
    )


async def opened_with_record(
    folders: tuple[MemoryDirectory, ...], boot: bytes = THIS_BOOT, *, new: bool = False
) -> Core:
    directory, own = folders
    return await Core.open(directory, key_pair=KEYS if new else None, record=HeadRecord(own, "head", boot=boot))


async def appended(chance: random.Random, core: Core, operations: list[Operation]) -> list[tuple[int, int, int]]:
    """Append and sync; return (position, length, durable length) whenever one of them was promised."""
    promised = [(len(operations), core.length, core.durable_length)]
    for _ in range(10):
        count = chance.choice([1, 1, 2, 5, 30])
        await core.append([block(index) for index in range(core.length, core.length + count)])
        promised.append((len(operations), core.length, core.durable_length))
        if chance.random() < 0.4:
            await core.sync()
            promised.append((len(operations), core.length, core.durable_length))
    return promised


async def check_recorded(left: MemoryDirectory, boot: bytes, least: int) -> None:
    """Check that one crashed writer has the first ``least`` blocks, and that all it has is whole."""
    core = await opened_with_record((folder_of(left, "core/"), folder_of(left, "own/")), boot)
    assert core.length >= least
    assert [core.get_local(index) for index in range(core.length)] == [block(index) for index in range(core.length)]
    assert await core.audit() == []
    await core.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_killed_writer_keeps_all_that_append_returned_for(seed: int) -> None:
    chance = random.Random(400 + seed)
    operations: list[Operation] = []
    core = await opened_with_record(recorded(operations), new=True)
    promised = await appended(chance, core, operations)
    replay = Replay(operations)
    for position in range(promised[0][0], len(operations) + 1):
        replay.advance(position)
        length = max(length for at, length, _ in promised if at <= position)
        await check_recorded(replay.killed(), THIS_BOOT, length)


@pytest.mark.parametrize("boot", [THIS_BOOT, NEXT_BOOT])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_record_promises_nothing_after_a_power_cut(seed: int, boot: bytes) -> None:
    # In the same boot it is what a disk may look like that was pulled out: the record may be there and its blocks not.
    chance = random.Random(500 + seed)
    operations: list[Operation] = []
    core = await opened_with_record(recorded(operations), new=True)
    promised = await appended(chance, core, operations)
    replay = Replay(operations)
    for position in range(promised[0][0], len(operations) + 1):
        replay.advance(position)
        durable = max(durable for at, _, durable in promised if at <= position)
        await check_recorded(replay.lost_power(chance), boot, durable)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_writer_that_was_killed_goes_on_and_is_killed_again(seed: int) -> None:
    chance = random.Random(600 + seed)
    operations: list[Operation] = []
    core = await opened_with_record(recorded(operations), new=True)
    await appended(chance, core, operations)
    replay = Replay(operations)
    replay.advance(len(operations) * chance.randrange(50, 100) // 100)
    left = replay.killed()
    again: list[Operation] = []
    core = await opened_with_record(recorded(again, left=left))
    promised = await appended(chance, core, again)
    replay = Replay(again, left.files)
    for position in range(len(again) + 1):
        replay.advance(position)
        length = max((length for at, length, _ in promised if at <= position), default=promised[0][1])
        durable = max((durable for at, _, durable in promised if at <= position), default=0)
        await check_recorded(replay.killed(), THIS_BOOT, length)
        await check_recorded(replay.lost_power(chance), NEXT_BOOT, durable)


async def test_what_was_taken_over_is_not_durable_before_it_is_synced() -> None:
    operations: list[Operation] = []
    core = await opened_with_record(recorded(operations), new=True)
    await core.append([block(0)])
    await core.sync()
    await core.append([block(1), block(2)])
    replay = Replay(operations)
    replay.advance(len(operations))
    left = replay.killed()
    core = await opened_with_record((folder_of(left, "core/"), folder_of(left, "own/")))
    assert (core.length, core.durable_length, core.dirty) == (3, 1, True)
    await core.sync()
    assert (core.durable_length, core.dirty) == (3, False)


async def test_a_record_that_the_disk_took_half_of_leaves_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = recorded([])
    core = await opened_with_record(folders, new=True)
    await core.append([block(0), block(1)])
    assert core._record is not None
    file = core._record._opened()
    write = file.write

    def fail_once(offset: int, data: bytes | bytearray | memoryview) -> None:
        monkeypatch.undo()
        write(offset, data[: len(data) // 2])
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(file, "write", fail_once)
    with pytest.raises(OSError, match="no memory"):
        await core.append([block(2)])
    core.close_without_sync()
    assert (await opened_with_record(folders)).length == 2


@pytest.mark.parametrize("file", ["tree", "data"])
async def test_a_record_of_blocks_that_are_not_there_is_left_alone(file: str) -> None:
    operations: list[Operation] = []
    folders = recorded(operations)
    core = await opened_with_record(folders, new=True)
    await core.append([block(0)])
    await core.sync()
    size = len(folders[0].files[file].data)
    await core.append([block(index) for index in range(1, 9)])
    del folders[0].files[file].data[size + 20 :]
    core.close_without_sync()
    assert (await opened_with_record(folders)).length == 1


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
