"""Cores go over TCP to and from the reference implementation, sparse and whole, and appends are followed both ways."""

import hashlib
from pathlib import Path

from hyperfs.replication import Follow, Replicator
from tests.support.reference import reference_peer
from tests.support.reference_cores import digest, our_reader, our_writer, swarm_of, theirs_of


async def test_we_fetch_one_block_of_theirs(tmp_path: Path) -> None:
    replicator = Replicator()
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        key = await theirs_of(peer, 3000, 100)
        core = await our_reader(tmp_path, key, replicator)
        swarm.add_peer("127.0.0.1", await peer.listen())
        block = await core.get(1234)
        assert (
            hashlib.sha256(block).hexdigest()
            == (await peer.call("core.sha256", core=key, start=1234, end=1235))["sha256"]
        )
        assert core.count(0, 3000) == 1


async def test_we_fetch_all_of_theirs(tmp_path: Path) -> None:
    replicator = Replicator()
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        key = await theirs_of(peer, 3000, 100)
        core = await our_reader(tmp_path, key, replicator)
        swarm.add_peer("127.0.0.1", await peer.listen())
        await core.fetch([range(3000)])
        expected = await peer.call("core.sha256", core=key)
        assert digest([await core.get(index) for index in range(3000)]) == expected["sha256"]
        assert len(replicator.status().peers) == 1


async def test_we_fetch_large_blocks_of_theirs_in_pieces(tmp_path: Path) -> None:
    replicator = Replicator()
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        key = await theirs_of(peer, 24, 400_000)
        core = await our_reader(tmp_path, key, replicator)
        swarm.add_peer("127.0.0.1", await peer.listen())
        await core.fetch([range(20, 24), range(3, 5)])
        assert core.count(0, 24) == 6
        await core.fetch([range(24)])
        expected = await peer.call("core.sha256", core=key)
        assert digest([await core.get(index) for index in range(24)]) == expected["sha256"]


async def test_we_seek_in_theirs(tmp_path: Path) -> None:
    replicator = Replicator()
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        key = await theirs_of(peer, 300, 777)
        core = await our_reader(tmp_path, key, replicator, Follow.LENGTH)
        swarm.add_peer("127.0.0.1", await peer.listen())
        await core.wait_longer(299)
        assert await core.seek(100_000) == (128, 100_000 - 128 * 777)
        assert core.count(0, 300) <= 2


async def test_we_follow_their_appends(tmp_path: Path) -> None:
    replicator = Replicator()
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        key = await theirs_of(peer, 10, 100)
        core = await our_reader(tmp_path, key, replicator, Follow.NEWEST)
        swarm.add_peer("127.0.0.1", await peer.listen())
        await core.wait_longer(9)
        for length in range(11, 16):
            await peer.call("core.append", core=key, blocks=[{"text": f"live {length}"}])
            await core.wait_longer(length - 1)
            assert await core.get(length - 1) == f"live {length}".encode()


async def test_they_fetch_one_block_of_ours(tmp_path: Path) -> None:
    blocks = [b"block %d" % index for index in range(3000)]
    core, replicator = await our_writer(tmp_path, blocks)
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        listening = await swarm.listen("127.0.0.1", 0)
        key = (await peer.call("core.open", key=core.key.hex()))["key"]
        await peer.connect(listening.port)
        assert (await peer.call("core.sha256", core=key, start=1234, end=1235))["sha256"] == digest([blocks[1234]])
        assert (await peer.call("core.has", core=key, start=0, end=3000))["count"] == 1


async def test_they_fetch_all_of_ours(tmp_path: Path) -> None:
    blocks = [b"block %d" % index * (index % 50) for index in range(3000)]
    core, replicator = await our_writer(tmp_path, blocks)
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        listening = await swarm.listen("127.0.0.1", 0)
        key = (await peer.call("core.open", key=core.key.hex()))["key"]
        await peer.connect(listening.port)
        assert (await peer.call("core.update", core=key, length=3000))["length"] == 3000
        assert (await peer.call("core.sha256", core=key, end=3000))["sha256"] == digest(blocks)
        assert (await peer.call("net.status"))["ended"] == []


async def test_they_seek_in_ours(tmp_path: Path) -> None:
    core, replicator = await our_writer(tmp_path, [bytes(777) for _ in range(300)])
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        listening = await swarm.listen("127.0.0.1", 0)
        key = (await peer.call("core.open", key=core.key.hex()))["key"]
        await peer.connect(listening.port)
        await peer.call("core.update", core=key, length=300)
        assert await peer.call("core.seek", core=key, byteOffset=100_000) == {
            "index": 128,
            "relative": 100_000 - 128 * 777,
        }


async def test_they_follow_our_appends(tmp_path: Path) -> None:
    core, replicator = await our_writer(tmp_path, [b"first"])
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        listening = await swarm.listen("127.0.0.1", 0)
        key = (await peer.call("core.open", key=core.key.hex()))["key"]
        await peer.connect(listening.port)
        await peer.call("core.update", core=key, length=1)
        for length in range(2, 7):
            await core.append([b"live %d" % length])
            await core.sync()
            assert (await peer.call("core.update", core=key, length=length))["length"] == length
            answer = await peer.call("core.sha256", core=key, start=length - 1, end=length)
            assert answer["sha256"] == digest([b"live %d" % length])


async def test_we_dial_and_serve_theirs_what_they_want(tmp_path: Path) -> None:
    blocks = [b"block %d" % index for index in range(50)]
    core, replicator = await our_writer(tmp_path, blocks)
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        key = (await peer.call("core.open", key=core.key.hex()))["key"]
        swarm.add_peer("127.0.0.1", await peer.listen())
        assert (await peer.call("core.sha256", core=key, start=0, end=50))["sha256"] == digest(blocks)


async def test_what_we_have_of_theirs_goes_on_to_another_of_them(tmp_path: Path) -> None:
    replicator = Replicator()
    async with (
        reference_peer(tmp_path / "first") as first,
        reference_peer(tmp_path / "second") as second,
        swarm_of(replicator) as swarm,
    ):
        key = await theirs_of(first, 200, 50)
        core = await our_reader(tmp_path, key, replicator)
        swarm.add_peer("127.0.0.1", await first.listen())
        await core.fetch([range(40, 60)])
        listening = await swarm.listen("127.0.0.1", 0)
        await first.call("net.close")
        await second.call("core.open", key=key)
        await second.connect(listening.port)
        answer = await second.call("core.sha256", core=key, start=40, end=60)
        assert answer["sha256"] == digest([await core.get(index) for index in range(40, 60)])


async def test_a_reference_that_goes_away_is_dialled_again(tmp_path: Path) -> None:
    replicator = Replicator()
    async with reference_peer(tmp_path / "theirs") as peer, swarm_of(replicator) as swarm:
        key = await theirs_of(peer, 20, 50)
        core = await our_reader(tmp_path, key, replicator)
        swarm.add_peer("127.0.0.1", await peer.listen())
        await core.get(3)
        await peer.call("net.disconnect")
        await core.get(4)
        assert core.count(0, 20) == 2
