"""A reader's store with damaged files: what peers can bring again is brought again, the rest is told by name."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.commands import Hyperfs, hyperfs_in
from ..support.patterns import pattern

NAMES = [f"file-{number}" for number in range(20)]
READ = NAMES[::3]
BYTES = 30_000


@dataclass(frozen=True, slots=True)
class Copies:
    """A store that nobody uses, in which some of a drive's files were read, and a peer that has all of them."""

    store: Path
    key: str
    address: str


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copies]:
    directory = tmp_path_factory.mktemp("copies")
    folder = directory / "folder"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(pattern(name, BYTES))
    with hyperfs_in(directory, "writer") as writer, hyperfs_in(directory, "reader") as reader:
        key = writer.imported(folder)
        (address,) = writer.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
        assert reader.run("cat", key, *READ, "--peer", address).stdout == contents(READ)
        reader("stop")
        yield Copies(directory / "reader", key, address)


def contents(names: list[str]) -> bytes:
    return b"".join(pattern(name, BYTES) for name in names)


@pytest.fixture
def damaged(copies: Copies, tmp_path: Path) -> Iterator[Hyperfs]:
    shutil.copytree(copies.store, tmp_path / "store", symlinks=True)
    with hyperfs_in(tmp_path) as hyperfs:
        yield hyperfs
        assert "Traceback" not in hyperfs.log


def harm(store: Path, name: str, kind: str) -> None:
    """Damage the files ``name`` of all cores."""
    chance = random.Random(f"{name} {kind}")
    for path in sorted(store.glob(f"??/??/*/{name}")):
        content = bytearray(path.read_bytes())
        if kind == "truncated":
            del content[len(content) // 2 :]
        elif kind == "empty":
            content.clear()
        else:
            for _ in range(8):
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)


@pytest.mark.parametrize("kind", ["truncated", "empty", "flipped"])
@pytest.mark.parametrize("name", ["key", "tree", "signatures", "bitfield"])
def test_a_damaged_file_is_healed_or_told_by_name(damaged: Hyperfs, copies: Copies, name: str, kind: str) -> None:
    harm(damaged.store, name, kind)
    done = damaged.run("cat", copies.key, *NAMES, "--peer", copies.address, "--timeout", "30")
    words = done.stderr.decode()
    assert "Traceback" not in words
    if done.returncode == 0:
        assert done.stdout == contents(NAMES)
    else:
        assert done.returncode == 1
        assert str(damaged.store) in words or "core " in words
        assert "no peer" not in words


def test_content_that_was_cut_off_is_told_by_name(damaged: Hyperfs, copies: Copies) -> None:
    harm(damaged.store, "data", "truncated")
    done = damaged.run("cat", copies.key, *READ, "--peer", copies.address, "--timeout", "30")
    assert done.stdout == contents(READ) or "data" in done.stderr.decode()


@pytest.mark.parametrize("name", ["daemon.json", "lock"])
def test_what_dead_processes_left_is_no_obstacle(damaged: Hyperfs, copies: Copies, name: str) -> None:
    (damaged.store / ".hyperfs" / name).write_bytes(b"\xff{")
    assert damaged.run("cat", copies.key, *READ).stdout == contents(READ)


def test_a_state_that_is_none_is_told_by_name(damaged: Hyperfs, copies: Copies) -> None:
    (damaged.store / ".hyperfs/state.json").write_bytes(b'{"served": 7')
    assert "state.json" in damaged.fails("ls", copies.key)


def test_a_master_key_that_was_cut_off_is_told_by_name(damaged: Hyperfs, copies: Copies) -> None:
    (damaged.store / "master_key").write_bytes(b"short")
    assert "master_key is cut short" in damaged.fails("ls", copies.key)
