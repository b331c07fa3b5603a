"""Closing a core, and what meets it: who waits, who reads, and who comes too late."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

import hyperfs
from hyperfs.core.core import Core
from hyperfs.core.reader import CoreReader, Hint, Priority, Run
from hyperfs.core.view import CoreView
from hyperfs.errors import Closed
from hyperfs.storage import DiskDirectory
from tests.support.cold_disk import ColdDirectory
from tests.support.cores import KEYS, bring, reader, received, writer


class Nobody:
    """A source that never answers."""

    async def fetch(self, core: CoreReader, ranges: object, priority: Priority, hint: Hint | None) -> None:
        await trio.sleep_forever()

    def prefetch(self, core: CoreReader, ranges: object, hint: Hint | None) -> None:
        pass

    async def seek(self, core: CoreReader, byte_offset: int, blocks: range, priority: Priority) -> None:
        await trio.sleep_forever()

    async def update(self, core: CoreReader) -> None:
        await trio.sleep_forever()


WAITS: dict[str, Callable[[Core], Awaitable[object]]] = {
    "get": lambda core: core.get(2),
    "fetch": lambda core: core.fetch([range(1, 3)]),
    "read": lambda core: core.read(Run(range(4), 0, 8), 2, 2),
    "seek": lambda core: core.seek(5),
    "update": lambda core: core.update(),
    "wait_longer": lambda core: core.wait_longer(9),
}


async def waiting_core() -> Core:
    """A reader that has block 0 of four, and a source that never brings another."""
    source, target = await writer([b"aa"] * 4), await reader()
    await bring(source, target, [0])
    target.source = Nobody()
    return target


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
async def test_whoever_waits_hears_that_the_core_is_closed(wait: Callable[[Core], Awaitable[object]]) -> None:
    core = await waiting_core()

    async def expect_closed() -> None:
        with pytest.raises(Closed):
            await wait(core)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_closed)
        await trio.testing.wait_all_tasks_blocked()
        await core.close()


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
async def test_whoever_comes_later_hears_that_the_core_is_closed(wait: Callable[[Core], Awaitable[object]]) -> None:
    core = await waiting_core()
    await core.close()
    with pytest.raises(Closed):
        await wait(core)


async def test_a_wait_that_is_cancelled_is_cancelled_and_not_closed() -> None:
    core = await waiting_core()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(core.get, 2)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught


USES: dict[str, Callable[[Core], Awaitable[object]]] = {
    "get": lambda core: core.get(0),
    "read": lambda core: core.read(Run(range(1), 0, 2), 0, 2),
    "append": lambda core: core.append([b"x"]),
    "clear": lambda core: core.clear(0, 1),
    "audit": lambda core: core.audit(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
async def test_a_closed_core_says_so(use: Callable[[Core], Awaitable[object]], tmp_path: Path) -> None:
    core = await writer([b"aa"], directory=DiskDirectory(tmp_path))
    await core.close()
    with pytest.raises(Closed, match="closed"):
        await use(core)


async def test_nothing_is_stored_in_a_closed_core() -> None:
    source, target = await writer([b"aa"]), await reader()
    item = await received(source, target, 0)
    await target.close()
    with pytest.raises(Closed):
        await target.store([item], origin=None)


async def test_a_writer_that_waits_to_catch_up_hears_that_the_core_is_closed() -> None:
    core = await writer([b"aa"])
    await core.fork_guard.note_signed(9)

    async def expect_closed() -> None:
        with pytest.raises(Closed):
            await core.fork_guard.caught_up()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_closed)
        await trio.testing.wait_all_tasks_blocked()
        await core.close()


async def test_a_closed_view_wakes_who_waits(tmp_path: Path) -> None:
    core = await Core.open(DiskDirectory(tmp_path / "core"), key=KEYS.public, shared_map_path=tmp_path / "map")
    view = CoreView(
        DiskDirectory(tmp_path / "core"), tmp_path / "map", key=core.key, length=1, byte_length=1, source=Nobody()
    )

    async def expect_closed() -> None:
        with pytest.raises(Closed):
            await view.get(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_closed)
        await trio.testing.wait_all_tasks_blocked()
        view.close()
    await core.close()


async def test_closing_syncs_even_when_it_is_cancelled() -> None:
    core = await writer([b"aa"])
    with trio.CancelScope() as scope:
        scope.cancel()
        await core.close()
    assert core.durable_length == 1


async def test_a_library_store_left_by_cancellation_is_closed_and_durable(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with hyperfs.open_store(tmp_path) as store:
            key = (await store.create_drive()).key
            scope.cancel()
            await trio.sleep_forever()
    async with hyperfs.open_store(tmp_path) as store:
        assert (await store.drive(key)).version == 1


async def test_a_block_that_is_cleared_while_it_is_read_is_not_returned_as_zeros() -> None:
    directory = ColdDirectory()
    core = await writer([b"secret", b"other"], directory=directory)
    await core.sync()
    directory.freeze("data")
    found: list[object] = []

    async def read() -> None:
        try:
            found.append(await core.get(0))
        except hyperfs.HyperfsError as error:
            found.append(type(error).__name__)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.to_thread.run_sync(directory.waiting.wait)
        await core.clear(0, 1)
        directory.thaw()
    assert found == ["BlockNotAvailable"]


async def test_a_block_that_came_again_while_it_is_read_is_read_again() -> None:
    directory = ColdDirectory(reads_before=True)
    source, core = await writer([b"secret", b"other"]), await reader(directory=directory)
    await bring(source, core, [0, 1])
    await core.clear(0, 1)
    found: list[bytes] = []

    async def read() -> None:
        found.append(await core.get(0))

    core._bitfield.set_blocks(0, 1)  # as it was just before the block was cleared, when the read began
    directory.freeze("data")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.to_thread.run_sync(directory.waiting.wait)
        core._bitfield.clear_blocks(0, 1)
        await bring(source, core, [0])
        directory.thaw()
    assert found == [b"secret"]


async def test_an_audit_keeps_a_block_that_was_fetched_again_while_it_read() -> None:
    directory = ColdDirectory(reads_before=True)
    source, core = await writer([b"one", b"two"]), await reader(directory=directory)
    await bring(source, core, [0, 1])
    await core.clear(0, 1)
    core._bitfield.set_blocks(0, 1)
    await core.sync()
    directory.freeze("data")
    bad: list[int] = []

    async def audit() -> None:
        bad.extend(await core.audit())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(audit)
        await trio.to_thread.run_sync(directory.waiting.wait)
        core._bitfield.clear_blocks(0, 1)
        await bring(source, core, [0])
        directory.thaw()
    assert bad == []
    assert core.has(0, 2)


async def test_what_overdue_writing_owes_the_disk_is_paid_before_more_is_appended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyperfs.core.durability._MAX_PENDING_SIGNATURES", 2)
    core = await writer([b"a"])
    await core.append([b"b"])

    def refuse() -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(core._files.data.file, "sync", refuse)
    with pytest.raises(OSError, match="no space"):
        await core.append([b"c"])
    assert core.length == 2
    monkeypatch.undo()
    assert await core.append([b"c"]) == 2
