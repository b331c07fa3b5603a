"""A drive of ours and the reference peer that has more of it, or has written to it."""

import shutil
from pathlib import Path

import pytest
import trio

from hyperfs.errors import WriterForked
from tests.support.our_peer import OurPeer, our_peer
from tests.support.patterns import pattern
from tests.support.reference import reference_peer
from tests.support.stores import eventually

DEADLINE_SECONDS = 240.0


async def drive_and_backup(store: Path) -> str:
    """Make a drive in ``store``, and a backup of the store beside it; return the drive's key."""
    async with our_peer(store) as ours:
        drive, writer = await ours.new_drive()
        for number in range(5):
            await writer.put_file(f"first/{number}", b"%d" % number)
    shutil.copytree(store, store.with_name("backup"))
    return drive.key.hex()


async def opened(ours: OurPeer, key: str) -> None:
    """Open both cores of a drive of ours, and wait until every peer was asked about them and what it has is here."""
    drive = await ours.drive(key)
    content = await ours.open_core(drive.volume.content_key)
    metadata = await ours.open_core(drive.key)
    await eventually(lambda: all(core.peers for core in ours.replicator.status().cores))
    for core in (metadata, content):
        await core.update()
        if core.fork_guard.fork is None:
            await core.fork_guard.caught_up()


async def test_a_restored_backup_catches_up_with_the_reference_and_goes_on(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        key = await drive_and_backup(tmp_path / "store")
        async with reference_peer() as theirs:
            await theirs.call("drive.open", key=key)
            async with our_peer(tmp_path / "store") as ours:
                drive = await ours.drive(key)
                await drive.content()
                async with (await ours.store.writer(drive)).batch() as batch:
                    await batch.put_file("big", pattern("big", 1_200_000))
                    for number in range(100):
                        await batch.put_file(f"later/{number}", b"%d" % number)
                await theirs.connect(await ours.listen())
                await theirs.call("drive.update", drive=key, version=drive.version)
                await theirs.call("drive.clone", drive=key)
                version = drive.version
            async with our_peer(tmp_path / "backup") as ours:
                ours.connect(await theirs.listen())
                await opened(ours, key)
                drive = await ours.drive(key)
                assert drive.version == version
                await (await ours.store.writer(drive)).put_file("newest", b"after the backup was restored")
                await theirs.call("drive.update", drive=key, version=version + 1)
                cloned = await theirs.call("drive.clone", drive=key)
                assert {"/newest", "/later/99", "/big"} <= cloned.keys()


async def test_what_the_reference_wrote_with_the_same_secret_key_is_a_fork(tmp_path: Path) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        key = await drive_and_backup(tmp_path / "store")
        async with reference_peer(tmp_path / "backup") as theirs:
            await theirs.call("drive.open", key=key)
            await theirs.call("drive.write", drive=key, path="/theirs", data={"text": "theirs"})
            async with our_peer(tmp_path / "store") as ours:
                drive = await ours.drive(key)
                writer = await ours.store.writer(drive)
                await writer.put_file("mine", b"mine")
                ours.connect(await theirs.listen())
                await opened(ours, key)
                with pytest.raises(WriterForked):
                    await writer.put_file("more", b"more")
                assert await drive.snapshot().read(await drive.snapshot().stat("mine"), 0, 4) == b"mine"
