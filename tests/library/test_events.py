"""Events: what is told, in which order, and what becomes of those that nobody reads."""

import gc
import weakref

import pytest
import trio
import trio.testing

import hyperfs
from hyperfs.errors import Closed, UsageError
from hyperfs.library import events as e
from hyperfs.library import extensions
from hyperfs.storage import MemoryDirectory
from hyperfs.storage.memory import MemoryFile
from tests.support.clocks import settled
from tests.support.two_cores import a_writer_and_a_reader, replicate, to_cancel


async def test_what_happens_to_a_core_is_told_in_order() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        await core.append(b"before")
        events = core.events()
        await core.append([b"a", b"bc"])
        await core.append(b"d")
    assert [event async for event in events] == [
        e.Ready(1, 6),
        e.Appended(3, 9),
        e.Appended(4, 10),
        e.CoreClosed(),
    ]
    assert [event async for event in core.events()] == [e.Ready(4, 10), e.CoreClosed()]


async def test_what_comes_and_goes_is_told() -> None:
    async with a_writer_and_a_reader(b"a", b"b") as (writer, reader):
        here, there = reader.events(), writer.events(e.Uploaded, e.PeerOpened, e.PeerGone)
        async with to_cancel() as nursery:
            await replicate(nursery, reader, writer).over.wait()
            ours = [await anext(here) for _ in range(7)]
            theirs = [await anext(there) for _ in range(4)]
    assert ours[0] == e.Ready(0, 0)
    assert isinstance(ours[1], e.PeerOpened)
    peer = ours[1].peer
    assert e.Appended(2, 2) in ours
    assert [event for event in ours if isinstance(event, e.Downloaded)] == [
        e.Downloaded(0, b"a", peer),
        e.Downloaded(1, b"b", peer),
    ]
    assert ours[-1] == e.PeerGone(peer)
    assert e.Synced(2) in ours
    assert [type(event) for event in theirs] == [e.PeerOpened, e.Uploaded, e.Uploaded, e.PeerGone]
    assert {(event.index, event.data) for event in theirs if isinstance(event, e.Uploaded)} == {(0, b"a"), (1, b"b")}


async def test_a_block_that_is_gone_is_told_without_its_data() -> None:
    async with a_writer_and_a_reader(b"a", b"b") as (writer, reader), to_cancel() as nursery:
        events = reader.events(e.Downloaded)
        await replicate(nursery, reader, writer).over.wait()
        await reader.clear(0)
        first, second = await anext(events), await anext(events)
        assert isinstance(first, e.Downloaded)
        assert isinstance(second, e.Downloaded)
        assert (first.data, second.data) == (None, b"b")


async def test_who_reads_too_slowly_is_told_how_much_is_gone() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        events = core.events(e.Appended)
        for _ in range(e.MAX_EVENTS + 3):
            await core.append(b"x")
        assert await anext(events) == e.Missed(3)
        assert await anext(events) == e.Appended(4, 4)


async def test_neighbouring_blocks_count_as_one_event() -> None:
    async with a_writer_and_a_reader(*[b"x"] * (e.MAX_EVENTS + 10)) as (writer, reader), to_cancel() as nursery:
        events = reader.events(e.Downloaded)
        await replicate(nursery, reader, writer).over.wait()
        indices = []
        for _ in range(e.MAX_EVENTS + 10):
            event = await anext(events)
            assert isinstance(event, e.Downloaded)
            indices.append(event.index)
        assert sorted(indices) == list(range(e.MAX_EVENTS + 10))


async def test_an_iterator_waits_for_what_happens_and_may_be_left() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        events = core.events(e.Appended)
        with trio.move_on_after(0):
            await anext(events)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(core.append, b"x")
            assert await anext(events) == e.Appended(1, 1)
        await events.aclose()
        await core.append(b"y")
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_several_may_wait_for_one_iterator() -> None:
    heard: list[object] = []

    async with hyperfs.open_core(hyperfs.memory()) as core:
        events = core.events(e.Appended)

        async def hear() -> None:
            heard.append(await anext(events))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            nursery.start_soon(hear)
            await settled()
            await core.append(b"x")
            await core.append(b"y")
    assert heard == [e.Appended(1, 1), e.Appended(2, 2)]


async def test_an_iterator_that_nobody_holds_is_forgotten() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        gone = weakref.ref(core.events())
        gc.collect()
        assert gone() is None


async def test_a_sync_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryDirectory()
    error = OSError(5, "the disk says no")

    def fail(file: MemoryFile) -> None:
        raise error

    async with hyperfs.open_core(storage) as core:
        await core.sync()
        events = core.events(e.Failed)
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFile, "sync", fail)
            await core.append(b"x")
            assert await anext(events) == e.Failed(error)


async def test_messages_of_an_extension_go_both_ways() -> None:
    async with a_writer_and_a_reader() as (writer, reader), to_cancel() as nursery:
        ours = reader.register_extension("example", encoding="json")
        reader.register_extension("another")
        theirs = writer.register_extension("example", encoding="json")
        opened = reader.events(e.PeerOpened)
        replicate(nursery, reader, writer, live=True)
        await anext(opened)
        assert await ours.broadcast({"hi": "there"}) == 1
        message, peer = await theirs.receive()
        assert message == {"hi": "there"}
        assert "another" in peer.extensions
        await theirs.send(["and", "back"], peer)
        assert (await ours.receive())[0] == ["and", "back"]


async def test_an_extension_may_be_registered_and_closed_while_peers_are_here() -> None:
    async with a_writer_and_a_reader() as (writer, reader), to_cancel() as nursery:
        replicate(nursery, reader, writer, live=True)
        await settled()
        ours, theirs = reader.register_extension("late"), writer.register_extension("late")
        await ours.broadcast(b"1")
        assert (await theirs.receive())[0] == b"1"
        await ours.broadcast(b"2")
        await settled()
        theirs.close()
        theirs.close()
        await ours.broadcast(b"3")
        await settled()
        assert [message async for message, _ in theirs] == [b"2"]
        with pytest.raises(Closed):
            await theirs.broadcast(b"x")
        assert await writer.register_extension("late").broadcast(b"again") == 1


async def test_messages_that_nobody_reads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "MAX_MESSAGES", 3)
    async with a_writer_and_a_reader() as (writer, reader), to_cancel() as nursery:
        ours, theirs = reader.register_extension("x"), writer.register_extension("x")
        replicate(nursery, reader, writer, live=True)
        await settled()
        for number in range(5):
            await ours.broadcast(b"%d" % number)
        await settled()
        assert theirs.dropped == 2
        assert [(await theirs.receive())[0] for _ in range(3)] == [b"0", b"1", b"2"]


async def test_a_message_that_is_none_is_passed_over() -> None:
    async with a_writer_and_a_reader() as (writer, reader), to_cancel() as nursery:
        ours, theirs = reader.register_extension("x"), writer.register_extension("x", encoding="json")
        replicate(nursery, reader, writer, live=True)
        await settled()
        await ours.broadcast(b"{")
        await ours.broadcast(b"[]")
        assert (await theirs.receive())[0] == []


async def test_a_name_is_registered_once() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        core.register_extension("x")
        with pytest.raises(UsageError):
            core.register_extension("x")
