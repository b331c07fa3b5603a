"""Opening a core: where its files are, whose it is, and what is refused."""

from pathlib import Path

import pytest
import trio
import trio.testing

import hyperfs
from hyperfs.core.core import Core
from hyperfs.crypto import key_pair
from hyperfs.errors import BlockNotAvailable, Closed, InvalidKey, NotWritable, StoreLocked, UsageError
from hyperfs.library.storages import erase
from hyperfs.storage import DiskDirectory
from tests.support.own_files import OwnFiles

KEYS = key_pair(b"opened".ljust(32))


async def test_a_core_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    async with hyperfs.open_core(tmp_path / "core") as core:
        key = core.key
        assert await core.append(b"first") == 0
    async with hyperfs.open_core(str(tmp_path / "core")) as core:
        assert (core.key, core.length, core.writable) == (key, 1, True)
        assert await core.append([b"second", b"third"]) == 1
        assert await core.get(2) == b"third"


async def test_memory_keeps_a_core_as_long_as_it_is_kept() -> None:
    storage = hyperfs.memory()
    async with hyperfs.open_core(storage) as core:
        await core.append(b"kept")
        key = core.key
    async with hyperfs.open_core(storage) as core:
        assert (core.key, await core.get(0)) == (key, b"kept")


async def test_a_program_brings_its_own_files() -> None:
    files = OwnFiles()
    async with hyperfs.open_core(files.open) as core:
        await core.append([b"one", b"two"])
        await core.clear(0)
    assert set(files.contents) == {"data", "bitfield", "tree", "signatures", "key", "secret_key"}
    assert files.open_count == 0
    assert files.contents["data"] == b"\0\0\0two"
    async with hyperfs.open_core(files.open, create_if_missing=False) as core:
        assert (core.key, core.has(0), await core.get(1)) == (bytes(files.contents["key"]), False, b"two")


async def test_the_secret_key_can_lie_elsewhere() -> None:
    public, secret = OwnFiles(), OwnFiles()
    async with hyperfs.open_core(lambda name: (secret if name == "secret_key" else public).open(name)) as core:
        await core.append(b"x")
    assert list(secret.contents) == ["secret_key"]
    async with hyperfs.open_core(public.open) as core:
        assert not core.writable
        with pytest.raises(NotWritable):
            await core.append(b"y")


async def test_the_secret_key_need_not_be_stored() -> None:
    storage = hyperfs.memory()
    async with hyperfs.open_core(storage, key_pair=KEYS, store_secret_key=False) as core:
        assert (core.key, core.secret_key, core.writable) == (KEYS.public, KEYS.secret, True)
    assert not storage.exists("secret_key")
    async with hyperfs.open_core(storage) as core:
        assert not core.writable
    async with hyperfs.open_core(storage, key_pair=KEYS) as core:
        assert core.writable


async def test_a_key_alone_opens_somebody_elses_core() -> None:
    async with hyperfs.open_core(hyperfs.memory(), KEYS.public.hex()) as core:
        assert (core.key, core.writable, core.length, core.byte_length) == (KEYS.public, False, 0, 0)
        assert core.readable
        with pytest.raises(BlockNotAvailable, match="empty"):
            await core.head()


async def test_another_core_than_the_one_that_is_there_is_refused() -> None:
    storage = hyperfs.memory()
    async with hyperfs.open_core(storage):
        pass
    with pytest.raises(InvalidKey, match="holds core"):
        async with hyperfs.open_core(storage, KEYS.public):
            pass


@pytest.mark.parametrize("key", ["hello", bytes(31)])
async def test_what_is_no_key_is_refused(key: str | bytes) -> None:
    with pytest.raises(InvalidKey):
        async with hyperfs.open_core(hyperfs.memory(), key):
            pass


async def test_no_core_is_made_where_none_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match="no core is stored"):
        async with hyperfs.open_core(tmp_path / "core", create_if_missing=False):
            pass


async def test_a_core_is_overwritten(tmp_path: Path) -> None:
    async with hyperfs.open_core(tmp_path) as core:
        await core.append([b"a", b"b"])
        old = core.key
    async with hyperfs.open_core(tmp_path, overwrite=True) as core:
        assert core.key != old
        assert (core.length, core.byte_length, core.has(0), core.writable) == (0, 0, False, True)
        await core.append(b"new")
    async with hyperfs.open_core(tmp_path) as core:
        assert (core.length, await core.get(0)) == (1, b"new")


async def test_a_core_is_overwritten_by_somebody_elses() -> None:
    storage = hyperfs.memory()
    async with hyperfs.open_core(storage) as core:
        await core.append(b"mine")
    async with hyperfs.open_core(storage, KEYS.public, overwrite=True) as core:
        assert (core.key, core.writable, core.length) == (KEYS.public, False, 0)


async def test_a_core_that_is_open_is_not_overwritten(tmp_path: Path) -> None:
    async with hyperfs.open_core(tmp_path) as core:
        await core.append(b"mine")
        with pytest.raises(StoreLocked):
            async with hyperfs.open_core(tmp_path, overwrite=True):
                pass
    async with hyperfs.open_core(tmp_path) as core:
        assert await core.get(0) == b"mine"


async def test_a_core_has_one_owner(tmp_path: Path) -> None:
    async with hyperfs.open_core(tmp_path):
        with pytest.raises(StoreLocked):
            async with hyperfs.open_core(tmp_path):
                pass


async def test_the_folder_of_a_store_is_not_taken_for_that_of_a_core(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store"):
        pass
    with pytest.raises(UsageError, match="store of many cores"):
        async with hyperfs.open_core(tmp_path / "store"):
            pass


async def test_what_was_appended_outlives_its_process(tmp_path: Path) -> None:
    async with hyperfs.open_core(tmp_path) as opened:
        await opened.sync()
        await opened.append(b"not on the disk yet")
        opened.core.close_without_sync()
    async with hyperfs.open_core(tmp_path) as opened:
        assert await opened.get(0) == b"not on the disk yet"


async def test_it_is_the_core_that_stores_have(tmp_path: Path) -> None:
    async with hyperfs.open_core(tmp_path, key_pair=KEYS) as core:
        await core.append([b"a", b"b"])
    plain = await Core.open(DiskDirectory(tmp_path))
    try:
        assert (plain.key, plain.length, await plain.get(1)) == (KEYS.public, 2, b"b")
    finally:
        await plain.close()


async def test_files_are_erased(tmp_path: Path) -> None:
    for storage in (DiskDirectory(tmp_path / "core"), hyperfs.memory()):
        async with hyperfs.open_core(storage) as core:
            await core.append(b"a")
            old = core.key
        erase(storage)
        async with hyperfs.open_core(storage) as core:
            assert core.key != old
            assert core.length == 0


async def test_who_waits_when_it_is_closed_is_told() -> None:
    raised: list[str] = []

    async def wait(core: hyperfs.OpenCore, name: str) -> None:
        try:
            if name == "get":
                await core.get(0)
            elif name == "update":
                await core.update()
            elif name == "seek":
                await core.seek(1)
            else:
                await core.read_stream(live=True).receive()
        except Closed:
            raised.append(name)

    async with trio.open_nursery() as nursery, hyperfs.open_core(hyperfs.memory()) as core:
        for name in ("get", "update", "seek", "stream"):
            nursery.start_soon(wait, core, name)
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(raised) == ["get", "seek", "stream", "update"]
    assert (core.readable, core.writable, core.closed) == (False, False, True)
    with pytest.raises(Closed):
        await core.get(0)
    with pytest.raises(Closed):
        await core.read_stream(live=True).receive()


async def test_an_error_of_the_programs_own_comes_out_as_it_is() -> None:
    group = ExceptionGroup("two", [ValueError("a"), KeyError("b")])
    with pytest.raises(ExceptionGroup) as caught:
        async with hyperfs.open_core(hyperfs.memory()):
            raise group
    assert caught.value is group
