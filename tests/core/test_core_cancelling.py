"""What cancellation leaves of a core and of a store, at every point where it can come: all of a change, or nothing."""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from hyperfs.core.core import Core
from hyperfs.core.proofs import Received
from hyperfs.core.store import Store, run_store
from hyperfs.storage import DiskDirectory, MemoryDirectory
from tests.support.cancelling import cancelled_at_each_checkpoint
from tests.support.cores import KEYS, bring, reader, received, writer
from tests.support.lying_disk import LyingDirectory, LyingDisk

OLD = [b"old %d" % index for index in range(5)]
NEW = [b"new %d" % index for index in range(4)]


@pytest.fixture(params=[1, 1 << 30], ids=["in threads", "in place"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash and write in threads, as what is large, or in place."""
    for module in ("core", "appending"):
        monkeypatch.setattr(f"hyperfs.core.{module}._THREAD_BYTES", request.param)


async def whole(core: Core) -> None:
    """Check that a core is in order, also for whoever opens its files next, and close it."""
    here = [index for index in range(core.length) if core.has(index, index + 1)]
    contents = [await core.get(index) for index in here]
    directory = core._files.directory
    assert await core.audit() == []
    await core.close()
    again = await Core.open(directory, key=KEYS.public)
    assert [index for index in range(again.length) if again.has(index, index + 1)] == here
    assert [await again.get(index) for index in here] == contents
    await again.close()


@pytest.mark.usefixtures("threads")
async def test_an_append_is_made_or_not() -> None:
    for attempt in cancelled_at_each_checkpoint():
        core = await writer(OLD)
        with attempt:
            await core.append(NEW)
        assert core.length in (5, 9)
        assert core.length == 9 or attempt.was_cancelled
        await core.append([b"later"])
        assert await core.get(core.length - 1) == b"later"
        await whole(core)


async def test_an_append_that_has_to_wait_for_a_sync_is_made_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperfs.core.durability._MAX_PENDING_SIGNATURES", 1)
    for attempt in cancelled_at_each_checkpoint():
        core = await writer(OLD)
        with attempt:
            await core.append(NEW)
        assert core.length in (5, 9)
        await whole(core)


@pytest.mark.usefixtures("threads")
async def test_what_peers_sent_is_stored_or_not() -> None:
    source = await writer(OLD + NEW)
    for attempt in cancelled_at_each_checkpoint():
        core = await reader()
        items = [await received(source, core, index) for index in (1, 2, 7)]
        with attempt:
            await core.store(items, origin=None)
        assert [core.has(index, index + 1) for index in (1, 2, 7)] in ([False] * 3, [True] * 3)
        await bring(source, core, [1, 4])
        await whole(core)


async def test_blocks_are_cleared_or_not() -> None:
    for attempt in cancelled_at_each_checkpoint():
        core = await writer(OLD + NEW)
        with attempt:
            await core.clear_all([range(1, 3), range(6, 8)])
        assert core.count(0, 9) in (9, 5)
        await whole(core)


async def test_a_sync_is_made_or_not_begun() -> None:
    for attempt in cancelled_at_each_checkpoint():
        core = await writer(OLD)
        with attempt:
            await core.sync()
        assert core.durable_length in (0, 5)
        await core.sync()
        assert core.durable_length == 5
        await whole(core)


async def test_an_audit_leaves_a_core_in_order() -> None:
    for attempt in cancelled_at_each_checkpoint():
        directory = MemoryDirectory()
        core = await writer(OLD, directory=directory)
        directory.files["data"].data[0] ^= 1
        with attempt:
            await core.audit()
        assert core.has(1, 5)
        damaged = [0] if core.has(0, 1) else []
        assert await core.audit() == damaged
        await core.close()


async def test_a_longer_head_is_taken_over_or_not() -> None:
    newer = await writer(OLD + NEW)
    proof = await newer.proof(5)
    item = Received(5, None, (newer._nodes.all_of([10])[0], *proof.nodes), proof.signature)
    for attempt in cancelled_at_each_checkpoint():
        core = await writer(OLD)
        with attempt:
            await core.reconcile(item, origin=None, name="peer:1")
        assert core.length in (5, 9)
        assert core.fork_guard.awaited in (range(0), range(5, 9))
        assert (core.length == 9) == bool(core.fork_guard.awaited)
        await core.close()


async def test_a_core_is_made_writable_now_or_by_its_next_opening() -> None:
    for attempt in cancelled_at_each_checkpoint():
        directory = MemoryDirectory()
        core = await reader(directory=directory)
        with attempt:
            await core.adopt(KEYS.secret)
        assert core.writable or attempt.was_cancelled
        await core.adopt(KEYS.secret)
        await core.append([b"a"])
        await core.close()
        again = await Core.open(directory)
        assert (again.writable, again.length) == (True, 1)
        await again.close()


async def test_opening_leaves_nothing_open() -> None:
    for attempt in cancelled_at_each_checkpoint():
        directory = LyingDirectory(LyingDisk(random.Random(1)))  # which fails when a file is dropped without a close
        core = None
        with attempt:
            core = await Core.open(directory, key_pair=KEYS)
        if core is None:
            core = await Core.open(directory, key_pair=KEYS)
        await core.close()


async def test_closing_is_done_all_the_same() -> None:
    for attempt in cancelled_at_each_checkpoint():
        core = await writer(OLD)
        with attempt:
            await core.close()
        assert core.closed
        assert core.durable_length == 5


STORE_CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "core": lambda store: store.core(KEYS.public),
    "create_core": lambda store: store.create_core(b"new"),
    "content_core": lambda store: store.content_core(KEYS.public),
    "adopt": lambda store: store.adopt(KEYS.secret),
    "close_core": lambda store: store.close_core(store.key_pair(b"old").public),
    "close_idle": lambda store: store.close_idle(),
    "sync": lambda store: store.sync(),
    "close": lambda store: store.close(),
}


@pytest.mark.parametrize("call", STORE_CALLS.values(), ids=STORE_CALLS.keys())
async def test_a_store_is_in_order(call: Callable[[Store], Awaitable[object]], tmp_path: Path) -> None:
    for number, attempt in enumerate(cancelled_at_each_checkpoint()):
        path = tmp_path / str(number)
        store = await Store.open(path)
        old = await store.create_core(b"old")
        with store.hold(old):
            await old.append(OLD)
        with attempt:
            await call(store)
        await store.close()
        async with run_store(path) as again:
            assert (await again.create_core(b"old")).length == 5
            assert (await again.create_core(b"new")).length == 0
            assert (await again.core(KEYS.public)).length == 0


async def test_setting_a_core_aside_loses_nothing(tmp_path: Path) -> None:
    for number, attempt in enumerate(cancelled_at_each_checkpoint()):
        path = tmp_path / str(number)
        async with run_store(path) as store:
            core = await store.adopt(KEYS.secret)
            await core.append(OLD)
            with attempt:
                await store.set_aside(KEYS.public)
        async with run_store(path) as store:
            aside = path / ".hyperfs" / "set-aside"
            if aside.exists():
                await store.adopt(KEYS.secret)
                found = await Core.open(DiskDirectory(next(aside.iterdir())))
            else:
                found = await store.core(KEYS.public)
            assert found.length == 5
            await found.close()


async def test_a_store_that_is_run_is_closed_by_a_cancellation_anywhere(tmp_path: Path) -> None:
    for number, attempt in enumerate(cancelled_at_each_checkpoint()):
        with attempt:
            async with run_store(tmp_path / str(number)) as store:
                await (await store.create_core(b"old")).append(OLD)
                await trio.lowlevel.checkpoint()
        async with run_store(tmp_path / str(number)) as store:
            assert (await store.create_core(b"old")).length in (0, 5)
