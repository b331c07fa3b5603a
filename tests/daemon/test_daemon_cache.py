"""The limit for copies of others' content, in the daemon of this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from hyperfs.core.core import Core
from hyperfs.core.proofs import Received
from hyperfs.core.store import Store, run_store
from hyperfs.daemon.cache import FRESH_SECONDS, Cache
from hyperfs.daemon.registry import CoreRegistry, User
from hyperfs.drive.create import create_drive
from hyperfs.replication import Replicator

from ..support.cores import writer

BLOCK_BYTES = 64 * 1024
BLOCKS = [bytes([index]) * BLOCK_BYTES for index in range(200)]


async def copy_of(source: Core, target: Core, blocks: range) -> None:
    for index in blocks:
        proof = await source.proof(index, digest=target.digest(index))
        await target.store([Received(index, await source.get(index), proof.nodes, proof.signature)], origin=source)


@pytest.fixture
async def source() -> Core:
    core = await writer(BLOCKS)
    await core.sync()
    return core


@pytest.fixture
def clock(mock_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return mock_clock


@asynccontextmanager
async def cached(path: Path, nursery: trio.Nursery) -> AsyncIterator[tuple[Store, Cache, CoreRegistry]]:
    """A store with a cache that is limited to 100 blocks."""
    async with run_store(path) as store:
        registry = CoreRegistry(store, Replicator(), nursery)
        cache = Cache(store, registry)
        cache.set_limit(100 * BLOCK_BYTES)
        yield store, cache, registry
        registry.close()


async def test_what_came_first_goes_first(
    tmp_path: Path, source: Core, clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async with cached(tmp_path, nursery) as (_, cache, registry):
        copy = await registry.open(source.key, User())
        await copy_of(source, copy, range(128, 192))
        clock.jump(1)
        await copy_of(source, copy, range(64))
        clock.jump(2 * FRESH_SECONDS)
        await cache.tidy(100 * BLOCK_BYTES)
        assert copy.count(0, 64) == 64
        assert copy.count(128, 192) <= 36


async def test_what_came_just_now_stays(tmp_path: Path, source: Core, nursery: trio.Nursery) -> None:
    async with cached(tmp_path, nursery) as (_, cache, registry):
        copy = await registry.open(source.key, User())
        await copy_of(source, copy, range(128))
        assert not await cache.tidy(100 * BLOCK_BYTES)
        assert copy.count(0, 128) == 128


async def test_what_came_before_this_daemon_goes_before_what_came_since(
    tmp_path: Path, source: Core, nursery: trio.Nursery
) -> None:
    async with run_store(tmp_path) as store:
        await copy_of(source, await store.core(source.key), range(64, 192))
    async with cached(tmp_path, nursery) as (store, cache, registry):
        copy = await registry.open(source.key, User())
        await copy_of(source, copy, range(64))
        assert await cache.tidy(100 * BLOCK_BYTES)
        assert copy.count(0, 64) == 64
        assert copy.count(64, 192) <= 36


async def test_ours_stays_whatever_the_limit(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with cached(tmp_path, nursery) as (store, cache, _):
        key = await create_drive(store)
        content = await store.content_core(key)
        await content.append(BLOCKS)
        await content.sync()
        assert await cache.tidy(0)
        assert content.count(0, 200) == 200


async def test_metadata_of_others_stays_whatever_the_limit(tmp_path: Path, nursery: trio.Nursery) -> None:
    async with run_store(tmp_path / "theirs") as theirs, cached(tmp_path / "mine", nursery) as (_, cache, registry):
        metadata = await theirs.core(await create_drive(theirs))
        copy = await registry.open(metadata.key, User())
        await copy_of(metadata, copy, range(1))
        await copy.sync()
        await cache.tidy(0)
        assert copy.has(0, 1)
        assert (await cache.drives())[0].key == metadata.key.hex()
