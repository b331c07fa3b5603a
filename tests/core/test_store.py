"""The store of many cores."""

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from hyperfs.core.core import Core
from hyperfs.core.flushing import FLUSH_DELAY_SECONDS
from hyperfs.core.pool import MAX_IDLE_CORES
from hyperfs.core.shared_map import SharedMapWriter
from hyperfs.core.store import Store, run_store
from hyperfs.core.view import CoreView
from hyperfs.errors import Closed, StoreLocked, UsageError
from hyperfs.storage import DiskDirectory
from hyperfs.storage.disk import DiskFile
from tests.support.clocks import settled
from tests.support.cores import KEYS, bring, writer


def fail_with(code: int) -> Callable[..., NoReturn]:
    """Return a method that fails as the kernel does."""

    def fail(*_: object) -> NoReturn:
        raise OSError(code, "the disk cannot")

    return fail


def written(store: Path, name: str) -> list[Path]:
    return list(store.glob(f"*/*/*/{name}"))


async def test_a_core_made_by_name_is_found_again(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core = await store.create_core(b"default")
        await core.append([b"a"])
        key = core.key
    async with run_store(tmp_path) as store:
        again = await store.core(key)
        assert (again.writable, again.get_local(0)) == (True, b"a")
        assert await store.create_core(b"default") is again


async def test_there_is_one_object_a_key(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        found = []

        async def find() -> None:
            found.append(await store.core(KEYS.public))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(find)
        assert len(set(found)) == 1


async def test_a_key_alone_makes_a_reader(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        assert not (await store.core(KEYS.public)).writable


async def test_what_peers_send_is_kept_only_while_there_is_a_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await writer([b"a", b"b"])
    async with run_store(tmp_path) as store:
        core = await store.core(KEYS.public)
        await bring(source, core, [0])
        assert store.reserve.stands
        await store.reserve.give()
        monkeypatch.setattr(store.reserve, "_make", lambda: None)  # the disk has no room for another one
        with pytest.raises(OSError, match="No space left") as caught:
            await bring(source, core, [1])
        assert (caught.value.errno, core.has(0, 1), core.has(1, 2)) == (errno.ENOSPC, True, False)
        monkeypatch.undo()
        await bring(source, core, [1])
        assert core.has(0, 2)


async def test_a_reader_of_which_nothing_came_is_nowhere_on_the_disk(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    async with run_store(tmp_path / "store", maps=maps) as store:
        core = await store.core(KEYS.public)
        await core.sync()
        assert {path.name for path in (tmp_path / "store").iterdir()} == {".hyperfs", "master_key"}
        assert list(maps.iterdir()) == []
    assert {path.name for path in (tmp_path / "store").iterdir()} == {".hyperfs", "master_key"}


async def test_a_reader_is_on_the_disk_from_its_first_block_on(tmp_path: Path) -> None:
    source = await writer([b"a", b"b"])
    async with run_store(tmp_path) as store:
        core = await store.core(KEYS.public)
        await bring(source, core, [0])
        assert store.contains(KEYS.public)
        await bring(source, core, [1])
    async with run_store(tmp_path) as store:
        assert [(await store.core(KEYS.public)).get_local(index) for index in (0, 1)] == [b"a", b"b"]


async def test_a_reader_that_is_made_writable_is_on_the_disk(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        await store.adopt(KEYS.secret)
    async with run_store(tmp_path) as store:
        assert (await store.core(KEYS.public)).writable


@pytest.mark.parametrize("stale", [False, True], ids=["no map", "a map of what is gone"])
async def test_a_view_of_a_core_of_which_there_is_nothing_yet_sees_what_comes(tmp_path: Path, stale: bool) -> None:
    source = await writer([b"a", b"b"])
    async with run_store(tmp_path / "store", maps=tmp_path / "maps") as store:
        map_path = store.map_path(KEYS.public)
        assert map_path is not None
        if stale:
            gone = SharedMapWriter(map_path, KEYS.public)
            gone.set_blocks(0, 2)
            gone.close()
        core = await store.core(KEYS.public)
        view = CoreView(DiskDirectory(store.core_directory(core.key)), map_path, key=core.key, length=2, byte_length=2)
        assert view.get_local(1) is None
        await bring(source, core, [1])
        assert await view.get(1) == b"b"
        view.close()


async def test_a_disk_that_refuses_the_first_block_keeps_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await writer([b"a"])
    async with run_store(tmp_path) as store:
        core = await store.core(KEYS.public)
        with monkeypatch.context() as patch:
            patch.setattr(DiskFile, "sync", fail_with(errno.ENOSPC))
            with pytest.raises(OSError, match="cannot"):
                await bring(source, core, [0])
        assert not core.has(0, 1)
        await bring(source, core, [0])
        assert await core.get(0) == b"a"
    async with run_store(tmp_path) as store:
        assert (await store.core(KEYS.public)).get_local(0) == b"a"


def modes(path: Path) -> set[int]:
    """The permissions of everything in ``path``, and of itself."""
    return {file.lstat().st_mode & 0o777 for file in (path, *path.rglob("*"))}


async def written_store(path: Path) -> None:
    """Make a store with a core of ours and one of somebody else's."""
    source = await writer([b"a"])
    async with run_store(path, maps=path / ".hyperfs" / "maps") as store:
        await (await store.create_core(b"mine")).append([b"a"])
        await bring(source, await store.core(KEYS.public), [0])
        await (await store.core(KEYS.public)).fork_guard.note_signed(9)


async def test_a_store_is_its_owner_s_alone(tmp_path: Path) -> None:
    await written_store(tmp_path / "a" / "store")
    assert modes(tmp_path / "a") == {0o700, 0o600}


async def test_a_store_that_others_could_read_is_closed_to_them_by_its_next_opening(tmp_path: Path) -> None:
    path = tmp_path / "store"
    await written_store(path)
    for file in (*path.rglob("*"), path):
        file.chmod(0o755 if file.is_dir() else 0o644)
    async with run_store(path):
        pass
    assert path.stat().st_mode & 0o777 == 0o700
    assert not any(mode & 0o077 for found in path.glob("??") for mode in modes(found))


async def test_an_empty_core_of_ours_stays(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        key = (await store.create_core()).key
    async with run_store(tmp_path) as store:
        assert (await store.core(key)).writable


async def test_random_names_make_different_cores(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        assert (await store.create_core()).key != (await store.create_core()).key


async def test_all_cores_are_listed(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        made = {(await store.create_core()).key, KEYS.public}
        await bring(await writer([b"a"]), await store.core(KEYS.public), [0])
        assert set(store.keys()) == made
        assert store.contains(KEYS.public)
        assert not store.contains(bytes(32))


async def test_no_secret_key_is_written(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        await store.create_core(b"default")
    assert written(tmp_path, "secret_key") == []
    assert (tmp_path / "master_key").stat().st_mode & 0o077 == 0


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """The id of another process that has the store open."""
    code = (
        "import sys, trio, pathlib\n"
        "from hyperfs.core.store import run_store\n"
        "async def main():\n"
        "    async with run_store(pathlib.Path(sys.argv[1])):\n"
        "        print('open', flush=True)\n"
        "        await trio.to_thread.run_sync(sys.stdin.read)\n"
        "trio.run(main)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


async def test_a_store_is_one_process_own(tmp_path: Path, holder: int) -> None:
    with pytest.raises(StoreLocked, match=f"process {holder};"):
        await Store.open(tmp_path)


async def test_a_closed_store_is_free(tmp_path: Path) -> None:
    async with run_store(tmp_path):
        pass
    async with run_store(tmp_path):
        pass


class DurableListener:
    """Hears that what was appended is on disk."""

    def __init__(self) -> None:
        self.heard = trio.Event()

    def extended(self, *_: object) -> None: ...
    def stored(self, *_: object) -> None: ...
    def cleared(self, *_: object) -> None: ...
    def durable(self, *_: object) -> None:
        self.heard.set()


async def test_what_is_written_becomes_durable_by_itself(tmp_path: Path, patient_clock: MockClock) -> None:
    listener = DurableListener()
    async with run_store(tmp_path) as store:
        core = await store.create_core()
        core.add_listener(listener)
        await core.append([b"a"])
        await listener.heard.wait()
        assert core.durable_length == 1


async def test_a_closed_core_is_opened_anew(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core = await store.create_core()
        await core.append([b"a"])
        await store.close_core(core.key)
        again = await store.core(core.key)
        assert again is not core
        assert again.get_local(0) == b"a"


async def test_maps_are_kept_outside_of_the_cores(tmp_path: Path) -> None:
    async with run_store(tmp_path / "store", maps=tmp_path / "maps") as store:
        core = await store.create_core()
        assert store.map_path(core.key) == tmp_path / "maps" / f"{core.discovery_key.hex()}.map"
        assert [file.name for file in (tmp_path / "maps").iterdir()] == [f"{core.discovery_key.hex()}.map"]


async def test_an_error_inside_comes_out_as_itself(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with run_store(tmp_path):
            raise KeyError


def die(store: Store) -> None:
    """Leave a store as the death of its process does: nothing is synced, and its locks are free."""
    for core in store.opened():
        core.close_without_sync()
    store._lock.release()


async def test_what_append_returned_for_survives_the_process(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    core = await store.create_core()
    await core.append([b"a", b"b"])
    die(store)
    async with await Store.open(tmp_path) as store:
        found = await store.core(core.key)
        assert [await found.get(index) for index in range(found.length)] == [b"a", b"b"]


async def test_what_survived_the_process_is_synced_after_the_core_that_it_names(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    content, metadata = await store.create_core(), await store.create_core()
    metadata.sync_after(content)
    await content.append([b"content"])
    await metadata.append([b"names it"])
    die(store)
    async with await Store.open(tmp_path) as store:
        await (await store.core(metadata.key)).sync()
        assert {core.key: core.durable_length for core in store.opened()} == {content.key: 1, metadata.key: 1}


async def test_what_survived_the_process_becomes_durable_by_itself(tmp_path: Path, patient_clock: MockClock) -> None:
    store = await Store.open(tmp_path)
    core = await store.create_core()
    await core.append([b"a"])
    die(store)
    listener = DurableListener()
    async with run_store(tmp_path) as store:
        (await store.core(core.key)).add_listener(listener)
        await listener.heard.wait()


async def test_a_core_stays_open_while_anybody_holds_it(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core = await store.create_core()
        first, second = store.hold(core), store.hold(core)
        first.release()
        await store.close_idle()
        assert store.opened() == [core]
        second.release()
        await store.close_idle()
        assert store.opened() == []


async def test_a_core_that_was_never_held_stays_open(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core = await store.create_core()
        await store.close_idle()
        assert store.opened() == [core]


async def test_a_lease_that_is_released_twice_counts_once(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        core = await store.create_core()
        with store.hold(core), await store.lease(core.key) as again:
            lease = store.hold(core)
            lease.release()
            lease.release()
            await store.close_idle()
            assert again is core
            assert store.opened() == [core]


async def test_what_an_idle_core_holds_is_durable_before_it_is_closed(tmp_path: Path) -> None:
    async with await Store.open(tmp_path) as store:
        core = await store.create_core()
        with store.hold(core):
            await core.append([b"a"])
        await store.close_idle()
        assert core.durable_length == 1
        assert await (await store.core(core.key)).get(0) == b"a"


async def test_idle_cores_beyond_a_few_are_closed_the_oldest_first(tmp_path: Path, patient_clock: MockClock) -> None:
    async with run_store(tmp_path) as store:
        cores = [await store.create_core() for _ in range(MAX_IDLE_CORES + 3)]
        for lease in [store.hold(core) for core in cores]:
            lease.release()
        await trio.sleep(2 * FLUSH_DELAY_SECONDS)
        await settled()
        assert set(store.opened()) == set(cores[3:])


async def test_a_core_stays_open_while_another_is_synced_after_it(tmp_path: Path) -> None:
    async with run_store(tmp_path) as store:
        content, metadata = await store.create_core(), await store.create_core()
        metadata.sync_after(content)
        with store.hold(metadata):
            store.hold(content).release()
            await store.close_idle()
            assert set(store.opened()) == {content, metadata}
        await store.close_idle()
        await store.close_idle()
        assert store.opened() == []


async def test_a_core_of_which_the_disk_refuses_something_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Store.open(tmp_path) as store:
        core = await store.create_core()
        with store.hold(core):
            await core.append([b"a"])
        with monkeypatch.context() as patch:
            patch.setattr(DiskFile, "sync", fail_with(errno.ENOSPC))
            await store.close_idle()
        assert store.opened() == [core]
        await store.close_idle()
        assert store.opened() == []


async def test_idle_cores_make_way_when_there_are_no_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_store(tmp_path) as store:
        idle = await store.create_core()
        store.hold(idle).release()
        plain = os.open

        def refuse_while_it_is_open(*arguments: object, **keywords: object) -> int:
            if idle in store.opened():
                raise OSError(errno.EMFILE, "too many open files")
            return plain(*arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse_while_it_is_open)
            core = await store.create_core(b"another")
        assert store.opened() == [core]


async def test_a_core_that_cannot_be_synced_keeps_no_other_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(tmp_path)
    failing, other = await store.create_core(), await store.create_core()
    for core in (failing, other):
        await core.append([b"a"])
    monkeypatch.setattr(failing._files.data.file, "sync", fail_with(errno.EIO))
    with pytest.raises(OSError, match="cannot"):
        await store.close()
    assert other.durable_length == 1
    async with run_store(tmp_path) as again:
        assert await (await again.core(failing.key)).get(0) == b"a"


async def test_a_core_that_is_being_opened_is_closed_with_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(tmp_path)
    opening, go_on = threading.Event(), threading.Event()
    plain = store._prepare

    def prepare(*arguments: object) -> object:
        opening.set()
        go_on.wait()
        return plain(*arguments)

    monkeypatch.setattr(store, "_prepare", prepare)
    cores: list[Core] = []

    async def create() -> None:
        cores.append(await store.create_core())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(create)
        await trio.to_thread.run_sync(opening.wait)
        nursery.start_soon(store.close)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
    with pytest.raises(Closed):
        await cores[0].append([b"a"])
    async with run_store(tmp_path) as again:
        assert (await again.core(cores[0].key)).length == 0


async def test_a_closed_store_opens_nothing(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    await store.close()
    with pytest.raises(Closed):
        await store.create_core()


async def test_a_lease_that_is_dropped_without_being_released_says_so(tmp_path: Path) -> None:
    heard: list[object] = []
    async with run_store(tmp_path) as store:
        lease = store.hold(await store.create_core())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "unraisablehook", lambda what: heard.append(what.exc_value))
            del lease
    assert [type(error) for error in heard] == [ResourceWarning]


@pytest.mark.parametrize("names", [["photo.jpg"], ["photo.jpg", "lost+found"], [".git"]])
def test_a_folder_of_somebodys_is_made_no_store_and_stays_as_it_is(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    tmp_path.chmod(0o755)
    with pytest.raises(UsageError, match="is no store of drives, and not empty"):
        trio.run(Store.open, tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_the_root_of_an_empty_file_system_may_become_a_store(tmp_path: Path) -> None:
    async def make() -> None:
        await (await Store.open(tmp_path)).close()

    (tmp_path / "lost+found").mkdir()
    trio.run(make)
    assert (tmp_path / "master_key").exists()
