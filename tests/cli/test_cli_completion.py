"""What a shell is offered for drives and for mounted folders."""

import json
from pathlib import Path

import pytest
import trio
from click.shell_completion import ShellComplete

from hyperfs.cli.main import cli
from hyperfs.core.store import core_folder
from hyperfs.drive.library import open_store

NAMED = "ab" * 32
SERVED = "ac" * 32
ON_DISK = "ad" * 32
CONTENT = "ae" * 32
MOUNT = {
    "id": "f0",
    "key": SERVED,
    "version": None,
    "mountpoint": "/mnt/photos",
    "label": SERVED,
    "options": {},
    "peers": [],
}


@pytest.fixture(autouse=True)
def store(without_settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store that the environment names: a drive with a name, one that is mounted, one that is only there."""
    store = tmp_path / "store"
    for key, first in {ON_DISK: b"\n\x09hypertrie\x12\x20" + b"k" * 32, CONTENT: b"what a file holds"}.items():
        folder = core_folder(store, bytes.fromhex(key))
        folder.mkdir(parents=True)
        (folder / "key").write_bytes(bytes.fromhex(key))
        (folder / "data").write_bytes(first)
    (store / ".hyperfs").mkdir()
    state = {"format": 1, "mounts": [MOUNT], "names": {"holidays": NAMED, "home": ON_DISK}}
    (store / ".hyperfs/state.json").write_text(json.dumps(state))
    monkeypatch.setenv("HYPERFS_STORE", str(store))
    return store


def offered(*words: str) -> list[str]:
    *before, incomplete = words
    return [item.value for item in ShellComplete(cli, {}, "hyperfs", "_").get_completions(list(before), incomplete)]


def test_a_drive_is_offered_by_its_name_and_by_its_key_when_it_has_none() -> None:
    assert offered("ls", "") == ["holidays", "home", SERVED]
    assert offered("ls", "ho") == ["holidays", "home"]


def test_a_key_that_was_begun_is_offered_whole() -> None:
    assert offered("cat", "ab") == [NAMED]
    assert offered("info", "AD") == [ON_DISK]


def test_what_is_no_drive_is_not_offered() -> None:
    assert offered("ls", "ae") == []


def test_folders_that_are_mounted_are_offered_for_umount() -> None:
    assert offered("umount", "") == ["/mnt/photos"]
    assert offered("umount", "/srv") == []


@pytest.mark.parametrize("before", [("--store", "{}", "ls"), ("ls", "--store", "{}")])
def test_the_store_that_is_named_is_looked_at(before: tuple[str, ...], store: Path, tmp_path: Path) -> None:
    assert offered(*(word.format(tmp_path / "nowhere") for word in before), "") == []
    assert not (tmp_path / "nowhere").exists()
    assert offered(*(word.format(store) for word in before), "hol") == ["holidays"]


def test_a_store_that_cannot_be_read_offers_nothing(store: Path) -> None:
    (store / ".hyperfs/state.json").write_text("{")
    assert offered("ls", "") == []
    assert offered("umount", "") == []


def test_behind_a_plus_sign_the_drives_tags_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"

    async def make() -> str:
        async with open_store(own) as opened:
            drive = await opened.create_drive()
            writer = await opened.writer(drive)
            for tag in ("v1", "v2", "old"):
                await writer.tag(tag, 1)
            return drive.key.hex()

    key = trio.run(make)
    (own / ".hyperfs").mkdir(exist_ok=True)
    (own / ".hyperfs/state.json").write_text(json.dumps({"format": 1, "names": {"holidays": key}}))
    monkeypatch.setenv("HYPERFS_STORE", str(own))
    assert offered("ls", "holidays+") == ["holidays+old", "holidays+v1", "holidays+v2"]
    assert offered("ls", f"{key}+v") == [f"{key}+v1", f"{key}+v2"]
    assert offered("unserve", "holidays+") == []
    assert offered("ls", "unknown+") == []
