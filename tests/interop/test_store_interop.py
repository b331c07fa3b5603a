"""One store directory, and both implementations at it in turn: each goes on with what the other left."""

from pathlib import Path

import pytest

import hyperfs
from tests.support import vectors
from tests.support.clones import clone, comparable
from tests.support.patterns import pattern, sha256
from tests.support.reference import ReferencePeer, reference_peer

LONG_NAME = "n" * 255


async def write_with_the_reference(peer: ReferencePeer) -> str:
    """Write one of everything and return the drive's key."""
    drive: str = (await peer.call("drive.open"))["key"]
    inner = (await peer.call("drive.open", name="inner"))["key"]
    deepest = (await peer.call("drive.open", name="deepest"))["key"]
    stat = {"mode": 0o100640, "uid": 1000, "gid": 100, "mtime": 1_500_000_000_123, "ctime": 1_500_000_000_456}
    await peer.call("drive.write", drive=drive, path="/a/b.txt", data={"text": "hello"}, stat=stat)
    await peer.call("drive.write", drive=drive, path="/big", data={"size": 1_500_000, "seed": "big"})
    await peer.call("drive.write", drive=drive, path="/empty", data={"text": ""})
    await peer.call("drive.write", drive=drive, path=f"/日本 語/{LONG_NAME}", data={"text": "long"})
    await peer.call("drive.mkdir", drive=drive, path="/folder", stat={"mode": 0o40700})
    await peer.call("drive.symlink", drive=drive, path="/link", target="a/b.txt")
    await peer.call("drive.setMetadata", drive=drive, path="/big", name="user.z", data={"text": "blue"})
    await peer.call("drive.setMetadata", drive=drive, path="/big", name="user.a", data={"hex": "00ff"})
    await peer.call("drive.removeMetadata", drive=drive, path="/big", name="user.z")
    await peer.call("drive.writeMany", drive=drive, prefix="/many", count=700)
    await peer.call("drive.write", drive=drive, path="/gone", data={"text": "gone"})
    await peer.call("drive.unlink", drive=drive, path="/gone")
    bottom = (await peer.call("drive.write", drive=deepest, path="/bottom", data={"text": "bottom"}))["version"]
    await peer.call("drive.write", drive=deepest, path="/bottom", data={"text": "newer"})
    # Fixed before anything is mounted in it: the reference waits for ever on a live drive inside a fixed one.
    fixed = (await peer.call("drive.write", drive=inner, path="/x", data={"text": "old"}))["version"]
    await peer.call("drive.mount", drive=inner, path="/deepest", key=deepest, version=bottom)
    await peer.call("drive.write", drive=inner, path="/x", data={"text": "new"})
    await peer.call("drive.mount", drive=drive, path="/sub/live", key=inner)
    await peer.call("drive.mount", drive=drive, path="/sub/fixed", key=inner, version=fixed)
    return drive


async def test_hyperfs_reads_everything_that_the_reference_wrote(tmp_path: Path) -> None:
    async with reference_peer(tmp_path / "store") as peer:
        key = await write_with_the_reference(peer)
        theirs = await peer.call("drive.clone", drive=key)
    async with hyperfs.open_store(tmp_path / "store") as store:
        ours = await clone((await store.drive(key)).snapshot())
    assert ours == comparable(theirs, ours)


async def test_hyperfs_opens_a_past_version_that_the_reference_tagged(tmp_path: Path) -> None:
    async with reference_peer(tmp_path / "store") as peer:
        key = (await peer.call("drive.open"))["key"]
        await peer.call("drive.write", drive=key, path="/a", data={"text": "one"})
        await peer.call("drive.tag", drive=key, name="v1")
        await peer.call("drive.write", drive=key, path="/a", data={"text": "two"})
    async with hyperfs.open_store(tmp_path / "store") as store:
        snapshot = (await store.drive(f"{key}+v1")).snapshot()
        assert await snapshot.read(await snapshot.stat("a"), 0, 10) == b"one"


async def write_with_hyperfs(path: Path) -> str:
    """Write one of everything and return the drive's key."""
    async with hyperfs.open_store(path) as store:
        drive, inner = await store.create_drive(), await store.create_drive()
        writer, inner_writer = await store.writer(drive), await store.writer(inner)
        await inner_writer.put_file("x", b"old")
        fixed = inner.version
        await inner_writer.put_file("x", b"new")
        async with writer.batch() as batch:
            await batch.put_file("a/b.txt", b"hello", mode=0o640, mtime=1_500_000_000_123)
            await batch.put_file("big", pattern("big", 1_500_000), attributes={"user.a": b"\x00\xff"})
            await batch.put_file("empty")
            await batch.put_file(f"日本 語/{LONG_NAME}", b"long")
            await batch.make_directory("folder", mode=0o700)
            await batch.symlink("link", "a/b.txt")
            for number in range(700):
                await batch.put_file(f"many/{number}", b"%d" % number)
        await writer.put_file("gone", b"gone")
        await writer.delete("gone")
        await writer.mount("sub/live", inner.key)
        await writer.mount("sub/fixed", inner.key, version=fixed)
        await writer.tag("v1")
        return drive.key.hex()


async def test_the_reference_reads_everything_that_hyperfs_wrote(tmp_path: Path) -> None:
    key = await write_with_hyperfs(tmp_path / "store")
    async with hyperfs.open_store(tmp_path / "store") as store:
        ours = await clone((await store.drive(key)).snapshot())
    async with reference_peer(tmp_path / "store") as peer:
        await peer.call("drive.open", key=key)
        theirs = await peer.call("drive.clone", drive=key)
    assert comparable(theirs, ours) == ours


async def test_the_reference_may_write_to_the_drive_that_hyperfs_made(tmp_path: Path) -> None:
    key = await write_with_hyperfs(tmp_path / "store")
    async with reference_peer(tmp_path / "store") as peer:
        assert (await peer.call("drive.open", key=key))["writable"]


@pytest.mark.parametrize("first", ["reference", "hyperfs"])
async def test_both_take_turns_writing(tmp_path: Path, first: str) -> None:
    store_path = tmp_path / "store"
    if first == "reference":
        async with reference_peer(store_path) as peer:
            key = (await peer.call("drive.open"))["key"]
    else:
        async with hyperfs.open_store(store_path) as store:
            key = (await store.create_drive()).key.hex()
    for turn in range(3):
        async with hyperfs.open_store(store_path) as store:
            writer = await store.writer(await store.drive(key))
            await writer.put_file(f"ours/{turn}", b"ours %d" % turn)
        async with reference_peer(store_path) as peer:
            await peer.call("drive.open", key=key)
            await peer.call("drive.write", drive=key, path=f"/theirs/{turn}", data={"text": f"theirs {turn}"})
            theirs = await peer.call("drive.clone", drive=key)
    async with hyperfs.open_store(store_path) as store:
        ours = await clone((await store.drive(key)).snapshot())
    assert ours == comparable(theirs, ours)
    assert {path: ours[path]["sha256"] for path in ours} == {
        f"/{whose}/{turn}": sha256(b"%s %d" % (whose.encode(), turn))
        for whose in ("ours", "theirs")
        for turn in range(3)
    }


async def test_the_reference_finds_what_it_wrote_itself_in_the_fixture_that_hyperfs_had_open(tmp_path: Path) -> None:
    store_path = vectors.copy_store("drive", tmp_path / "store")
    key = vectors.load("drive")["key"]
    async with hyperfs.open_store(store_path) as store:
        ours = await clone((await store.drive(key)).snapshot())
    async with reference_peer(store_path) as peer:
        await peer.call("drive.open", key=key)
        assert comparable(await peer.call("drive.clone", drive=key), ours) == ours
