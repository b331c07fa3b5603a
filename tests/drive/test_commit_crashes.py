"""Crashes at any moment of a drive's two cores: no node is left without the content it names."""

import random

import pytest

from hyperfs.core.core import Core
from hyperfs.core.head_record import HeadRecord
from hyperfs.crypto import KeyPair, key_pair
from hyperfs.drive.committer import LocalCommitter
from hyperfs.storage import MemoryDirectory
from hyperfs.trie import Header, NodeCache, Put, Trie
from tests.support.crashes import Operation, RecordingDirectory, Replay, folder_of

METADATA, CONTENT = key_pair(b"\x01" * 32), key_pair(b"\x02" * 32)
COMMITS = 10
THIS_BOOT, NEXT_BOOT = b"1" * 16, b"2" * 16


def block(index: int) -> bytes:
    return b"%d." % index * (1 + index * 7 % 90)


async def opened(operations: list[Operation], boot: bytes, left: MemoryDirectory | None = None) -> tuple[Core, Core]:
    """Open both cores of a drive as a store does, new ones or those that a crash ``left``; note what they do."""

    async def core(prefix: str, keys: KeyPair) -> Core:
        directory, own = (
            RecordingDirectory(folder_of(left, name).files if left else None, operations=operations, prefix=name)
            for name in (prefix, "own-" + prefix)
        )
        return await Core.open(directory, key_pair=keys, record=HeadRecord(own, "head", boot=boot))

    metadata, content = await core("metadata/", METADATA), await core("content/", CONTENT)
    if metadata.syncs_after is not None:
        assert metadata.syncs_after == content.key
        metadata.sync_after(content)
    return metadata, content


async def written(chance: random.Random) -> tuple[list[Operation], int, list[tuple[int, int, int]]]:
    """Make commits; return what was done, where the first begins, and (position, version, durable one) after each."""
    operations: list[Operation] = []
    metadata, content = await opened(operations, THIS_BOOT)
    await metadata.append([Header(content.key, "hyperdrive").encode()])
    await metadata.sync()
    committer = LocalCommitter(metadata, content)
    begun = len(operations)
    promised = []
    for number in range(COMMITS):
        async with committer.content() as lease:
            run = await lease.append([block(content.length + index) for index in range(chance.choice([1, 2, 9]))])
        await committer.commit([Put(f"file-{number}", b"%d %d" % (run.blocks.start, run.blocks.stop))])
        promised.append((len(operations), metadata.length, metadata.durable_length))
        if chance.random() < 0.3:
            await committer.sync()
            promised.append((len(operations), metadata.length, metadata.durable_length))
        elif chance.random() < 0.3:
            await content.sync()
    return operations, begun, promised


async def check(metadata: Core, content: Core) -> int:
    """Check that all that the nodes of a drive name is there; return the drive's version and close the cores."""
    version = metadata.length
    async for node in Trie(metadata, version, NodeCache()).iterate():
        assert node.value is not None
        start, stop = map(int, node.value.split())
        for index in range(start, stop):
            assert await content.get(index) == block(index)
    await metadata.close()
    await content.close()
    return version


@pytest.mark.parametrize("seed", range(2))
async def test_no_power_cut_leaves_a_node_without_its_content(seed: int) -> None:
    chance = random.Random(seed)
    operations, begun, promised = await written(chance)
    replay = Replay(operations)
    for position in range(begun, len(operations) + 1):
        replay.advance(position)
        durable = max((durable for at, _, durable in promised if at <= position), default=1)
        assert await check(*await opened([], NEXT_BOOT, replay.lost_power(chance))) >= durable


@pytest.mark.parametrize("seed", range(2))
async def test_a_killed_process_leaves_every_commit(seed: int) -> None:
    chance = random.Random(100 + seed)
    operations, begun, promised = await written(chance)
    replay = Replay(operations)
    for position in range(begun, len(operations) + 1):
        replay.advance(position)
        version = max((version for at, version, _ in promised if at <= position), default=1)
        assert await check(*await opened([], THIS_BOOT, replay.killed())) >= version


@pytest.mark.parametrize("seed", range(2))
async def test_no_power_cut_after_a_kill_leaves_a_node_without_its_content(seed: int) -> None:
    chance = random.Random(200 + seed)
    operations, begun, _ = await written(chance)
    killed = Replay(operations)
    for position in range(begun, len(operations) + 1, 7):
        killed.advance(position)
        left, again = killed.killed(), list[Operation]()
        await check(*await opened(again, THIS_BOOT, left))
        replay = Replay(again, left.files)
        for later in range(len(again) + 1):
            replay.advance(later)
            await check(*await opened([], NEXT_BOOT, replay.lost_power(chance)))
