"""Reading a core as a program does: values, batches, streams, places of bytes, and what proves them.

The rule: every question has an answer from here, or waits for peers until it has; how long is said by whoever asks,
by ``wait``, ``timeout`` or a cancel scope of trio's. A wait that is cancelled asks for nothing more.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import trio

from hyperfs.core.core import Core
from hyperfs.core.nonblocking import run_with_reads
from hyperfs.core.reader import Priority
from hyperfs.drive.nursery import open_work
from hyperfs.errors import BlockNotAvailable, Closed, TimedOut, short
from hyperfs.library.connection import Connection
from hyperfs.library.encodings import ValueEncoding, encoding_of
from hyperfs.library.offers import until_missed, until_none_offers_any
from hyperfs.library.streams import READ_AHEAD_BLOCKS, ByteStream, ReadStream
from hyperfs.replication.exchange import Exchange
from hyperfs.replication.status import Follow
from hyperfs.tree_node import TreeNode

_NO_LIMIT: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of a core: ``index`` is the last block that it covers, ``signature`` its 64 bytes."""

    index: int
    signature: bytes


class ReadableCore:
    """What of an `hyperfs.library.core.OpenCore` is for reading."""

    def __init__(self, core: Core, exchange: Exchange, encoding: ValueEncoding, *, if_available: bool) -> None:
        self.core = core
        """The core beneath, for what is not here."""
        self.if_available = if_available
        """Whether what is not here is waited for only if peers that are here have it, unless a call says otherwise."""
        self._exchange = exchange
        self._encoding = encoding
        self._connections: dict[Connection, None] = {}
        self._follow = exchange.follow
        self._heads_wanted = 0

    # What it is

    @property
    def writable(self) -> bool:
        """Whether it can be appended to: its secret key is here, and it is open."""
        return self.core.writable and not self.core.closed

    @property
    def readable(self) -> bool:
        """Whether it is open."""
        return not self.core.closed

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.core.closed

    @property
    def key(self) -> bytes:
        """The public key, 32 bytes: who has it can read the core, and check that nobody else wrote it."""
        return self.core.key

    @property
    def secret_key(self) -> bytes | None:
        """The secret key, 64 bytes, of a core that is writable."""
        return self.core.secret_key

    @property
    def discovery_key(self) -> bytes:
        """The name under which peers look for the core, 32 bytes, which does not tell the key."""
        return self.core.discovery_key

    @property
    def length(self) -> int:
        """How many blocks there are, as far as is verified here; not how many are downloaded."""
        return self.core.length

    @property
    def byte_length(self) -> int:
        """How many bytes all these blocks have together."""
        return self.core.byte_length

    # Reading

    def has(self, start: int, end: int | None = None) -> bool:
        """Tell whether block ``start``, or all blocks of [start, end), are here."""
        return self.core.has(start, start + 1 if end is None else end)

    def downloaded(self, start: int = 0, end: int | None = None) -> int:
        """Return how many blocks of [start, end) are here; ``end`` is the core's unless it is given."""
        return self.core.count(start, max(start, self.length if end is None else end))

    async def get(
        self,
        index: int,
        *,
        wait: bool = True,
        timeout: float | None = None,
        if_available: bool | None = None,
        value_encoding: str | ValueEncoding | None = None,
    ) -> Any:
        """Return the value of block ``index``.

        One that is not here is asked of the peers there are, and of all that come, until one has brought it. Without
        ``wait`` it raises `BlockNotAvailable` instead, and `TimedOut` when it has not come within ``timeout`` seconds.
        With ``if_available`` it raises `BlockNotAvailable` once the peers that are connected, or connecting, have said
        what they have, and none has it, or has it any more. ``if_available`` and ``value_encoding`` are the core's own
        unless they are given; what the encoding raises is raised.
        """
        encoding = self._encoding_of(value_encoding)
        if not wait:
            block = await self.core.get_here(index)
            if block is None:
                raise BlockNotAvailable(f"block {index} of core {short(self.key)} is not here")
        else:
            with self._limited(timeout, f"block {index}"):
                if self._only_if_available(if_available):
                    await self._fetch_offered(range(index, index + 1))
                block = await self.core.get(index)
        return encoding.decode(block)

    async def get_batch(
        self,
        start: int,
        end: int,
        *,
        wait: bool = True,
        timeout: float | None = None,
        if_available: bool | None = None,
        value_encoding: str | ValueEncoding | None = None,
    ) -> list[Any]:
        """Return the values of the blocks [start, end). All that are not here are asked for at once; else as `get`."""
        encoding = self._encoding_of(value_encoding)
        with self._limited(timeout, f"blocks {start} to {end - 1}"):
            if wait and self._only_if_available(if_available):
                await self._fetch_offered(range(start, end))
            elif wait:
                await self.core.fetch([range(start, end)])
            return [encoding.decode(await self._now_here(index, wait=wait)) for index in range(start, end)]

    async def head(
        self,
        *,
        update: bool = False,
        wait: bool = True,
        timeout: float | None = None,
        if_available: bool | None = None,
        value_encoding: str | ValueEncoding | None = None,
    ) -> Any:
        """Return the value of the last block, as `get` does. Raises `BlockNotAvailable` for a core without blocks.

        Peers may know of a later one. With ``update`` the last block is that after an `update`: it waits for the core
        to grow, or, with ``if_available``, only to where peers that are here say that it has.
        """
        with self._limited(timeout, "the last block"):
            if update:
                await self.update(if_available=if_available)
            if not self.length:
                raise BlockNotAvailable(f"core {short(self.key)} is empty, as far as is known here")
            return await self.get(self.length - 1, wait=wait, if_available=if_available, value_encoding=value_encoding)

    async def seek(
        self,
        byte_offset: int,
        *,
        wait: bool = True,
        timeout: float | None = None,
        if_available: bool | None = None,
    ) -> tuple[int, int]:
        """Return (index of the block that holds ``byte_offset``, offset within that block).

        The end of the core is (length, 0). An offset beyond it is waited for, and so is what the tree here does not
        tell, as `get` does with a block, whose options these are. Raises ValueError for a negative one.
        """
        if byte_offset < 0:
            raise ValueError(f"a byte offset of {byte_offset}")
        if not wait:
            here = byte_offset <= self.byte_length
            found = await run_with_reads(self.core.seek_local, byte_offset) if here else None
            if found is None:
                raise BlockNotAvailable(f"nothing here tells where byte {byte_offset} of core {short(self.key)} is")
            return found
        with self._limited(timeout, f"byte {byte_offset}"):
            if self._only_if_available(if_available):
                return await self._seek_offered(byte_offset)
            while byte_offset > self.byte_length:
                await self.update(if_available=False)
            return await self.core.seek(byte_offset)

    async def update(
        self, min_length: int | None = None, *, if_available: bool | None = None, timeout: float | None = None
    ) -> bool:
        """Return once the core has ``min_length`` blocks, by default one more than now; True then.

        No block is downloaded for it, only the proof of the new length. With ``if_available``, the core's own unless it
        is given, it waits only for what the peers that are connected, or connecting, have to say, and returns whether
        it came true. Raises `TimedOut`.
        """
        wanted = self.length + 1 if min_length is None else min_length
        if self.length >= wanted:
            return True
        with self._limited(timeout, f"a length of {wanted}"):
            if self._only_if_available(if_available):
                await self._heard()
                await self.core.update()
                return self.length >= wanted
            with self._following():
                async with open_work() as nursery:
                    nursery.start_soon(self.core.update)
                    await self.core.wait_longer(wanted - 1)
                    nursery.cancel_scope.cancel()
        return True

    def read_stream(
        self,
        start: int = 0,
        end: int | None = None,
        *,
        snapshot: bool = True,
        tail: bool = False,
        live: bool = False,
        wait: bool = True,
        timeout: float | None = None,
        if_available: bool | None = None,
        batch: int = READ_AHEAD_BLOCKS,
        value_encoding: str | ValueEncoding | None = None,
    ) -> ReadStream:
        """Return the values of blocks from ``start`` on, one after another: ``async for value in core.read_stream()``.

        It ends at block ``end``; without one at the length that the core has now, or, if it is no ``snapshot``, has
        when the stream comes there. ``tail`` begins at that length; ``live`` never ends, and waits for what is
        appended. ``wait``, ``timeout`` and ``if_available`` are those of `get`, for each block; a ``live`` stream waits
        unless it is told otherwise. ``batch`` is how many blocks are asked for together with the one that is read.
        """
        if live and if_available is None:
            if_available = False
        return ReadStream(
            self.core,
            self._encoding_of(value_encoding),
            start=self.length if tail else start,
            end=end,
            snapshot=snapshot,
            live=live,
            read=lambda index: self.get(
                index, wait=wait, timeout=timeout, if_available=if_available, value_encoding="binary"
            ),
            batch=batch if wait else 1,
        )

    def byte_stream(
        self,
        byte_offset: int = 0,
        byte_length: int | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
        if_available: bool | None = None,
        batch: int = READ_AHEAD_BLOCKS,
    ) -> ByteStream:
        """Return the bytes from ``byte_offset`` on across blocks: ``async for piece in core.byte_stream(1000, 50)``.

        It ends after ``byte_length`` bytes; without one at the `byte_length` that the core has now. The rest is as for
        `read_stream`; no encoding is applied.
        """
        return ByteStream(
            self.core,
            start=byte_offset,
            size=max(0, self.byte_length - byte_offset) if byte_length is None else byte_length,
            seek=lambda offset: self.seek(offset, wait=wait, timeout=timeout, if_available=if_available),
            read=lambda index: self.get(
                index, wait=wait, timeout=timeout, if_available=if_available, value_encoding="binary"
            ),
            batch=batch if wait else 1,
        )

    # Proofs

    async def signature(self, index: int | None = None) -> Signature:
        """Return the first signature that covers block ``index``, by default the last block.

        Raises `BlockNotAvailable` when none is here.
        """
        index = self.length - 1 if index is None else index
        found = await self.core.signature(index) if 0 <= index < self.length else None
        if found is None:
            raise BlockNotAvailable(f"core {short(self.key)} has no signature of block {index} here")
        return Signature(*found)

    async def verify(self, index: int, signature: bytes) -> bool:
        """Tell whether ``signature`` (64 bytes) is this core's key's for the blocks up to and with ``index``.

        Raises `BlockNotAvailable` when the tree here does not reach there.
        """
        roots = await self.core.roots(index + 1)
        return self.core.format.verify(roots, index + 1, signature, self.key)

    async def root_hashes(self, index: int) -> list[TreeNode]:
        """Return the roots of the tree of the blocks up to and with ``index``, from the left.

        Each has ``tree_index``, ``hash`` (32 bytes) and ``size``, the bytes of all blocks below it. Raises
        `BlockNotAvailable` when they are not all here.
        """
        return await self.core.roots(index + 1)

    # Within

    def _encoding_of(self, encoding: str | ValueEncoding | None) -> ValueEncoding:
        return self._encoding if encoding is None else encoding_of(encoding)

    def _only_if_available(self, if_available: bool | None) -> bool:
        return self.if_available if if_available is None else if_available

    async def _heard(self) -> None:
        """Return once the peers that are connected, or connecting, are known."""
        for connection in list(self._connections):
            await connection.heard()

    async def _fetch_offered(self, blocks: range) -> None:
        """Have ``blocks`` brought. Raises `BlockNotAvailable` as soon as nobody who is here has one of them."""
        if self.closed or self.core.has(blocks.start, blocks.stop):
            return  # which whoever reads hears of
        demand = self._exchange.demand([blocks], Priority.URGENT)
        try:
            await self._heard()
            async with open_work() as nursery:
                nursery.start_soon(self._refuse_missed, blocks)
                await self.core.fetch([blocks])
                nursery.cancel_scope.cancel()
        finally:
            self._exchange.withdraw(demand)

    async def _refuse_missed(self, blocks: range) -> None:
        index = await until_missed(self._exchange, blocks)
        self._refuse(f"none of the peers that are here has block {index} of core {short(self.key)}")

    async def _seek_offered(self, byte_offset: int) -> tuple[int, int]:
        """Seek among what is here, and what the peers that are here have. Raises `BlockNotAvailable`."""
        if byte_offset > self.byte_length:
            await self._heard()
            await self.core.update()
            if byte_offset > self.byte_length:
                self._refuse(f"none of the peers that are here has byte {byte_offset} of core {short(self.key)}")
        found = await run_with_reads(self.core.seek_local, byte_offset)
        if found is not None:
            return found
        await self._heard()
        blocks = await self.core.locate(byte_offset)
        with self._exchange.seeks.seeking(blocks):
            async with open_work() as nursery:
                nursery.start_soon(self._refuse_unsought, byte_offset, blocks)
                found = await self.core.seek(byte_offset)
                nursery.cancel_scope.cancel()
        return found

    async def _refuse_unsought(self, byte_offset: int, blocks: range) -> None:
        await until_none_offers_any(self._exchange, blocks)
        self._refuse(f"none of the peers that are here tells where byte {byte_offset} of core {short(self.key)} is")

    def _refuse(self, message: str) -> NoReturn:
        if self.closed:  # which is why they are not here any more
            raise Closed(f"core {short(self.key)} is closed")
        raise BlockNotAvailable(message)

    async def _now_here(self, index: int, *, wait: bool) -> bytes:
        """Return a block that is here, or, with ``wait``, was a moment ago."""
        block = await self.core.get_here(index)
        if block is not None:
            return block
        if not wait:
            raise BlockNotAvailable(f"block {index} of core {short(self.key)} is not here")
        return await self.core.get(index)

    @contextlib.contextmanager
    def _limited(self, timeout: float | None, what: str) -> Iterator[None]:
        """Raise `TimedOut` when what is done within takes longer than ``timeout`` seconds."""
        with trio.move_on_after(_NO_LIMIT if timeout is None else timeout) as scope:
            yield
        if scope.cancelled_caught:
            raise TimedOut(f"{what} of core {short(self.key)} did not come within {timeout:g} s")

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """Have the proof of each longer length asked for that a peer announces meanwhile."""
        self._heads_wanted += 1
        if self._follow is Follow.NOTHING:
            self._exchange.follow = Follow.LENGTH
        try:
            yield
        finally:
            self._heads_wanted -= 1
            if not self._heads_wanted:
                self._exchange.follow = self._follow
