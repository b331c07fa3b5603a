"""A core's blocks one after another, its bytes, and a way to append as one sends.

The rule: a stream holds nothing but its place. It may be left at any time without being closed, several can go at once,
and a read or a send that is cancelled leaves it where it was. What it asked for ahead still comes when it is left.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

from hyperfs.core.core import Core
from hyperfs.library.encodings import ValueEncoding

READ_AHEAD_BLOCKS: Final = 64
"""How many blocks a stream asks for at a time."""

ReadBlock = Callable[[int], Awaitable[bytes]]


class ReadStream(trio.abc.ReceiveChannel[Any]):
    """The values of blocks, in order: an asynchronous iterator, and a receiving channel of trio's.

    Made by `OpenCore.read_stream`. Raises as `OpenCore.get` does; asked again, it tries the same block again, unless
    `index` was set to another one. One task may read at a time.
    """

    def __init__(
        self,
        core: Core,
        encoding: ValueEncoding,
        *,
        start: int,
        end: int | None,
        snapshot: bool,
        live: bool,
        read: ReadBlock,
        batch: int,
    ) -> None:
        self.index = start
        """The block that comes next."""
        self._core = core
        self._encoding = encoding
        self._end = core.length if end is None and snapshot and not live else end
        self._live = live
        self._read = read
        self._ahead = _Ahead(core, batch)
        self._one = _OneReader()
        self._closed = False

    async def receive(self) -> Any:
        """Return the next value. Raises `trio.EndOfChannel` at the end.

        Raises `trio.ClosedResourceError`, and `trio.BusyResourceError` while another task reads.
        """
        if self._closed:
            raise trio.ClosedResourceError
        with self._one.reads():
            end = self._end
            if end is None and not self._live:
                end = self._core.length
            if end is not None and self.index >= end:
                await trio.lowlevel.checkpoint()
                raise trio.EndOfChannel
            self._ahead.ask(self.index, self._core.length if end is None else end)
            index = self.index
            value = self._encoding.decode(await self._read(index))
            self.index = index + 1
            return value

    async def aclose(self) -> None:
        """End the stream."""
        self._closed = True
        await trio.lowlevel.checkpoint()


class ByteStream(trio.abc.ReceiveStream):
    """A core's bytes across blocks: an asynchronous iterator of pieces, and a receiving stream of trio's.

    Made by `OpenCore.byte_stream`. No piece is empty, or reaches over the end of a block. Raises as `OpenCore.seek` and
    `OpenCore.get` do; asked again, it goes on where it was. One task may read at a time.
    """

    def __init__(
        self,
        core: Core,
        *,
        start: int,
        size: int,
        seek: Callable[[int], Awaitable[tuple[int, int]]],
        read: ReadBlock,
        batch: int,
    ) -> None:
        self.byte_offset = start
        """Where the next piece begins."""
        self._core = core
        self._end = start + size
        self._seek = seek
        self._read = read
        self._ahead = _Ahead(core, batch)
        self._index = -1
        self._block = b""
        self._at = 0
        self._one = _OneReader()
        self._closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next piece, of at most ``max_bytes``; nothing at the end.

        Raises `trio.ClosedResourceError`, and `trio.BusyResourceError` while another task reads.
        """
        if self._closed:
            raise trio.ClosedResourceError
        with self._one.reads():
            return await self._receive_some(max_bytes)

    async def _receive_some(self, max_bytes: int | None) -> bytes:
        if self.byte_offset >= self._end:
            await trio.lowlevel.checkpoint()
            return b""
        if self._index < 0:
            index, at = await self._seek(self.byte_offset)
            self._block = await self._load(index)
            self._index, self._at = index, at
        while self._at >= len(self._block):
            self._block = await self._load(self._index + 1)
            self._index, self._at = self._index + 1, 0
        size = min(len(self._block) - self._at, self._end - self.byte_offset)
        size = size if max_bytes is None else min(size, max_bytes)
        piece = self._block[self._at : self._at + size]
        self._at += size
        self.byte_offset += size
        return piece

    async def aclose(self) -> None:
        """End the stream."""
        self._closed = True
        self._block = b""
        await trio.lowlevel.checkpoint()

    async def _load(self, index: int) -> bytes:
        self._ahead.ask(index, self._core.length)
        return await self._read(index)


class WriteStream(trio.abc.SendChannel[Any]):
    """Appends what is sent to it: a sending channel of trio's. Made by `OpenCore.write_stream`.

    Each `send` is one `OpenCore.append`, with what that promises once it returns; `aclose`, and leaving its ``async
    with`` block, also waits until all of it is on the disk.
    """

    def __init__(self, core: Core, encoding: ValueEncoding, *, max_block_size: int | None) -> None:
        self._core = core
        self._encoding = encoding
        self._max_block_size = max_block_size
        self._closed = False

    async def send(self, value: Any) -> None:
        """Append one value, a list too. Raises as `OpenCore.append`, and `trio.ClosedResourceError`.

        Cancelled, nothing of it is appended.
        """
        if self._closed:
            raise trio.ClosedResourceError
        block = self._encoding.encode(value)
        size = self._max_block_size or len(block) or 1
        await self._core.append([block[at : at + size] for at in range(0, len(block), size)] or [b""])

    async def aclose(self) -> None:
        """End the stream, and return once all that was sent is on the disk. Raises OSError, `DamagedStore`.

        Cancelled, it is ended, and what was sent becomes durable as what is appended does.
        """
        was_closed, self._closed = self._closed, True
        if was_closed or self._core.closed:  # closing a core makes all of it durable
            await trio.lowlevel.checkpoint()
        else:
            await self._core.sync()


class _OneReader:
    """Refuses a second reader as long as there is one, as trio's own streams do."""

    def __init__(self) -> None:
        self._is_reading = False

    @contextmanager
    def reads(self) -> Iterator[None]:
        """Read within. Raises `trio.BusyResourceError`."""
        if self._is_reading:
            raise trio.BusyResourceError("another task is reading this stream")
        self._is_reading = True
        try:
            yield
        finally:
            self._is_reading = False


class _Ahead:
    """Asks for ``batch`` blocks at a time, before the last of those before them is read."""

    def __init__(self, core: Core, batch: int) -> None:
        self._core = core
        self._batch = batch
        self._asked = -1

    def ask(self, index: int, end: int) -> None:
        """Have the blocks behind ``index`` brought, as far as ``end``, unless they were asked for."""
        if index + self._batch // 2 > self._asked and self._batch > 1:
            start = max(index + 1, self._asked)
            stop = min(index + 1 + self._batch, end)
            if start < stop:
                self._core.prefetch([range(start, stop)])
                self._asked = stop
