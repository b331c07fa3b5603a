"""Only what is read is fetched: of a drive of one gibibyte, one file, and hardly more."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from hyperfs.core.reserve import RESERVE_BYTES

from ..support.commands import Hyperfs, eventually, hyperfs_in
from ..support.patterns import pattern
from ..support.zeros import File, make_zeros

GIBIBYTE = 1 << 30
MEBIBYTE = 1 << 20
ALLOWED = 2 * MEBIBYTE
"""What may be fetched beside the blocks that were read and the metadata on the way."""
FILLERS = 16
FOLDERS, FILES_IN_EACH = 40, 50


@dataclass(frozen=True, slots=True)
class Sparse:
    """A reader's store that has mounted a drive at ``folder`` and read the file ``wanted`` in it."""

    source: Hyperfs
    reader: Hyperfs
    key: str
    folder: Path
    mounted_bytes: int
    read_bytes: int


def disk_bytes(directory: Path) -> int:
    """Return what the files below a directory take on the disk, holes left out."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())


def core_bytes(store: Path) -> int:
    """Return what the blocks of a store take on the disk, without bitfields and trees, which no peer sent whole."""
    return sum(file.stat().st_blocks * 512 for file in store.glob("??/??/*/data"))


def downloaded(hyperfs: Hyperfs) -> int:
    return sum(peer["downloaded_bytes"] for peer in hyperfs.json("status")["peers"])


@pytest.fixture(scope="module", params=[4 * MEBIBYTE, MEBIBYTE // 16], ids=["blocks of 4 MiB", "blocks of 64 KiB"])
def sparse(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sparse]:
    directory = tmp_path_factory.mktemp("sparse")
    block_bytes: int = request.param
    files = [File(f"filler/{number}", blocks=GIBIBYTE // FILLERS // block_bytes) for number in range(FILLERS)]
    files += [
        File(f"folder-{folder}/file-{number}", content=b"small")
        for folder in range(FOLDERS)
        for number in range(FILES_IN_EACH)
    ]
    files.insert(FILLERS // 2, File("data/wanted", blocks=max(1, MEBIBYTE // block_bytes)))
    files.append(File("data/text", content=pattern("text", 1000)))
    key = trio.run(lambda: make_zeros(directory / "source", files, block_bytes=block_bytes))
    folder = directory / "mnt"
    folder.mkdir()
    with hyperfs_in(directory, "source") as source, hyperfs_in(directory, "reader") as reader:
        (address,) = source.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
        reader("mount", key, folder, "--peer", address)
        mounted_bytes = downloaded(reader)
        with (folder / "data/wanted").open("rb") as file:
            assert file.read(MEBIBYTE) == bytes(MEBIBYTE)
        yield Sparse(source, reader, key, folder, mounted_bytes, downloaded(reader))


def wanted_bytes(sparse: Sparse) -> int:
    return int((sparse.folder / "data/wanted").stat().st_size)


def test_mounting_fetches_next_to_nothing(sparse: Sparse) -> None:
    assert sparse.mounted_bytes < 64 * 1024


def test_reading_a_file_fetches_its_blocks_and_little_else(sparse: Sparse) -> None:
    assert wanted_bytes(sparse) <= sparse.read_bytes < wanted_bytes(sparse) + ALLOWED


def test_the_disk_holds_the_blocks_that_were_read_and_little_else(sparse: Sparse) -> None:
    assert core_bytes(sparse.reader.store) <= wanted_bytes(sparse) + ALLOWED
    # Beside them, once for all drives, is what the store keeps back for when the disk is full.
    assert disk_bytes(sparse.reader.store) - RESERVE_BYTES <= wanted_bytes(sparse) + ALLOWED


def test_info_tells_how_much_is_here(sparse: Sparse) -> None:
    told: dict[str, Any] = sparse.reader.json("info", sparse.key)
    blocks = sparse.reader.json("stat", sparse.key, "data/wanted")["blocks"]
    assert told["content"]["bytes"] >= GIBIBYTE
    assert blocks <= told["content"]["blocks_here"] <= blocks + ALLOWED // (wanted_bytes(sparse) // blocks)
    assert told["metadata"]["blocks_here"] < told["metadata"]["blocks"] // 2


def test_df_tells_the_size_of_all_of_it(tmp_path: Path, sparse: Sparse) -> None:
    folder = tmp_path / "mnt"
    folder.mkdir()
    (address,) = sparse.source.json("status")["listening"]
    with hyperfs_in(tmp_path) as reader:
        reader("mount", sparse.key, folder, "--peer", address)
        answer = os.statvfs(folder)
        assert answer.f_frsize * answer.f_blocks >= GIBIBYTE
        assert downloaded(reader) < 64 * 1024


def test_a_walk_fetches_no_content(sparse: Sparse) -> None:
    before = sparse.reader.json("info", sparse.key)["content"]["blocks_here"]
    assert sum(1 for found in sparse.folder.rglob("*") if found.is_file()) == FILLERS + FOLDERS * FILES_IN_EACH + 2
    told = sparse.reader.json("info", sparse.key)
    assert told["content"]["blocks_here"] == before
    assert told["files"]["count"] == FILLERS + FOLDERS * FILES_IN_EACH + 2
    assert told["files"]["here"] == 1


def test_without_any_peer_it_is_served_from_the_store(sparse: Sparse) -> None:
    sparse.source("unserve", sparse.key)
    sparse.source("stop")
    eventually(lambda: sparse.reader.json("status")["peers"] == [])
    assert (sparse.folder / "data/wanted").read_bytes()[:MEBIBYTE] == bytes(MEBIBYTE)
    sparse.reader("umount", sparse.folder)
    sparse.reader("stop")
    sparse.reader("mount", sparse.key, sparse.folder, "--timeout", "1")
    assert (sparse.folder / "data/wanted").read_bytes()[:MEBIBYTE] == bytes(MEBIBYTE)
    with pytest.raises(OSError, match="Input/output error"):
        (sparse.folder / "data/text").read_bytes()
