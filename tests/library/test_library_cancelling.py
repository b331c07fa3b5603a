"""What is left half way: connections that never came to be, streams, handles and iterators that nobody goes on with."""

import gc

import pytest
import trio
import trio.testing

import hyperfs
from hyperfs.errors import BlockNotAvailable, StoreLocked
from hyperfs.library import events as e
from hyperfs.replication.status import EndReason, Follow
from hyperfs.storage import Directory, MemoryDirectory
from hyperfs.storage.memory import MemoryFile
from tests.support.clocks import settled
from tests.support.two_cores import a_writer_and_a_reader, replicate, to_cancel

ABC = (b"a", b"b", b"c")


async def test_who_is_cancelled_in_the_handshake_leaves_nothing() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        left, right = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as cancelled:
            cancelled.start_soon(lambda: reader.replicate(left, initiator=True, live=True))
            await settled()
            cancelled.cancel_scope.cancel()
        assert (reader.peers, list(reader._connections)) == ([], [])
        while await right.receive_some():  # what was said of the handshake, and the end
            pass
        await replicate(nursery, reader, writer).over.wait()
        assert reader.downloaded() == 3


async def test_who_is_cancelled_before_the_handshake_closes_the_stream() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        left, right = trio.testing.memory_stream_pair()
        with trio.CancelScope() as scope:
            scope.cancel()
            await core.append(b"not on the disk yet")
        await core.append(b"nor this")
        with trio.CancelScope() as scope:
            scope.cancel()
            await core.replicate(left, initiator=True)
        assert scope.cancelled_caught
        assert list(core._connections) == []
        while await right.receive_some():
            pass


async def test_a_stream_is_closed_when_the_disk_refuses_what_was_to_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: MemoryFile) -> None:
        raise OSError(5, "the disk says no")

    storage = MemoryDirectory()
    async with hyperfs.open_core(storage) as core:
        left, right = trio.testing.memory_stream_pair()
        await core.append(b"x")
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFile, "sync", fail)
            with pytest.raises(OSError, match="the disk says no"):
                await core.replicate(left, initiator=True)
        assert list(core._connections) == []
        assert await right.receive_some() == b""


async def test_a_connection_runs_once() -> None:
    left, right = trio.testing.memory_stream_pair()
    await right.aclose()
    connection = hyperfs.Connection(left, initiator=True)
    await connection.run()
    with pytest.raises(RuntimeError):
        await connection.run()


async def test_a_core_that_is_added_twice_goes_over_once() -> None:
    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        left, right = trio.testing.memory_stream_pair()
        ours, theirs = hyperfs.Connection(left, initiator=True), hyperfs.Connection(right, initiator=False)
        ours.add(reader)
        theirs.add(writer)
        theirs.add(writer)
        nursery.start_soon(theirs.run)
        await ours.run()
        assert (reader.downloaded(), reader.peers, list(reader._connections)) == (3, [], [])


async def test_an_error_of_who_authenticates_ends_that_connection_alone() -> None:
    def fail(key: bytes) -> bool:
        raise ValueError("no such list")

    async with a_writer_and_a_reader(*ABC) as (writer, reader), to_cancel() as nursery:
        refused = replicate(nursery, reader, writer, of_theirs={"authenticate": fail})
        await refused.over.wait()
        assert refused.theirs is not None
        assert refused.theirs.reason is EndReason.CLOSED
        assert reader.downloaded() == 0
        await replicate(nursery, reader, writer).over.wait()
        assert reader.downloaded() == 3


async def test_an_encoding_that_makes_no_bytes_is_told_and_sends_nothing() -> None:
    class Odd:
        def encode(self, value: object) -> bytes:
            return value  # type: ignore[return-value]  # which is what is tried

        def decode(self, block: bytes) -> bytes:
            return block

    async with a_writer_and_a_reader() as (writer, reader), to_cancel() as nursery:
        ours, theirs = reader.register_extension("x", encoding=Odd()), writer.register_extension("x")
        replicate(nursery, reader, writer, live=True)
        await settled()
        with pytest.raises(TypeError):
            await ours.broadcast("text")
        await ours.broadcast(b"bytes")
        assert (await theirs.receive())[0] == b"bytes"
    async with hyperfs.open_core(hyperfs.memory(), value_encoding=Odd()) as core:
        with pytest.raises(TypeError):
            await core.append([b"good", "text"])
        assert await core.append(b"good") == 0


async def test_one_task_reads_a_stream_at_a_time() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core, to_cancel() as nursery:
        blocks, pieces = core.read_stream(live=True), core.byte_stream(0, 1)
        nursery.start_soon(blocks.receive)
        nursery.start_soon(pieces.receive_some)
        await settled()
        with pytest.raises(trio.BusyResourceError):
            await blocks.receive()
        with pytest.raises(trio.BusyResourceError):
            await pieces.receive_some()
        nursery.cancel_scope.cancel()
    async with hyperfs.open_core(hyperfs.memory()) as core:
        await core.append(b"a")
        stream = core.read_stream()
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.lowlevel.checkpoint()
        assert await stream.receive() == b"a"


async def test_a_stream_that_is_dropped_half_way_leaves_the_rest_to_others() -> None:
    async with a_writer_and_a_reader(*[b"%d" % n for n in range(200)], sparse=True) as (writer, reader):
        async with to_cancel() as nursery:
            replicate(nursery, reader, writer, live=True)
            await reader.update(200)
            stream = reader.read_stream()
            async for value in stream:
                assert value == b"0"
                break
            del stream
            gc.collect()
            await settled()
            assert 0 < reader.downloaded() <= 65
            assert await reader.get(199) == b"199"
        assert list(reader._exchange.demands) == []


async def test_what_was_cancelled_asks_peers_for_nothing_more() -> None:
    async with a_writer_and_a_reader(*ABC, sparse=True) as (writer, reader), to_cancel() as nursery:
        async with trio.open_nursery() as waiting:
            waiting.start_soon(reader.get, 0)
            waiting.start_soon(lambda: reader.get_batch(0, 2))
            waiting.start_soon(reader.seek, 2)
            waiting.start_soon(reader.update)
            waiting.start_soon(lambda: reader.head(update=True))
            waiting.start_soon(reader.read_stream(live=True).receive)
            waiting.start_soon(reader.download(1, 2).wait)
            await settled()
            waiting.cancel_scope.cancel()
        handle = reader.download(2, 3)
        handle.cancel()
        assert reader._exchange.follow is Follow.NOTHING
        replicate(nursery, reader, writer, live=True)
        await settled()
        assert [reader.has(index) for index in range(3)] == [False, True, False]  # a download goes on by itself
        with pytest.raises(BlockNotAvailable, match="taken back"):
            await handle


async def test_an_event_iterator_that_is_closed_lets_go_who_waits() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        events = core.events(e.Appended)
        heard: list[object] = []

        async def hear() -> None:
            heard.extend([event async for event in events])
            heard.append("over")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            await settled()
            await events.aclose()
        assert heard == ["over"]


async def test_a_core_in_memory_has_one_owner_too() -> None:
    storage = hyperfs.memory()
    async with hyperfs.open_core(storage) as core:
        await core.append(b"mine")
        with pytest.raises(StoreLocked):
            async with hyperfs.open_core(storage):
                pass
        assert await core.get(0) == b"mine"


async def fail_within(storage: Directory, error: BaseException) -> None:
    async with hyperfs.open_core(storage) as core:
        await core.append(b"x")
        raise error


async def test_a_program_may_exit_within_the_block() -> None:
    storage = hyperfs.memory()
    for error in (SystemExit(3), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            await fail_within(storage, error)
        assert caught.value is error
    async with hyperfs.open_core(storage) as core:
        assert core.length == 2


async def test_a_disk_that_refuses_at_the_end_does_not_hide_what_went_wrong_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(file: MemoryFile) -> None:
        raise OSError(5, "the disk says no")

    storage, first = MemoryDirectory(), ValueError("first")
    async with hyperfs.open_core(storage):
        pass
    monkeypatch.setattr(MemoryFile, "sync", fail)
    with pytest.raises(OSError, match="the disk says no") as caught:
        await fail_within(storage, first)
    before: BaseException | None = caught.value
    while before is not None and before is not first:
        before = before.__context__
    assert before is first
