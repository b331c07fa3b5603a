"""What few peers of the reference do: cores that never grow and need no signature, and being told what was stored."""

from pathlib import Path

import pytest

from hyperfs.core.core import Core
from hyperfs.replication import Follow, Replicator
from hyperfs.storage import DiskDirectory
from tests.support.reference import ReferencePeer, reference_peer
from tests.support.reference_cores import digest, our_reader, swarm_of, theirs_of


async def static_core(peer: ReferencePeer, count: int) -> str:
    key = (await peer.call("core.openStatic", count=count, size=100))["key"]
    assert isinstance(key, str)
    return key


@pytest.mark.parametrize("count", [1, 4, 37])
async def test_we_fetch_a_core_that_never_grows(tmp_path: Path, count: int) -> None:
    replicator = Replicator()
    async with reference_peer() as peer, swarm_of(replicator) as swarm:
        key = await static_core(peer, count)
        core = await our_reader(tmp_path, key, replicator, Follow.LENGTH)
        swarm.add_peer("127.0.0.1", await peer.listen())
        await core.fetch([range(count)])
        assert core.length == count
        expected = await peer.call("core.sha256", core=key)
        assert digest([await core.get(index) for index in range(count)]) == expected["sha256"]
        assert len(replicator.status().peers) == 1


async def test_it_is_whole_after_it_was_closed(tmp_path: Path) -> None:
    replicator = Replicator()
    async with reference_peer() as peer, swarm_of(replicator) as swarm:
        key = await static_core(peer, 11)
        core = await our_reader(tmp_path, key, replicator)
        swarm.add_peer("127.0.0.1", await peer.listen())
        await core.get(10)
        await core.close()
        again = await Core.open(DiskDirectory(tmp_path / "ours"))
        assert (again.length, again.count(0, 11)) == (11, 1)
        assert await again.audit() == []
        await again.close()


async def test_the_reference_fetches_it_from_us(tmp_path: Path) -> None:
    replicator = Replicator()
    async with reference_peer() as owner, reference_peer() as reader, swarm_of(replicator) as swarm:
        key = await static_core(owner, 37)
        core = await our_reader(tmp_path, key, replicator)
        swarm.add_peer("127.0.0.1", await owner.listen())
        await core.fetch([range(37)])
        await reader.call("core.open", key=key)
        swarm.add_peer("127.0.0.1", await reader.listen())
        assert (await reader.call("core.update", core=key, length=37))["length"] == 37
        theirs = await reader.call("core.sha256", core=key)
        assert theirs["sha256"] == digest([await core.get(index) for index in range(37)])


async def test_a_core_that_never_grows_is_given_from_store_to_store(tmp_path: Path) -> None:
    one, other = Replicator(), Replicator()
    async with reference_peer() as peer, swarm_of(one) as swarm, swarm_of(other) as second:
        key = await static_core(peer, 5)
        core = await our_reader(tmp_path / "one", key, one)
        copy = await our_reader(tmp_path / "other", key, other)
        swarm.add_peer("127.0.0.1", await peer.listen())
        await core.fetch([range(5)])
        second.add_peer("127.0.0.1", (await swarm.listen("127.0.0.1", 0)).port)
        await copy.fetch([range(5)])
        assert await copy.get(3) == await core.get(3)


async def test_whoever_wants_to_know_is_told_what_was_stored(tmp_path: Path) -> None:
    replicator = Replicator()
    async with reference_peer() as peer, swarm_of(replicator) as swarm:
        key = await theirs_of(peer, 20, 100)
        core = await our_reader(tmp_path, key, replicator)
        port = (await peer.call("net.listen", ack=True))["port"]
        swarm.add_peer("127.0.0.1", port)
        await core.get(7)
        await core.fetch([range(3)])
        assert sorted((await peer.call("net.acks", count=4))["blocks"]) == [0, 1, 2, 7]
