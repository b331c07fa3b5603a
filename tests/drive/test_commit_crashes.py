"""Crashes at any moment of a drive's two cores: no node is left without the content it names."""

import random

import pytest

from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.drive.committer import LocalCommitter
from hyperfs.storage import MemoryDirectory
from hyperfs.trie import Header, NodeCache, Put, Trie
from tests.support.crashes import Operation, RecordingDirectory, Replay, folder_of

METADATA, CONTENT = key_pair(b"\x01" * 32), key_pair(b"\x02" * 32)
COMMITS = 10


def block(index: int) -> bytes:
    return b"%d." % index * (1 + index * 7 % 90)


async def written(chance: random.Random) -> tuple[list[Operation], int, list[tuple[int, int]]]:
    """Make commits; return what was done, where the first begins, and (position, version) after each sync."""
    operations: list[Operation] = []
    metadata = await Core.open(RecordingDirectory(operations=operations, prefix="metadata/"), key_pair=METADATA)
    content = await Core.open(RecordingDirectory(operations=operations, prefix="content/"), key_pair=CONTENT)
    await metadata.append([Header(content.key, "hyperdrive").encode()])
    await metadata.sync()
    committer = LocalCommitter(metadata, content)
    begun = len(operations)
    synced = []
    for number in range(COMMITS):
        async with committer.content() as lease:
            run = await lease.append([block(content.length + index) for index in range(chance.choice([1, 2, 9]))])
        await committer.commit([Put(f"file-{number}", b"%d %d" % (run.blocks.start, run.blocks.stop))])
        if chance.random() < 0.3:
            await committer.sync()
            synced.append((len(operations), metadata.length))
        elif chance.random() < 0.3:
            await content.sync()
    return operations, begun, synced


async def check(left: MemoryDirectory) -> int:
    """Check that all that a crash left is named by nodes is there, and return the drive's version."""
    metadata, content = (
        await Core.open(folder_of(left, "metadata/")),
        await Core.open(folder_of(left, "content/"), key=CONTENT.public),
    )
    version = metadata.length
    async for node in Trie(metadata, version, NodeCache()).iterate():
        assert node.value is not None
        start, stop = map(int, node.value.split())
        for index in range(start, stop):
            assert await content.get(index) == block(index)
    await metadata.close()
    await content.close()
    return version


@pytest.mark.parametrize("seed", range(4))
async def test_no_crash_leaves_a_node_without_its_content(seed: int) -> None:
    chance = random.Random(seed)
    operations, begun, synced = await written(chance)
    replay = Replay(operations)
    for position in range(begun, len(operations) + 1):
        replay.advance(position)
        durable = max((version for at, version in synced if at <= position), default=1)
        assert await check(replay.lost_power(chance)) >= durable


@pytest.mark.parametrize("seed", range(4))
async def test_a_killed_process_leaves_what_was_synced(seed: int) -> None:
    chance = random.Random(100 + seed)
    operations, begun, synced = await written(chance)
    replay = Replay(operations)
    for position in range(begun, len(operations) + 1):
        replay.advance(position)
        durable = max((version for at, version in synced if at <= position), default=1)
        assert await check(replay.killed()) >= durable
