"""The drive that the reference made, in tests/fixtures/drive, opened from its store as it stands on disk."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import hyperfs
from hyperfs.drive.stat import MountTarget
from tests.support import vectors

DRIVE = vectors.load("drive")
KEY: str = DRIVE["key"]


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[hyperfs.OpenStore]:
    async with hyperfs.open_store(vectors.copy_store("drive", tmp_path / "store")) as store:
        yield store


async def content_of(snapshot: hyperfs.Snapshot, path: str) -> bytes:
    entry = await snapshot.stat(path)
    return await snapshot.read(entry, 0, entry.stat.size)


@pytest.mark.parametrize(("path", "digest"), DRIVE["sha256"].items())
async def test_every_byte_is_read(tmp_path: Path, path: str, digest: str) -> None:
    async with opened(tmp_path) as store:
        snapshot = (await store.drive(KEY)).snapshot()
        assert hashlib.sha256(await content_of(snapshot, path.strip("/"))).hexdigest() == digest


@pytest.mark.parametrize(("path", "stated"), DRIVE["stats"].items())
async def test_every_stat_is_told(tmp_path: Path, path: str, stated: dict[str, Any]) -> None:
    async with opened(tmp_path) as store:
        stat = (await (await store.drive(KEY)).snapshot().stat(path.strip("/"))).stat
        assert {
            "mode": stat.mode,
            "uid": stat.uid,
            "gid": stat.gid,
            "size": stat.size,
            "blocks": stat.blocks,
            "offset": stat.offset,
            "byteOffset": stat.byte_offset,
            "linkname": stat.linkname,
            "mtime": stat.mtime,
            "metadata": stat.present_attributes,
        } == stated


@pytest.mark.parametrize("stated", DRIVE["versions"], ids=lambda stated: stated["label"])
async def test_every_version_has_its_files(tmp_path: Path, stated: dict[str, Any]) -> None:
    async with opened(tmp_path) as store:
        snapshot = (await store.drive(KEY, version=stated["version"])).snapshot()
        walked = [entry async for entry in snapshot.walk()]
        assert sorted(entry.path for entry in walked if not entry.implied) == sorted(stated["files"])


async def test_the_newest_version_is_known(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        drive = await store.drive(KEY)
        content = await drive.content()
        assert (drive.version, content.key.hex()) == (DRIVE["version"], DRIVE["contentKey"])
        assert (content.length, content.byte_length) == (DRIVE["contentLength"], DRIVE["contentByteLength"])


async def test_the_tag_names_its_version(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await (await store.drive(KEY)).snapshot().tags() == DRIVE["tag"]
        tagged = await store.drive(f"hyper://{KEY}+v1")
        assert tagged.version == DRIVE["tag"]["v1"]


async def test_the_inner_drive_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        entry = await (await store.drive(KEY)).snapshot().stat("sub/mount")
        assert entry.mount == MountTarget(bytes.fromhex(DRIVE["innerKey"]))


async def test_the_attribute_is_there_in_the_version_that_had_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        stat = (await (await store.drive(KEY, version=8)).snapshot().stat("README.md")).stat
        assert stat.present_attributes == {"user.note": b"kept"}


async def test_all_of_it_is_here(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        found = await hyperfs.usage((await store.drive(KEY)).snapshot())
        assert (found.metadata.is_complete, found.content.is_complete) == (True, True)
        assert found.files is not None
        assert found.files.local_size == found.files.size


async def test_the_drive_can_be_written_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        drive = await store.drive(KEY)
        await (await store.writer(drive)).put_file("new", b"ours")
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.drive(KEY)
        assert drive.version == DRIVE["version"] + 1
        assert await content_of(drive.snapshot(), "new") == b"ours"
        assert await content_of(drive.snapshot(), "README.md")
