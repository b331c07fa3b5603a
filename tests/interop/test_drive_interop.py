"""Whole drives over TCP, in both directions, while they change: hyperfs's library and the reference peer."""

from contextlib import aclosing
from pathlib import Path

import trio

from tests.support.clones import clone, comparable
from tests.support.our_peer import our_peer
from tests.support.patterns import pattern, sha256
from tests.support.reference import ReferencePeer, reference_peer

DEADLINE_SECONDS = 240.0


async def write_outer_and_inner(peer: ReferencePeer) -> str:
    drive: str = (await peer.call("drive.open"))["key"]
    inner = (await peer.call("drive.open", name="inner"))["key"]
    deepest = (await peer.call("drive.open", name="deepest"))["key"]
    bottom = (await peer.call("drive.write", drive=deepest, path="/bottom", data={"text": "then"}))["version"]
    await peer.call("drive.write", drive=deepest, path="/bottom", data={"text": "now"})
    await peer.call("drive.write", drive=inner, path="/x", data={"text": "inner"})
    await peer.call("drive.mount", drive=inner, path="/fixed", key=deepest, version=bottom)
    await peer.call("drive.write", drive=drive, path="/big", data={"size": 1_200_000, "seed": "big"})
    await peer.call("drive.symlink", drive=drive, path="/link", target="/big")
    await peer.call("drive.setMetadata", drive=drive, path="/big", name="user.colour", data={"text": "blue"})
    await peer.call("drive.writeMany", drive=drive, prefix="/many", count=400)
    await peer.call("drive.mount", drive=drive, path="/sub/live", key=inner)
    return drive


async def test_hyperfs_clones_what_the_reference_serves(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with reference_peer() as theirs, our_peer(tmp_path / "ours") as ours:
            key = await write_outer_and_inner(theirs)
            ours.connect(await theirs.listen())
            cloned = await clone((await ours.drive(key)).snapshot())
            assert cloned == comparable(await theirs.call("drive.clone", drive=key), cloned)


async def test_what_was_cloned_is_read_without_a_peer(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with reference_peer() as theirs, our_peer(tmp_path / "ours") as ours:
            key = await write_outer_and_inner(theirs)
            ours.connect(await theirs.listen())
            cloned = await clone((await ours.drive(key)).snapshot())
        async with our_peer(tmp_path / "ours") as ours:
            assert await clone((await ours.drive(key)).snapshot()) == cloned


async def test_the_reference_clones_what_hyperfs_serves(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with our_peer(tmp_path / "ours") as ours, reference_peer() as theirs:
            inner, inner_writer = await ours.new_drive()
            await inner_writer.put_file("x", b"inner")
            drive, writer = await ours.new_drive()
            async with writer.batch() as batch:
                await batch.put_file("big", pattern("big", 1_200_000), attributes={"user.colour": b"blue"})
                await batch.put_file("empty", b"")
                await batch.symlink("link", "/big")
                await batch.make_directory("folder")
                for number in range(400):
                    await batch.put_file(f"many/{number}", b"%d" % number)
            await writer.mount("sub/live", inner.key)
            key = drive.key.hex()
            cloned = await clone(drive.snapshot())
            await theirs.call("drive.open", key=key)
            await theirs.connect(await ours.listen())
            await theirs.call("drive.update", drive=key, version=drive.version)
            assert comparable(await theirs.call("drive.clone", drive=key), cloned) == cloned


async def test_hyperfs_sees_what_the_reference_appends(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with reference_peer() as theirs, our_peer(tmp_path / "ours") as ours:
            key = (await theirs.call("drive.open"))["key"]
            await theirs.call("drive.write", drive=key, path="/a", data={"text": "old"})
            ours.connect(await theirs.listen())
            drive = await ours.drive(key)
            await drive.snapshot().stat("a")
            version = (await theirs.call("drive.write", drive=key, path="/a", data={"text": "newer"}))["version"]
            async with aclosing(drive.watch()) as snapshots:
                async for snapshot in snapshots:
                    if snapshot.version >= version:
                        break
            assert await snapshot.read(await snapshot.stat("a"), 0, 10) == b"newer"


async def test_the_reference_sees_what_hyperfs_appends(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with our_peer(tmp_path / "ours") as ours, reference_peer() as theirs:
            drive, writer = await ours.new_drive()
            await writer.put_file("a", b"old")
            key = drive.key.hex()
            await theirs.call("drive.open", key=key)
            await theirs.connect(await ours.listen())
            await theirs.call("drive.update", drive=key, version=drive.version)
            await theirs.call("drive.read", drive=key, path="/a")
            await writer.put_file("a", b"newer")
            await theirs.call("drive.update", drive=key, version=drive.version)
            assert (await theirs.call("drive.read", drive=key, path="/a"))["sha256"] == sha256(b"newer")


async def test_a_past_version_is_fetched_from_the_reference(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        async with reference_peer() as theirs, our_peer(tmp_path / "ours") as ours:
            key = (await theirs.call("drive.open"))["key"]
            version = (await theirs.call("drive.write", drive=key, path="/a", data={"text": "one"}))["version"]
            await theirs.call("drive.writeMany", drive=key, prefix="/many", count=100)
            await theirs.call("drive.write", drive=key, path="/a", data={"text": "two"})
            ours.connect(await theirs.listen())
            snapshot = (await ours.drive(key, version)).snapshot()
            assert await snapshot.read(await snapshot.stat("a"), 0, 10) == b"one"
