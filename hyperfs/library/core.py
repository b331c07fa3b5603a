"""A core as a program has it: values in and out, and whatever is not here brought by peers.

The rule: every question has an answer from here, or waits for peers until it has; how long is said by whoever asks,
by ``wait``, ``timeout`` or a cancel scope of trio's. A wait that is cancelled asks for nothing more.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import trio

from hyperfs.core.core import Core
from hyperfs.core.nonblocking import run_with_reads
from hyperfs.core.proofs import MAX_LENGTH
from hyperfs.core.reader import Priority
from hyperfs.drive.nursery import open_work
from hyperfs.errors import BlockNotAvailable, Closed, TimedOut, UsageError, short
from hyperfs.library.connection import Connection, Together
from hyperfs.library.downloads import Download
from hyperfs.library.encodings import ValueEncoding, encoding_of
from hyperfs.library.events import CoreClosed, Event, EventStream, Failed, Hub
from hyperfs.library.extensions import Extension
from hyperfs.library.peers import CorePeer, Traffic
from hyperfs.library.streams import READ_AHEAD_BLOCKS, ByteStream, ReadStream, WriteStream
from hyperfs.protocol.codec import MAX_EXTENSION_NAME_BYTES, MAX_EXTENSIONS
from hyperfs.replication.exchange import Exchange
from hyperfs.replication.ranges import Ranges
from hyperfs.replication.status import Ending, Follow
from hyperfs.tree_node import TreeNode

_NO_LIMIT: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of a core: ``index`` is the last block that it covers, ``signature`` its 64 bytes."""

    index: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class AuditReport:
    """How many of the blocks that were here are what the tree says, and which are not and were forgotten."""

    valid: int
    invalid: int
    cleared: tuple[int, ...]


class OpenCore:
    """A core that this process owns. Made by `open_core`, and open as long as that block lasts.

    Blocks are counted from 0, sizes and offsets are in bytes, times in seconds. Indices of blocks may lie beyond
    `length`: such a block is waited for until somebody appends it. Once the core is closed everything raises `Closed`,
    also what waits by then.
    """

    def __init__(
        self,
        core: Core,
        exchange: Exchange,
        *,
        encoding: ValueEncoding,
        sparse: bool,
        erase: Callable[[], None],
    ) -> None:
        self.core = core
        """The core beneath, for what is not here."""
        self.sparse = sparse
        """Whether only what is asked for is downloaded; if not, everything is."""
        self.together = Together()
        """What the connections of this core share."""
        self._exchange = exchange
        self._encoding = encoding
        self._erase = erase
        self._hub = Hub(core)
        self._connections: dict[Connection, None] = {}
        core.add_listener(self._hub)
        exchange.observer = self._hub
        if not (sparse or core.writable):
            exchange.want_everything()
        self._follow = exchange.follow
        self._heads_wanted = 0
        self._ended = False

    def __repr__(self) -> str:
        return f"<OpenCore {short(self.key)} length={self.length}{' writable' if self.writable else ''}>"

    def __len__(self) -> int:
        return self.length

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
        value_encoding: str | ValueEncoding | None = None,
    ) -> Any:
        """Return the value of block ``index``.

        One that is not here is asked of the peers there are, and of all that come, until one has brought it. Without
        ``wait`` it raises `BlockNotAvailable` instead, and `TimedOut` when it has not come within ``timeout`` seconds.
        ``value_encoding`` is used in place of the core's own; what it raises is raised.
        """
        encoding = self._encoding_of(value_encoding)
        if not wait:
            block = await self.core.get_here(index)
            if block is None:
                raise BlockNotAvailable(f"block {index} of core {short(self.key)} is not here")
        else:
            with self._limited(timeout, f"block {index}"):
                block = await self.core.get(index)
        return encoding.decode(block)

    async def get_batch(
        self,
        start: int,
        end: int,
        *,
        wait: bool = True,
        timeout: float | None = None,
        value_encoding: str | ValueEncoding | None = None,
    ) -> list[Any]:
        """Return the values of the blocks [start, end). All that are not here are asked for at once; else as `get`."""
        encoding = self._encoding_of(value_encoding)
        with self._limited(timeout, f"blocks {start} to {end - 1}"):
            if wait:
                await self.core.fetch([range(start, end)])
            return [encoding.decode(await self._now_here(index, wait=wait)) for index in range(start, end)]

    async def head(
        self,
        *,
        wait: bool = True,
        timeout: float | None = None,
        value_encoding: str | ValueEncoding | None = None,
    ) -> Any:
        """Return the value of the last block, as `get` does. Raises `BlockNotAvailable` for a core without blocks.

        Peers may know of a later one: see `update`.
        """
        if not self.length:
            raise BlockNotAvailable(f"core {short(self.key)} is empty, as far as is known here")
        return await self.get(self.length - 1, wait=wait, timeout=timeout, value_encoding=value_encoding)

    async def seek(self, byte_offset: int, *, wait: bool = True, timeout: float | None = None) -> tuple[int, int]:
        """Return (index of the block that holds ``byte_offset``, offset within that block).

        The end of the core is (length, 0). An offset beyond it is waited for, and so is what the tree here does not
        tell, as `get` does with a block. Raises ValueError for a negative one.
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
            while byte_offset > self.byte_length:
                await self.update()
            return await self.core.seek(byte_offset)

    async def update(
        self, min_length: int | None = None, *, if_available: bool = False, timeout: float | None = None
    ) -> bool:
        """Return once the core has ``min_length`` blocks, by default one more than now; True then.

        No block is downloaded for it, only the proof of the new length. With ``if_available`` it waits only for what
        the peers that are connected, or connecting, have to say, and returns whether it came true. Raises `TimedOut`.
        """
        wanted = self.length + 1 if min_length is None else min_length
        if self.length >= wanted:
            return True
        with self._limited(timeout, f"a length of {wanted}"):
            if if_available:
                for connection in list(self._connections):
                    await connection.heard()
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
        batch: int = READ_AHEAD_BLOCKS,
        value_encoding: str | ValueEncoding | None = None,
    ) -> ReadStream:
        """Return the values of blocks from ``start`` on, one after another: ``async for value in core.read_stream()``.

        It ends at block ``end``; without one at the length that the core has now, or, if it is no ``snapshot``, has
        when the stream comes there. ``tail`` begins at that length; ``live`` never ends, and waits for what is
        appended. ``wait`` and ``timeout`` are those of `get`, for each block. ``batch`` is how many blocks are asked
        for together with the one that is read.
        """
        return ReadStream(
            self.core,
            self._encoding_of(value_encoding),
            start=self.length if tail else start,
            end=end,
            snapshot=snapshot,
            live=live,
            read=lambda index: self.get(index, wait=wait, timeout=timeout, value_encoding="binary"),
            batch=batch if wait else 1,
        )

    def byte_stream(
        self,
        byte_offset: int = 0,
        byte_length: int | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
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
            seek=lambda offset: self.seek(offset, wait=wait, timeout=timeout),
            read=lambda index: self.get(index, wait=wait, timeout=timeout, value_encoding="binary"),
            batch=batch if wait else 1,
        )

    # Writing

    async def append(self, value: Any) -> int:
        """Append one block, or, for a list, one for each of its values, all under one signature; return its index.

        The index is the first one's. When this returns, the blocks are here for every reader, and outlive this process
        however it ends, if the core is in a directory. They are on the disk, and given to peers, a moment later (within
        50 ms and what a sync of the disk takes), or when `sync` returns: what a power cut takes back nobody has seen.

        Raises `NotWritable`, ValueError for a block over 8 MiB, what the encoding raises, `WriterBehind` and
        `WriterForked` when peers know of more than is here, OSError when the disk is full; then nothing is appended.
        Nor is it when this is cancelled. Appends that are made at once are made in the order in which they began.
        """
        values = value if isinstance(value, list) else [value]
        return await self.core.append([self._encoding.encode(one) for one in values])

    def write_stream(self, *, max_block_size: int | None = None) -> WriteStream:
        """Return a stream that appends each value that is sent to it: ``await stream.send(value)``.

        What it makes durable, and when, is said at `WriteStream`. Values that are longer than ``max_block_size`` once
        encoded are cut into blocks of that size, under one signature.
        """
        if max_block_size is not None and max_block_size < 1:
            raise ValueError(f"blocks of at most {max_block_size} bytes")
        return WriteStream(self.core, self._encoding, max_block_size=max_block_size)

    async def sync(self) -> None:
        """Return once everything appended and downloaded before is on the disk. Raises OSError, `DamagedStore`.

        Cancelled, it is done or not begun.
        """
        await self.core.sync()

    async def clear(self, start: int, end: int | None = None) -> None:
        """Forget block ``start``, or the blocks [start, end), and free their space; the tree stays.

        What is cleared is downloaded again only when somebody asks for it. Peers are told. Raises OSError. Cancelled,
        all of them are cleared, or none.
        """
        await self.core.clear(start, start + 1 if end is None else end)

    async def audit(self) -> AuditReport:
        """Read all blocks that are here again, and forget those that are not what the tree says.

        Raises `DamagedStore` when the tree itself is damaged. Cancelled, it has forgotten those it had found.
        """
        bad = await self.core.audit()
        return AuditReport(self.core.count(0, self.length), len(bad), tuple(bad))

    # Peers

    async def replicate(
        self,
        stream: trio.abc.Stream,
        *,
        initiator: bool,
        live: bool = False,
        encrypted: bool = True,
        upload: bool = True,
        download: bool = True,
        key: bytes | None = None,
        authenticate: Callable[[bytes], bool] | None = None,
    ) -> Ending:
        """Give and take blocks over ``stream`` until that ends, close it, and return why it ended.

        ``initiator`` is the side that dialled. Unless ``live`` it ends once neither side wants anything more; a sparse
        core always may. What the options mean is said at `Connection`, which carries several cores, and at its `add`.
        Nothing that the peer or the network does is raised. Cancelled, the stream is closed, and what came stays.
        """
        connection = Connection(
            stream, initiator=initiator, live=live, encrypted=encrypted, key=key, authenticate=authenticate
        )
        connection.add(self, upload=upload, download=download)
        return await connection.run()

    @property
    def peers(self) -> list[CorePeer]:
        """The peers that are here now, the oldest first."""
        return list(self._hub.peers.values())

    @property
    def stats(self) -> Traffic:
        """What came from and went to peers since the core was opened."""
        return sum((peer.stats for peer in self.peers), self._hub.gone)

    def set_uploading(self, uploading: bool, /) -> None:
        """Give peers blocks from now on, or none; those who connect later, too."""
        self._exchange.set_uploading(uploading=uploading)

    def set_downloading(self, downloading: bool, /) -> None:
        """Ask peers for blocks from now on, or for none: whoever waits goes on waiting."""
        self._exchange.set_downloading(downloading=downloading)

    def download(
        self, start: int = 0, end: int | None = None, *, blocks: Iterable[int] | None = None, linear: bool = False
    ) -> Download:
        """Have the blocks [start, end), or those of ``blocks``, brought: ``await core.download(0, 100)``.

        Without an end that is all there are and will be, and is never done. They come behind what somebody waits for.
        They are asked for in ascending order, ``linear`` or not; with several peers they may come in another one.
        Raises `Closed`.
        """
        self._check_open()
        stop = MAX_LENGTH if end is None else end
        wanted = [range(start, stop)] if blocks is None else list(Ranges.of(sorted(set(blocks))))
        missing = [part for whole in wanted for part in self.core.missing(whole.start, whole.stop)]
        endless = blocks is None and end is None
        priority = Priority.BACKGROUND if endless else Priority.AHEAD
        return Download(self._exchange, self._exchange.demand(missing, priority) if missing else None)

    def register_extension(self, name: str, *, encoding: str | ValueEncoding = "binary") -> Extension:
        """Speak an extension of the program's own with the peers of this core, those that are here, too.

        ``async for message, peer in extension`` gives what they send. Raises `UsageError` for a name that is taken,
        or longer than 256 bytes, `Closed`.
        """
        self._check_open()
        extensions = self._hub.extensions
        if name in extensions or len(name.encode()) > MAX_EXTENSION_NAME_BYTES or len(extensions) >= MAX_EXTENSIONS:
            raise UsageError(f"extension {name!r} of core {short(self.key)} is registered already, or is one too many")
        extension = Extension(name, encoding_of(encoding), peers=lambda: self.peers, on_close=self._unregister)
        extensions[name] = extension
        self._exchange.set_extensions(list(extensions))
        return extension

    def events(self, *kinds: type[Event]) -> EventStream:
        """Return an iterator over what happens to the core from now on, or over events of these kinds alone.

        The first one is `Ready`. How many are kept for whoever reads slowly is said at `hyperfs.library.events`.
        """
        return self._hub.stream(kinds)

    # Its end

    async def close(self) -> None:
        """Make everything durable, end its connections and close it, as leaving the block of `open_core` does.

        Whoever waits gets `Closed`. A second time does nothing. Cancelled, it still does. Raises as `Core.close`.
        """
        if self._ended:
            return
        self._ended = True
        for connection in list(self._connections):
            connection.remove(self)
        try:
            await self.core.close()  # before the exchange: who waits is to hear of this, and not of lacking peers
        finally:
            self._exchange.close()
            for extension in list(self._hub.extensions.values()):
                extension.close()
            self._hub.tell(CoreClosed())

    async def destroy_storage(self) -> None:
        """Close the core and remove its files; its keys go with them. Raises OSError.

        Cancelled, it is closed, and its files are there or gone.
        """
        await self.close()
        await trio.to_thread.run_sync(self._erase)

    def join(self, connection: Connection) -> Exchange:
        """Note that the core goes over a connection; `Connection.add` does. Raises `Closed`."""
        self._check_open()
        self._connections[connection] = None
        return self._exchange

    def part(self, connection: Connection) -> None:
        """Note that the core goes over a connection no more."""
        self._connections.pop(connection, None)

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

    def _check_open(self) -> None:
        if self.closed:
            raise Closed(f"core {short(self.key)} is closed")

    def _unregister(self, extension: Extension) -> None:
        if self._hub.extensions.get(extension.name) is extension:
            del self._hub.extensions[extension.name]
            if not self.closed:
                self._exchange.set_extensions(list(self._hub.extensions))

    def failed(self, core: Core, error: Exception) -> None:
        """Tell of a sync that failed."""
        self._hub.tell(Failed(error))

    def _encoding_of(self, encoding: str | ValueEncoding | None) -> ValueEncoding:
        return self._encoding if encoding is None else encoding_of(encoding)

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
