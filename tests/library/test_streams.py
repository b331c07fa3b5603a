"""Streams: of blocks, of bytes across them, and one that appends."""

import pytest
import trio
import trio.testing

import hyperfs
from hyperfs.errors import BlockNotAvailable
from hyperfs.library.streams import ByteStream, ReadStream


async def values(stream: ReadStream) -> list[object]:
    return [value async for value in stream]


async def taken(stream: ReadStream, count: int) -> list[object]:
    return [await stream.receive() for _ in range(count)]


async def joined(stream: ByteStream) -> bytes:
    return b"".join([piece async for piece in stream])


@pytest.mark.parametrize("batch", [1, 10])
async def test_a_stream_reads_from_start_to_end(batch: int) -> None:
    async with hyperfs.open_core(hyperfs.memory(), value_encoding="utf-8") as core:
        await core.append(["hello", "multiple", "worlds"])
        assert await values(core.read_stream(batch=batch)) == ["hello", "multiple", "worlds"]
        assert await values(core.read_stream(1, 2, batch=batch)) == ["multiple"]
        assert await values(core.read_stream(1, batch=batch)) == ["multiple", "worlds"]
        assert await values(core.read_stream(end=2, batch=batch)) == ["hello", "multiple"]
        assert await values(core.read_stream(5, batch=batch)) == []
        assert await values(core.read_stream(tail=True, batch=batch)) == []
        assert await values(core.read_stream(2, value_encoding="binary")) == [b"worlds"]


async def test_a_snapshot_ends_where_the_core_did_and_other_streams_where_it_does() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        await core.append([b"a", b"b"])
        snapshot, other = core.read_stream(), core.read_stream(snapshot=False)
        await core.append(b"c")
        assert (await values(snapshot), await values(other)) == ([b"a", b"b"], [b"a", b"b", b"c"])
        await core.append(b"d")
        assert await values(other) == [b"d"]


async def test_a_live_stream_waits_for_what_is_appended() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        await core.append([b"a", b"b"])
        live, tail = core.read_stream(live=True), core.read_stream(live=True, tail=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(core.append, [b"c", b"d", b"e"])
            assert await taken(live, 5) == [b"a", b"b", b"c", b"d", b"e"]
            assert await taken(tail, 3) == [b"c", b"d", b"e"]


async def test_a_receive_that_is_cancelled_leaves_the_stream_where_it_was() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        stream = core.read_stream(live=True)
        with trio.move_on_after(0):
            await stream.receive()
        assert stream.index == 0
        await core.append(b"a")
        assert await stream.receive() == b"a"


async def test_a_stream_that_does_not_wait_raises_and_can_go_on() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        await core.append([b"a", b"b"])
        await core.clear(1)
        stream = core.read_stream(wait=False)
        assert await stream.receive() == b"a"
        for _ in range(2):
            with pytest.raises(BlockNotAvailable):
                await stream.receive()


async def test_bytes_are_read_across_blocks() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        await core.append(["hello", "", "how", "are", "you"])
        assert await joined(core.byte_stream()) == b"hellohowareyou"
        assert await joined(core.byte_stream(4, 6)) == b"ohowar"
        assert await joined(core.byte_stream(5)) == b"howareyou"
        assert await joined(core.byte_stream(14)) == b""
        assert await joined(core.byte_stream(3, 0)) == b""
        stream = core.byte_stream(3)
        assert [await stream.receive_some(1), await stream.receive_some(), await stream.receive_some(2)] == [
            b"l",
            b"o",
            b"ho",
        ]


async def test_bytes_that_are_to_come_are_waited_for() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core, trio.open_nursery() as nursery:
        nursery.start_soon(core.append, ["hello", "world"])
        assert await joined(core.byte_stream(4, 3)) == b"owo"


async def test_what_is_sent_is_appended() -> None:
    async with hyperfs.open_core(hyperfs.memory(), value_encoding="json") as core:
        async with core.write_stream() as stream:
            for value in ("a", [1, 2, 3], {"b": None}):
                await stream.send(value)
        assert core.core.durable_length == 3
        assert await values(core.read_stream()) == ["a", [1, 2, 3], {"b": None}]
        with pytest.raises(trio.ClosedResourceError):
            await stream.send("late")
        assert await core.append("d") == 3


async def test_what_is_too_long_for_a_block_is_cut() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        stream = core.write_stream(max_block_size=100)
        await stream.send(bytes(1024))
        await stream.send(b"")
        assert [len(await core.get(index)) for index in range(core.length)] == [100] * 10 + [24, 0]
        assert (await core.signature(0)).index == 10
        with pytest.raises(ValueError, match="at most 0"):
            core.write_stream(max_block_size=0)


async def test_one_core_is_streamed_into_another() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as one, hyperfs.open_core(hyperfs.memory()) as other:
        await one.append(["hello", "world"])
        async with other.write_stream() as stream:
            async for value in one.read_stream():
                await stream.send(value)
        assert await values(other.read_stream()) == [b"hello", b"world"]


async def test_a_stream_that_is_closed_says_so() -> None:
    async with hyperfs.open_core(hyperfs.memory()) as core:
        await core.append(b"a")
        blocks, pieces = core.read_stream(), core.byte_stream()
        await blocks.aclose()
        await pieces.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await blocks.receive()
        with pytest.raises(trio.ClosedResourceError):
            await pieces.receive_some()
