"""The harness itself: one reference peer serves, another clones over TCP."""

from pathlib import Path

import pytest

from tests.support.patterns import pattern, sha256
from tests.support.reference import ReferenceFailed, ReferencePeer, reference_peer


async def serve_drive(peer: ReferencePeer) -> tuple[str, int]:
    drive: str = (await peer.call("drive.open"))["key"]
    await peer.call("drive.write", drive=drive, path="/a/b.txt", data={"text": "hello"}, stat={"mode": 0o100640})
    await peer.call("drive.write", drive=drive, path="/big", data={"size": 1_500_000, "seed": "big"})
    await peer.call("drive.write", drive=drive, path="/empty", data={"text": ""})
    await peer.call("drive.mkdir", drive=drive, path="/folder")
    await peer.call("drive.symlink", drive=drive, path="/link", target="a/b.txt")
    await peer.call("drive.setMetadata", drive=drive, path="/big", name="user.colour", data={"text": "blue"})
    return drive, await peer.listen()


async def test_a_drive_is_cloned_over_tcp(tmp_path: Path) -> None:
    async with reference_peer(tmp_path / "one") as one, reference_peer(tmp_path / "two") as two:
        drive, port = await serve_drive(one)
        await two.call("drive.open", key=drive)
        await two.connect(port)
        clone = await two.call("drive.clone", drive=drive)
        assert clone == await one.call("drive.clone", drive=drive)
        assert sorted(clone) == ["/a", "/a/b.txt", "/big", "/empty", "/folder", "/link"]


async def test_both_sides_make_the_same_pattern(tmp_path: Path) -> None:
    async with reference_peer() as peer:
        drive, _ = await serve_drive(peer)
        assert (await peer.call("drive.read", drive=drive, path="/big"))["sha256"] == sha256(pattern("big", 1_500_000))


async def test_a_change_reaches_who_waits_for_it() -> None:
    async with reference_peer() as one, reference_peer() as two:
        drive, port = await serve_drive(one)
        await two.call("drive.open", key=drive)
        await two.connect(port)
        version = (await two.call("drive.update", drive=drive))["version"]
        await one.call("drive.write", drive=drive, path="/new", data={"text": "new"})
        await two.call("drive.update", drive=drive, version=version + 1)
        assert (await two.call("drive.read", drive=drive, path="/new"))["sha256"] == sha256(b"new")


async def test_a_checkout_lists_what_was_there() -> None:
    async with reference_peer() as peer:
        drive, _ = await serve_drive(peer)
        before = (await peer.call("drive.info", drive=drive))["version"]
        await peer.call("drive.unlink", drive=drive, path="/empty")
        await peer.call("drive.tag", drive=drive, name="v1", version=before)
        version = (await peer.call("drive.tags", drive=drive))["v1"]
        assert "empty" in await peer.call("drive.readdir", drive=drive, version=version)


async def test_an_inner_drive_is_read_through_the_outer_one() -> None:
    async with reference_peer() as peer:
        outer = (await peer.call("drive.open"))["key"]
        inner = (await peer.call("drive.open", name="inner"))["key"]
        await peer.call("drive.write", drive=inner, path="/x", data={"text": "one"})
        fixed = (await peer.call("drive.info", drive=inner))["version"]
        await peer.call("drive.write", drive=inner, path="/x", data={"text": "two"})
        await peer.call("drive.mount", drive=outer, path="/live", key=inner)
        await peer.call("drive.mount", drive=outer, path="/old", key=inner, version=fixed)
        clone = await peer.call("drive.clone", drive=outer)
        assert (clone["/live/x"]["sha256"], clone["/old/x"]["sha256"]) == (sha256(b"two"), sha256(b"one"))


async def test_many_small_files_are_written_in_few_appends() -> None:
    async with reference_peer() as peer:
        drive = (await peer.call("drive.open"))["key"]
        await peer.call("drive.writeMany", drive=drive, prefix="/many", count=1200, size=10)
        names = await peer.call("drive.readdir", drive=drive, path="/many")
        assert len(names) == 1200


async def test_a_core_is_replicated_over_tcp() -> None:
    async with reference_peer() as one, reference_peer() as two:
        core = (await one.call("core.open", name="blocks"))["key"]
        await one.call("core.append", core=core, count=1000, size=100, seed="s")
        port = await one.listen()
        await two.call("core.open", key=core)
        await two.connect(port)
        await two.call("core.update", core=core, length=1000)
        assert await two.call("core.sha256", core=core) == await one.call("core.sha256", core=core)


async def test_a_trie_is_changed_and_listed() -> None:
    async with reference_peer() as peer:
        core = (await peer.call("core.open", name="trie"))["key"]
        await peer.call("trie.open", core=core)
        operations = [{"type": "put", "key": key, "value": {"text": key}} for key in ("a/b", "a/c", "d")]
        await peer.call("trie.batch", trie=core, operations=[*operations, {"type": "del", "key": "a/c"}])
        assert sorted(node["key"] for node in await peer.call("trie.list", trie=core)) == ["a/b", "d"]


async def test_a_store_is_whole_and_unlocked_after_closing(tmp_path: Path) -> None:
    async with reference_peer(tmp_path / "store") as peer:
        drive, _ = await serve_drive(peer)
        before = await peer.call("drive.clone", drive=drive)
    async with reference_peer(tmp_path / "store") as peer:
        await peer.call("drive.open", key=drive)
        assert await peer.call("drive.clone", drive=drive) == before


async def test_a_master_key_decides_the_keys() -> None:
    async with reference_peer(master_key=bytes(32)) as one, reference_peer(master_key=bytes(32)) as two:
        assert (await one.call("drive.open"))["key"] == (await two.call("drive.open"))["key"]


async def test_a_failed_call_tells_what_the_peer_said() -> None:
    async with reference_peer() as peer:
        with pytest.raises(ReferenceFailed, match="no such drive is open: 00"):
            await peer.call("drive.info", drive="00")


async def test_a_peer_that_died_is_noticed_at_once() -> None:
    async with reference_peer() as peer:
        peer.kill()
        with pytest.raises(ReferenceFailed, match="ended"):
            await peer.call("net.status")
