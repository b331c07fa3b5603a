"""Cores of ours beside those of the reference, over TCP."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.replication import Follow, Replicator
from hyperfs.storage import DiskDirectory
from hyperfs.swarm import Swarm

from .reference import ReferencePeer

KEYS = key_pair(b"interop".ljust(32))
LIMIT_SECONDS = 240
OPENED: list[Core] = []
"""Cores that the helpers here opened; `tests/interop/conftest.py` closes them after each test."""


@asynccontextmanager
async def swarm_of(replicator: Replicator) -> AsyncIterator[Swarm]:
    """Run a swarm until the block ends."""
    with trio.fail_after(LIMIT_SECONDS):
        async with trio.open_nursery() as nursery:
            yield Swarm(replicator, nursery)
            nursery.cancel_scope.cancel()


async def our_reader(tmp_path: Path, key: str, replicator: Replicator, follow: Follow = Follow.NOTHING) -> Core:
    core = await Core.open(DiskDirectory(tmp_path / "ours"), key=bytes.fromhex(key), source=replicator)
    OPENED.append(core)
    replicator.add_core(core, follow=follow)
    return core


async def our_writer(tmp_path: Path, blocks: list[bytes]) -> tuple[Core, Replicator]:
    core = await Core.open(DiskDirectory(tmp_path / "ours"), key_pair=KEYS)
    OPENED.append(core)
    await core.append(blocks)
    await core.sync()
    replicator = Replicator()
    replicator.add_core(core)
    return core, replicator


async def theirs_of(peer: ReferencePeer, count: int, size: int) -> str:
    """Have the reference make a core and return its key."""
    key = (await peer.call("core.open", name="served"))["key"]
    await peer.call("core.append", core=key, count=count, size=size)
    assert isinstance(key, str)
    return key


def digest(blocks: list[bytes]) -> str:
    return hashlib.sha256(b"".join(blocks)).hexdigest()
