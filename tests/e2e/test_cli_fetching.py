"""A drive is brought here on purpose, once or for good, and what is at work can be watched: in real processes."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.commands import Hyperfs, eventually, hyperfs_in

MIB = 1 << 20


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fetching")


@pytest.fixture(scope="module")
def source(directory: Path) -> Path:
    source = directory / "source"
    (source / "films").mkdir(parents=True)
    (source / "films/one").write_bytes(os.urandom(2 * MIB))
    (source / "films/two").write_bytes(os.urandom(MIB))
    (source / "text").write_bytes(b"text")
    return source


@pytest.fixture(scope="module")
def own(directory: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(directory, "own") as commands:
        yield commands


@pytest.fixture(scope="module")
def key(own: Hyperfs, source: Path) -> str:
    return own.imported(source)


@pytest.fixture(scope="module")
def peer(own: Hyperfs, key: str) -> str:
    """Where ``own`` serves the drive."""
    return str(own.json("serve", key, "--listen", "127.0.0.1:0")["listening"][0])


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path, "other") as commands:
        yield commands


def drive_at(hyperfs: Hyperfs, key: str) -> dict[str, Any]:
    """Return what a daemon tells of a drive at work."""
    return next((drive for drive in hyperfs.json("status")["drives"] if drive["key"] == key), {"blocks": None})


def is_whole(hyperfs: Hyperfs, key: str, version: int) -> bool:
    drive = drive_at(hyperfs, key)
    return drive["blocks"] is not None and drive["version"] == version and drive["blocks_here"] == drive["blocks"]


def test_a_download_brings_the_paths_that_are_named_and_then_the_rest(
    other: Hyperfs, key: str, peer: str, source: Path, tmp_path: Path
) -> None:
    first = other.json("download", key, "films/two", "text", "--peer", peer)
    assert (first["files"], first["bytes"], first["complete"]) == (2, MIB + 4, True)
    assert first["bytes_fetched"] == MIB + 4
    rest = other.json("download", key, "--peer", peer)
    assert (rest["files"], rest["bytes"], rest["complete"]) == (3, 3 * MIB + 4, True)
    assert rest["bytes_fetched"] < rest["bytes"]
    assert other.json("download", key, "--peer", peer)["bytes_fetched"] == 0
    other("stop")
    other("export", key, tmp_path / "copy")  # nobody is asked
    subprocess.run(["diff", "-r", source, tmp_path / "copy"], check=True)


def test_a_download_of_what_nobody_sends_fails_and_says_so(other: Hyperfs, key: str, peer: str) -> None:
    other("ls", "-R", key, "--peer", peer)
    other("stop")
    state = other.store / ".hyperfs/state.json"  # in which the peer is remembered
    state.write_text(json.dumps(json.loads(state.read_text()) | {"acquaintances": {}}))
    words = other.fails("download", key, "films", "--timeout", "1")
    assert "not all of it came: no peer is known" in words


def test_a_pinned_drive_is_kept_whole_with_its_new_versions_until_it_is_unpinned(
    other: Hyperfs, own: Hyperfs, key: str, peer: str, source: Path
) -> None:
    other("pin", key, "--peer", peer)
    eventually(lambda: is_whole(other, key, 5))
    assert "unpin" in other.fails("clear", key, status=2)
    assert "unpin" in other.fails("unserve", key, status=2)
    (source / "new").write_bytes(os.urandom(MIB))
    own("import", source, key)
    eventually(lambda: is_whole(other, key, 6))
    other.kill_daemon()
    (source / "newer").write_bytes(os.urandom(MIB))
    own("import", source, key)
    assert f"{key} pinned" in other("status")  # what the next daemon does
    other("cache", "--limit", "0")
    eventually(lambda: is_whole(other, key, 7))
    other("unpin", key)
    assert [drive["key"] for drive in other.json("cache")["drives"]] == [key]  # it counts again
    assert (other.json("status")["pinned"], other.json("status")["serving"]) == ([], [])


def test_what_is_at_work_is_watched(own: Hyperfs, key: str, peer: str) -> None:
    with own.start("status", "--watch", "--json") as watching:
        assert watching.stdout is not None
        for _ in range(2):
            told = json.loads(watching.stdout.readline())
            assert [drive["key"] for drive in told["drives"]] == [key]
            assert told["peers"] == []
        watching.terminate()
    with own.start("status", "--watch") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().decode().startswith(key)
        watching.terminate()
