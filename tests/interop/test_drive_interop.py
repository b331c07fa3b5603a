"""One store, two implementations: what either wrote, the other lists and reads the same, and writes on."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

import hyperfs
from tests.support.reference import ReferencePeer, reference_peer

Cloned = dict[str, dict[str, Any]]


async def our_clone(snapshot: hyperfs.Snapshot) -> Cloned:
    """Describe all of a drive as the reference peer's ``drive.clone`` does."""
    found: Cloned = {}
    async for entry in snapshot.walk():
        stat = entry.stat
        found[f"/{entry.path}"] = {
            "mode": stat.mode,
            "uid": stat.uid,
            "gid": stat.gid,
            "size": stat.size,
            "linkname": stat.linkname,
            "mtime": stat.mtime,
            "metadata": {name: value and value.hex() for name, value in stat.attributes.items()},
        }
        if entry.implied:  # the reference makes up something else for it, so only its being there is compared
            found[f"/{entry.path}"] = {"mode": stat.mode}
        elif stat.is_file:
            content = await snapshot.read(entry, 0, stat.size)
            found[f"/{entry.path}"]["sha256"] = hashlib.sha256(content).hexdigest()
    return found


async def their_clone(peer: ReferencePeer, key: str, like: Cloned, **options: Any) -> Cloned:
    """Return the reference's description of a drive, with the fields that ``like`` has of each path."""
    cloned = await peer.call("drive.clone", drive=key, **options)
    return {
        path: {name: value for name, value in stat.items() if name in like.get(path, stat)}
        for path, stat in cloned.items()
    }


async def fill(drive: hyperfs.Drive, writer: hyperfs.DriveWriter) -> None:
    await writer.put_file("README", b"read me", mode=0o640, mtime=1_500_000_000_123)
    await writer.put_file("data/big", bytes(range(256)) * 5000)
    await writer.put_file("data/ünï/日 本.txt", b"names")
    await writer.put_file("n/" + "x" * 255, b"long")
    await writer.put_file("zero")
    await writer.make_directory("empty", mode=0o700)
    await writer.symlink("data/link", "../README")
    await writer.set_attribute("README", "user.a", b"1")
    await writer.set_attribute("README", "user.b", b"2")
    await writer.set_attribute("README", "user.a", None)
    async with writer.batch() as batch:
        for number in range(100):
            await batch.put_file(f"many/f{number}", str(number).encode())
    await writer.delete("many/f7")
    await writer.rename("many/f8", "moved/f8")
    await writer.tag("v1")


async def test_the_reference_reads_what_we_wrote(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        await fill(drive, await store.writer(drive))
        key, version, ours = drive.key.hex(), drive.version, await our_clone(drive.snapshot())
    async with reference_peer(tmp_path / "store") as peer:
        opened = await peer.call("drive.open", key=key)
        assert (opened["version"], opened["writable"]) == (version, True)
        assert await their_clone(peer, key, ours) == ours
        assert await peer.call("drive.tags", drive=key) == {"v1": version - 1}


async def fill_by_reference(peer: ReferencePeer, key: str) -> None:
    await peer.call("drive.write", drive=key, path="/a/b.txt", data={"text": "hello"}, stat={"mode": 0o100640})
    await peer.call("drive.write", drive=key, path="/big", data={"size": 1_500_000, "seed": "big"})
    await peer.call("drive.write", drive=key, path="/empty", data={"text": ""})
    await peer.call("drive.write", drive=key, path="/back\\slash//x/", data={"text": "normal"})
    await peer.call("drive.mkdir", drive=key, path="/folder")
    await peer.call("drive.symlink", drive=key, path="/link", target="a/b.txt")
    await peer.call("drive.setMetadata", drive=key, path="/big", name="user.colour", data={"text": "blue"})
    await peer.call("drive.writeMany", drive=key, prefix="/many", count=300)
    await peer.call("drive.unlink", drive=key, path="/empty")
    await peer.call("drive.tag", drive=key, name="v1", version=3)


async def test_we_read_what_the_reference_wrote(tmp_path: Path) -> None:
    async with reference_peer(tmp_path / "store") as peer:
        key = (await peer.call("drive.open"))["key"]
        await fill_by_reference(peer, key)
        theirs = await peer.call("drive.clone", drive=key)
        version = (await peer.call("drive.info", drive=key))["version"]
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.drive(key)
        ours = await our_clone(drive.snapshot())
        assert {path: {name: theirs[path].get(name) for name in stat} for path, stat in ours.items()} == ours
        assert ours.keys() == theirs.keys()
        assert (drive.version, drive.writable) == (version, True)
        assert await drive.snapshot().tags() == {"v1": 3}


async def test_both_take_turns_writing(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        key = drive.key.hex()
        await (await store.writer(drive)).put_file("first", b"ours")
    async with reference_peer(tmp_path / "store") as peer:
        await peer.call("drive.open", key=key)
        await peer.call("drive.write", drive=key, path="/second", data={"text": "theirs"})
        await peer.call("drive.unlink", drive=key, path="/first")
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.drive(key)
        writer = await store.writer(drive)
        await writer.put_file("third", b"ours again")
        await writer.rename("second", "renamed/second")
        ours = await our_clone(drive.snapshot())
        assert sorted(ours) == ["/renamed", "/renamed/second", "/third"]
    async with reference_peer(tmp_path / "store") as peer:
        await peer.call("drive.open", key=key)
        assert await their_clone(peer, key, ours) == ours
        await peer.call("drive.write", drive=key, path="/fourth", data={"text": "theirs again"})
    async with hyperfs.open_store(tmp_path / "store") as store:
        snapshot = (await store.drive(key)).snapshot()
        entry = await snapshot.stat("fourth")
        assert await snapshot.read(entry, 0, 100) == b"theirs again"


async def test_the_reference_reads_drives_that_we_mounted_in_drives(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        inner, middle, outer = [await store.create_drive() for _ in range(3)]
        await (await store.writer(inner)).put_file("f", b"first")
        await (await store.writer(inner)).put_file("f", b"second")
        await (await store.writer(middle)).mount("pinned", inner.key, version=2)
        await (await store.writer(middle)).mount("deep/live", inner.key)
        await (await store.writer(outer)).mount("m", middle.key)
        ours = await our_clone(outer.snapshot())
        key = outer.key.hex()
    assert ours["/m/pinned/f"]["sha256"] != ours["/m/deep/live/f"]["sha256"]
    async with reference_peer(tmp_path / "store") as peer:
        await peer.call("drive.open", key=key)
        for path in ("/m/pinned/f", "/m/deep/live/f"):
            assert (await peer.call("drive.read", drive=key, path=path))["sha256"] == ours[path]["sha256"]


async def test_we_read_drives_that_the_reference_mounted_in_drives(tmp_path: Path) -> None:
    async with reference_peer(tmp_path / "store") as peer:
        inner = (await peer.call("drive.open", name="inner"))["key"]
        middle = (await peer.call("drive.open", name="middle"))["key"]
        outer = (await peer.call("drive.open"))["key"]
        await peer.call("drive.write", drive=inner, path="/f", data={"text": "first"})
        await peer.call("drive.write", drive=inner, path="/f", data={"text": "second"})
        await peer.call("drive.mount", drive=middle, path="/pinned", key=inner, version=2)
        await peer.call("drive.mount", drive=middle, path="/deep/live", key=inner)
        await peer.call("drive.mount", drive=outer, path="/m", key=middle)
        await peer.call("drive.mount", drive=outer, path="/gone", key=inner)
        await peer.call("drive.unmount", drive=outer, path="/gone")
    async with hyperfs.open_store(tmp_path / "store") as store:
        snapshot = (await store.drive(outer)).snapshot()
        assert await snapshot.read(await snapshot.stat("m/pinned/f"), 0, 100) == b"first"
        assert await snapshot.read(await snapshot.stat("m/deep/live/f"), 0, 100) == b"second"
        assert sorted([entry.name async for entry in snapshot.list()]) == ["m"]


@pytest.mark.parametrize("version", [2, 4, 6])
async def test_checkouts_are_the_same(tmp_path: Path, version: int) -> None:
    async with reference_peer(tmp_path / "store") as peer:
        key = (await peer.call("drive.open"))["key"]
        await fill_by_reference(peer, key)
        theirs = await peer.call("drive.clone", drive=key, version=version)
    async with hyperfs.open_store(tmp_path / "store") as store:
        ours = await our_clone((await store.drive(key, version=version)).snapshot())
        assert {path: {name: theirs[path].get(name) for name in stat} for path, stat in ours.items()} == ours
        assert ours.keys() == theirs.keys()


async def test_an_imported_folder_is_read_by_the_reference(tmp_path: Path) -> None:
    source = tmp_path / "source"
    _make_folder(source)
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        await store.import_folder(source, drive)
        key, ours = drive.key.hex(), await our_clone(drive.snapshot())
    async with reference_peer(tmp_path / "store") as peer:
        await peer.call("drive.open", key=key)
        assert await their_clone(peer, key, ours) == ours


def _make_folder(source: Path) -> None:
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "f").write_bytes(bytes(1_200_000))
    (source / "empty").touch()
    (source / "link").symlink_to("a/b")
    for number in range(50):
        (source / f"f{number}").write_bytes(str(number).encode())
