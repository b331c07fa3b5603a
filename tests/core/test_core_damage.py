"""Files that cannot be what hyperfs wrote: each is named, and what is wrong with it."""

from contextlib import suppress
from pathlib import Path

import pytest

from hyperfs.core.bitfield import BLOCK_BYTES
from hyperfs.core.core import Core
from hyperfs.core.sleep import HEADER_BYTES
from hyperfs.core.store import Store
from hyperfs.errors import DamagedStore, HyperfsError, InvalidKey
from hyperfs.storage import DiskDirectory, MemoryDirectory
from tests.support import vectors
from tests.support.cores import KEYS, CoreSource, bring, reader, writer

HEADERS = ["bitfield", "tree", "signatures"]


def damaged(tmp_path: Path, name: str, case: str = "core-9000") -> tuple[Path, bytearray]:
    folder = vectors.copy_store(case, tmp_path / "core")
    return folder / name, bytearray((folder / name).read_bytes())


async def refused(file: Path, message: str) -> None:
    with pytest.raises(DamagedStore, match=message) as caught:
        await Core.open(DiskDirectory(file.parent))
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", HEADERS)
async def test_a_header_cut_short_is_named(name: str, tmp_path: Path) -> None:
    file, content = damaged(tmp_path, name)
    file.write_bytes(content[:20])
    await refused(file, "cut short")


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("at", [0, 2, 3, 4])
async def test_another_kind_of_header_is_named(name: str, at: int, tmp_path: Path) -> None:
    file, content = damaged(tmp_path, name)
    content[at] ^= 0x40
    file.write_bytes(content)
    await refused(file, "does not begin as")


@pytest.mark.parametrize("name", HEADERS)
async def test_another_entry_size_is_named(name: str, tmp_path: Path) -> None:
    file, content = damaged(tmp_path, name)
    content[5] ^= 0x40
    file.write_bytes(content)
    await refused(file, "states")


@pytest.mark.parametrize("name", ["key", "secret_key"])
async def test_a_key_cut_short_is_named(name: str, tmp_path: Path) -> None:
    file, content = damaged(tmp_path, name)
    file.write_bytes(content[:-1])
    await refused(file, "cut short")


@pytest.mark.parametrize("name", ["key", "secret_key"])
async def test_keys_that_do_not_belong_together_are_named(name: str, tmp_path: Path) -> None:
    file, content = damaged(tmp_path, name)
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedStore, match="secret_key is not the secret key"):
        await Core.open(DiskDirectory(file.parent))


@pytest.mark.parametrize("name", ["tree", "signatures"])
async def test_a_file_cut_to_its_header_is_named(name: str, tmp_path: Path) -> None:
    file, content = damaged(tmp_path, name)
    file.write_bytes(content[:32])
    await refused(file, "no signed roots")


async def test_data_cut_short_is_named(tmp_path: Path) -> None:
    file, content = damaged(tmp_path, "data")
    file.write_bytes(content[:-1])
    await refused(file, "cut short")


async def test_a_flipped_signature_is_named(tmp_path: Path) -> None:
    file, content = damaged(tmp_path, "signatures")
    content[-40] ^= 1
    file.write_bytes(content)
    await refused(file, "not that of the roots")


async def test_a_flipped_root_is_named(tmp_path: Path) -> None:
    file, content = damaged(tmp_path, "tree")
    content[32 + 40 * 8191] ^= 1
    file.write_bytes(content)
    await refused(file, "not that of the roots")


async def test_a_flipped_bit_in_the_data_is_found_by_an_audit(tmp_path: Path) -> None:
    file, content = damaged(tmp_path, "data")
    content[0] ^= 1
    file.write_bytes(content)
    core = await Core.open(DiskDirectory(file.parent))
    assert await core.audit() == [0]
    assert not core.has(0, 1)
    await core.close()


async def test_a_flipped_node_is_found_by_an_audit(tmp_path: Path) -> None:
    file, content = damaged(tmp_path, "tree")
    content[32 + 40 * 5] ^= 1
    file.write_bytes(content)
    core = await Core.open(DiskDirectory(file.parent))
    with pytest.raises(DamagedStore, match="node 5 is not the hash"):
        await core.audit()
    await core.close()


async def test_a_node_that_went_missing_is_named_when_it_is_read(tmp_path: Path) -> None:
    file, content = damaged(tmp_path, "tree")
    content[32 + 40 * 2 : 32 + 40 * 3] = bytes(40)
    file.write_bytes(content)
    core = await Core.open(DiskDirectory(file.parent))
    with pytest.raises(DamagedStore, match="lacks node 2"):
        await core.proof(0)
    await core.close()


async def test_a_readers_bitfield_cut_short_leaves_the_signed_length_and_what_still_verifies(tmp_path: Path) -> None:
    file, content = damaged(tmp_path, "bitfield", "core-mixed")
    (file.parent / "secret_key").unlink()
    file.write_bytes(content[: 32 + 1024 + 5])
    core = await Core.open(DiskDirectory(file.parent))
    assert core.length == 37
    assert 0 < core.count(0, core.length) < core.length
    assert await core.audit() == []
    await core.close()


@pytest.mark.parametrize(
    ("case", "size"),
    [
        *(("core-mixed", size) for size in (0, 32, 40, 32 + 1024, 32 + 1024 + 5, 32 + 3584)),
        ("core-9000", 32 + 1024 + 5),
    ],
)
async def test_a_writers_bitfield_cut_short_is_made_again(case: str, size: int, tmp_path: Path) -> None:
    file, content = damaged(tmp_path, "bitfield", case)
    file.write_bytes(content[:size])
    core = await Core.open(DiskDirectory(file.parent))
    assert core.byte_length == (file.parent / "data").stat().st_size
    assert await core.audit() == []
    assert core.has(core.length - 8, core.length)
    await core.close()


@pytest.mark.parametrize("name", ["bitfield", "tree", "signatures", "data"])
@pytest.mark.parametrize("case", ["core-mixed", "core-9000-sparse"])
async def test_cut_anywhere_a_core_is_refused_or_whole(case: str, name: str, tmp_path: Path) -> None:
    file, content = damaged(tmp_path, name, case)
    original = {f.name: f.read_bytes() for f in file.parent.iterdir()}
    for position in range(0, len(content), max(1, len(content) // 25)):
        for other, kept in original.items():
            (file.parent / other).write_bytes(kept)
        file.write_bytes(content[:position])
        with suppress(DamagedStore):
            core = await Core.open(DiskDirectory(file.parent))
            try:
                await core.audit()
                for index in range(core.length):
                    core.get_local(index)
            finally:
                await core.close()


async def test_the_files_of_another_core_are_refused(tmp_path: Path) -> None:
    file, _ = damaged(tmp_path, "key")
    with pytest.raises(InvalidKey, match="holds core"):
        await Core.open(DiskDirectory(file.parent), key=KEYS.public)


async def test_an_empty_folder_without_a_key_is_no_core(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match="no core is stored"):
        await Core.open(DiskDirectory(tmp_path))


async def test_a_master_key_cut_short_is_named(tmp_path: Path) -> None:
    store = vectors.copy_store("drive", tmp_path / "store")
    (store / "master_key").write_bytes(b"short")
    with pytest.raises(DamagedStore, match="master_key is cut short"):
        await Store.open(store)


async def test_a_lost_master_key_is_not_made_anew(tmp_path: Path) -> None:
    store = vectors.copy_store("drive", tmp_path / "store")
    (store / "master_key").unlink()
    with pytest.raises(DamagedStore, match="master_key is missing"):
        await Store.open(store)


async def test_a_wrong_name_is_refused(tmp_path: Path) -> None:
    folder = vectors.copy_store("drive", tmp_path / "store")
    name = next(folder.glob("*/*/*/name"))
    key = (name.parent / "key").read_bytes()
    name.write_bytes(b"\x03abc")
    async with await Store.open(folder) as store:
        with pytest.raises(HyperfsError, match="does not name core"):
            await store.core(key)


async def test_a_last_block_that_is_empty_needs_no_bytes() -> None:
    directory = MemoryDirectory()
    source, target = await writer([b"x", b""]), await reader(directory=directory)
    await bring(source, target, [1])
    await target.close()
    again = await reader(directory=directory)
    assert (again.length, again.get_local(1)) == (2, b"")


async def test_an_empty_block_that_was_cleared_stays_cleared() -> None:
    directory = MemoryDirectory()
    core = await writer([b""], directory=directory)
    await core.clear(0, 1)
    await core.close()
    assert not (await writer(directory=directory)).has(0, 1)


async def torn(node: int) -> tuple[Core, Core]:
    """A core of eleven blocks, and a reader of blocks 2 and 10 whose bitfield has lost one node, as in a torn page."""
    directory = MemoryDirectory()
    source, target = await writer([b"block %d" % index for index in range(11)]), await reader(directory=directory)
    await bring(source, target, [10, 2])
    await target.close()
    directory.files["bitfield"].data[HEADER_BYTES + BLOCK_BYTES + node // 8] &= ~(128 >> node % 8) & 0xFF
    return source, await reader(directory=directory)


@pytest.mark.parametrize("node", [4, 1], ids=["the leaf", "what lies left of it"])
async def test_a_block_whose_nodes_a_torn_page_lacks_is_fetched_again(node: int) -> None:
    source, again = await torn(node)
    assert [again.has(index, index + 1) for index in (2, 10)] == [False, True]
    assert await again.audit() == []
    again.source = CoreSource(source, again)
    assert await again.get(2) == b"block 2"


@pytest.mark.parametrize("root", [7, 17, 20])
async def test_a_root_that_a_torn_page_lacks_is_known_by_the_signature(root: int) -> None:
    _, again = await torn(root)
    assert again.length == 11
    assert [await again.get(index) for index in (2, 10)] == [b"block 2", b"block 10"]


@pytest.mark.parametrize("sector", range(7))
async def test_a_sector_of_our_bitfield_that_a_power_cut_left_out_is_made_again(sector: int) -> None:
    directory = MemoryDirectory()
    core = await writer([b"block %d" % index for index in range(6000)], directory=directory)
    await core.close()
    bits = directory.files["bitfield"].data
    start, end = max(HEADER_BYTES, 512 * sector), 512 * (sector + 1)
    bits[start:end] = bytes(end - start)
    again = await writer(directory=directory)
    assert (again.length, again.count(0, 6000)) == (6000, 6000)
    assert await again.audit() == []
    target = await reader()
    await bring(again, target, range(0, 6000, 311))
