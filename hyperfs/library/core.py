"""A core as a program has it: values in and out, and whatever is not here brought by peers.

The rule: what is written is here when a call returns, on the disk soon after, and with peers only then.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import trio

from hyperfs.core.core import Core
from hyperfs.core.proofs import MAX_LENGTH
from hyperfs.core.reader import Priority
from hyperfs.errors import Closed, UsageError, short
from hyperfs.library.connection import Connection, Together
from hyperfs.library.downloads import Download
from hyperfs.library.encodings import ValueEncoding, encoding_of
from hyperfs.library.events import CoreClosed, Event, EventStream, Failed, Hub
from hyperfs.library.extensions import Extension
from hyperfs.library.peers import CorePeer, Traffic
from hyperfs.library.reading import ReadableCore
from hyperfs.library.streams import WriteStream
from hyperfs.protocol.codec import MAX_EXTENSION_NAME_BYTES, MAX_EXTENSIONS
from hyperfs.replication.exchange import Exchange
from hyperfs.replication.ranges import Ranges
from hyperfs.replication.status import Ending


@dataclass(frozen=True, slots=True)
class AuditReport:
    """How many of the blocks that were here are what the tree says, and which are not and were forgotten."""

    valid: int
    invalid: int
    cleared: tuple[int, ...]


class OpenCore(ReadableCore):
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
        if_available: bool,
        erase: Callable[[], None],
    ) -> None:
        super().__init__(core, exchange, encoding, if_available=if_available)
        self.sparse = sparse
        """Whether only what is asked for is downloaded; if not, everything is."""
        self.together = Together()
        """What the connections of this core share."""
        self._erase = erase
        self._hub = Hub(core)
        core.add_listener(self._hub)
        exchange.observer = self._hub
        if not (sparse or core.writable):
            exchange.want_everything()
        self._ended = False

    def __repr__(self) -> str:
        return f"<OpenCore {short(self.key)} length={self.length}{' writable' if self.writable else ''}>"

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
