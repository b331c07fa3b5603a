"""Two stores with one secret key: a backup that was restored, and two writers."""

import logging

import pytest
import trio

from hyperfs.core.core import Core
from hyperfs.errors import WriterBehind, WriterForked
from hyperfs.replication import Follow, Replicator
from hyperfs.storage import MemoryDirectory

from ..support.peers import KEY_PAIR, block, join, reader, serving, writer
from ..support.stores import eventually


def leading(core: Core, *, uploading: bool = True) -> Replicator:
    """Return a replicator that shares ``core`` and is its source."""
    replicator = Replicator()
    replicator.add_core(core, follow=Follow.NEWEST, uploading=uploading)
    core.source = replicator
    return replicator


async def until_told(core: Core, replicator: Replicator) -> None:
    """Wait until the connections are up and every peer of ``core`` was compared with."""
    await eventually(lambda: replicator.status().cores[0].peers)
    await core.update()


@pytest.mark.parametrize("old_length", [0, 1, 5, 8])
async def test_a_restored_backup_catches_up_and_goes_on(nursery: trio.Nursery, old_length: int) -> None:
    backup, newer = await writer(old_length), await writer(20)
    one = leading(backup)
    join(nursery, one, serving(newer))
    await until_told(backup, one)
    await backup.fork_guard.caught_up()
    assert await backup.append([b"next"]) == 20
    assert [await backup.get(index) for index in range(20)] == [block(index) for index in range(20)]


async def test_a_restored_backup_catches_up_with_a_reader(nursery: trio.Nursery) -> None:
    backup, newer = await writer(5), await writer(20)
    one, middle = leading(backup), Replicator()
    copy = await reader(middle)
    first = join(nursery, middle, serving(newer), dialled="writer:1")
    await copy.fetch([range(20)])
    first.cut()
    await first.over.wait()
    join(nursery, one, middle)
    await until_told(backup, one)
    await backup.fork_guard.caught_up()
    assert await backup.append([b"next"]) == 20


async def test_what_was_appended_after_catching_up_reaches_those_who_had_the_rest(nursery: trio.Nursery) -> None:
    backup, newer = await writer(5), await writer(20)
    one, two = leading(backup), leading(newer)
    join(nursery, one, two)
    await until_told(backup, one)
    await backup.fork_guard.caught_up()
    await backup.append([b"next"])
    await backup.sync()
    await newer.fork_guard.caught_up()
    await newer.wait_longer(20)
    assert await newer.get(20) == b"next"


async def test_a_peer_that_knows_of_more_and_has_little_of_it_keeps_a_backup_from_appending(
    nursery: trio.Nursery,
) -> None:
    backup, newer = await writer(5), await writer(20)
    one, middle = leading(backup), Replicator()
    copy = await reader(middle)
    first = join(nursery, middle, serving(newer), dialled="writer:1")
    await copy.fetch([range(19, 20)])
    first.cut()
    await first.over.wait()
    join(nursery, one, middle)
    await until_told(backup, one)
    with pytest.raises(WriterBehind):
        await backup.append([b"other"])


async def test_blocks_that_nobody_has_any_more_do_not_keep_a_backup_from_going_on(nursery: trio.Nursery) -> None:
    backup, newer = await writer(5), await writer(20)
    await newer.clear(8, 12)
    one = leading(backup)
    join(nursery, one, serving(newer))
    await until_told(backup, one)
    await backup.fork_guard.caught_up()
    assert await backup.append([b"next"]) == 20
    assert backup.count(0, 20) == 16


async def two_histories() -> tuple[Core, Core]:
    other = await Core.open(MemoryDirectory(), key_pair=KEY_PAIR)
    await other.append([*[block(index) for index in range(5)], b"other", b"other still"])
    await other.sync()
    return await writer(7), other


async def test_two_writers_are_found_out_on_both_sides(nursery: trio.Nursery, caplog: pytest.LogCaptureFixture) -> None:
    mine, other = await two_histories()
    one, two = leading(mine), leading(other)
    joined = join(nursery, one, two)
    await until_told(mine, one)
    await until_told(other, two)
    for core in (mine, other):
        with pytest.raises(WriterForked, match="used in two places"):
            await core.append([b"next"])
    assert mine.length == other.length == 7
    assert await mine.get(5) == block(5)
    assert not joined.over.is_set()
    assert any(entry.levelno == logging.ERROR and "IS FORKED" in entry.getMessage() for entry in caplog.records)


@pytest.mark.parametrize("more", [1, 5])
async def test_two_writers_of_different_lengths_are_found_out_by_both(nursery: trio.Nursery, more: int) -> None:
    mine, other = await two_histories()
    await other.append([b"more"] * more)
    await other.sync()
    one, two = leading(mine), leading(other)
    join(nursery, one, two)
    await until_told(mine, one)
    await until_told(other, two)
    assert mine.fork_guard.fork is not None
    assert other.fork_guard.fork is not None
    assert mine.length == 7


async def test_writers_that_part_while_connected_are_found_out(nursery: trio.Nursery) -> None:
    mine, other = await writer(5), await writer(5)
    one, two = leading(mine), leading(other)
    join(nursery, one, two)
    await until_told(mine, one)
    await until_told(other, two)
    await mine.append([b"mine"])
    await other.append([b"other"])
    await mine.sync()
    await other.sync()
    await eventually(lambda: mine.fork_guard.fork or other.fork_guard.fork)


async def test_a_reader_of_a_writer_is_no_fork(nursery: trio.Nursery) -> None:
    core = await writer(5)
    one, two = leading(core), Replicator()
    copy = await reader(two, follow=Follow.NEWEST)
    join(nursery, two, one)
    await copy.fetch([range(5)])
    for count in range(20):
        await core.append([block(5 + count)])
        await core.sync()
    await copy.wait_longer(24)
    assert await core.append([b"next"]) == 25


async def test_peers_hear_what_was_cleared(nursery: trio.Nursery) -> None:
    core = await writer(20)
    one, two = serving(core), Replicator()
    copy = await reader(two)
    join(nursery, two, one)
    await copy.fetch([range(1)])
    await core.clear_all([range(2, 5), range(10, 12)])
    (peer,) = two.exchanges[0].open_peers
    await eventually(lambda: not peer.availability.has(11))
    assert [index for index in range(20) if not peer.availability.has(index)] == [2, 3, 4, 10, 11]


async def test_a_core_that_is_only_asked_about_gives_nothing(nursery: trio.Nursery) -> None:
    core = await writer(5)
    one, two = leading(core, uploading=False), Replicator()
    copy = await reader(two)
    join(nursery, two, one)
    await until_told(copy, two)
    assert two.exchanges[0].claimed_length == 0
    one.add_core(core, uploading=True)
    await copy.fetch([range(5)])
    one.add_core(core, uploading=False)
    await eventually(lambda: not two.exchanges[0].claimed_length)


async def test_a_core_that_is_only_asked_about_still_learns_that_it_is_behind(nursery: trio.Nursery) -> None:
    backup, newer = await writer(5), await writer(20)
    one = leading(backup, uploading=False)
    join(nursery, one, serving(newer))
    await until_told(backup, one)
    await backup.fork_guard.caught_up()
    assert backup.length == 20
