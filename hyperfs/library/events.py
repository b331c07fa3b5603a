"""What happens to a core, as events that a program iterates over.

The rule: an iterator keeps at most `MAX_EVENTS` that were not read, and neighbouring blocks count as one; what was
downloaded or uploaded is read from the core when its event is. Past the bound the oldest events go, and one `Missed`
says how many, so whoever reads too slowly learns of it, and nobody else is held up.
"""

import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from hyperfs.errors import Closed
from hyperfs.library.peers import CorePeer, Traffic
from hyperfs.replication.peer import Peer

if TYPE_CHECKING:
    from hyperfs.core.core import Core
    from hyperfs.library.extensions import Extension

MAX_EVENTS: Final = 1024


@dataclass(frozen=True, slots=True)
class Ready:
    """The first event: what the core was when the iterator was made."""

    length: int
    byte_length: int


@dataclass(frozen=True, slots=True)
class Appended:
    """The core is longer: somebody here appended, or a peer proved that the owner did."""

    length: int
    byte_length: int


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A block came from ``peer``. ``data`` is its bytes, or None when it is gone again."""

    index: int
    data: bytes | None
    peer: CorePeer | None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A block goes to ``peer``. ``data`` is its bytes, or None when it is gone by now."""

    index: int
    data: bytes | None
    peer: CorePeer | None


@dataclass(frozen=True, slots=True)
class Synced:
    """All blocks of somebody else's core, from 0 to ``length``, are here."""

    length: int


@dataclass(frozen=True, slots=True)
class PeerOpened:
    """A peer is here that has the key of the core."""

    peer: CorePeer


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A peer is here no more."""

    peer: CorePeer


@dataclass(frozen=True, slots=True)
class Failed:
    """What was written could not be made durable. An OSError is tried again; a `DamagedStore` is for good."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Missed:
    """So many events were dropped here, because they were not read in time."""

    count: int


@dataclass(frozen=True, slots=True)
class CoreClosed:
    """The last event."""


Event = Ready | Appended | Downloaded | Uploaded | Synced | PeerOpened | PeerGone | Failed | Missed | CoreClosed


class _Blocks:
    """Events of one kind about neighbouring blocks, of which those of [start, stop) were not read."""

    __slots__ = ("kind", "peer", "start", "stop")

    def __init__(self, kind: type[Downloaded | Uploaded], start: int, stop: int, peer: CorePeer | None) -> None:
        self.kind = kind
        self.start = start
        self.stop = stop
        self.peer = peer


class EventStream(trio.abc.AsyncResource):
    """The events of a core from now on, in the order in which they happen. Made by `OpenCore.events`.

    It ends after `CoreClosed`. One that nobody holds any more keeps nothing. Cancelled, the next event is still next.
    """

    def __init__(self, core: "Core", kinds: tuple[type[Event], ...]) -> None:
        self._core = core
        self._kinds = kinds
        self._queue: deque[Event | _Blocks] = deque()
        self._missed = 0
        self._news = trio.Event()
        self._closed = False

    def __aiter__(self) -> "EventStream":
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._missed:
                count, self._missed = self._missed, 0
                return Missed(count)
            if self._queue:
                entry = self._queue[0]
                if not isinstance(entry, _Blocks):
                    return self._queue.popleft()  # type: ignore[return-value]  # which it was a line above
                index = entry.start
                data = await self._read(index)
                if self._queue and self._queue[0] is entry and entry.start == index:
                    entry.start += 1
                    if entry.start == entry.stop:
                        self._queue.popleft()
                    return entry.kind(index, data, entry.peer)
            elif self._closed:
                raise StopAsyncIteration
            else:
                if self._news.is_set():  # else somebody waits for it
                    self._news = trio.Event()
                await self._news.wait()

    async def aclose(self) -> None:
        """Hear of nothing more."""
        self._closed = True
        self._queue.clear()
        self._missed = 0
        self._news.set()
        await trio.lowlevel.checkpoint()

    def put(self, event: Event) -> None:
        """Have an event read, unless its kind is not wanted."""
        if not self._kinds or isinstance(event, (*self._kinds, CoreClosed)):
            self._add(event)
            self._closed = self._closed or isinstance(event, CoreClosed)

    def put_blocks(self, kind: type[Downloaded | Uploaded], start: int, stop: int, peer: CorePeer | None) -> None:
        """Have an event for each block of [start, stop) read."""
        if self._kinds and kind not in self._kinds:
            return
        last = self._queue[-1] if self._queue else None
        if isinstance(last, _Blocks) and (last.kind, last.stop, last.peer) == (kind, start, peer):
            last.stop = stop
        else:
            self._add(_Blocks(kind, start, stop, peer))

    async def _read(self, index: int) -> bytes | None:
        try:
            return await self._core.get_here(index)
        except Closed:
            return None

    def _add(self, entry: Event | _Blocks) -> None:
        if self._closed:
            return
        if len(self._queue) >= MAX_EVENTS:
            gone = self._queue.popleft()
            self._missed += gone.stop - gone.start if isinstance(gone, _Blocks) else 1
        self._queue.append(entry)
        self._news.set()


class Hub:
    """Hears what happens to one core, and tells the iterators; knows the core's peers, and its extensions.

    A `hyperfs.core.listener.CoreListener` and a `hyperfs.replication.observer.ExchangeObserver`.
    """

    def __init__(self, core: "Core") -> None:
        self.peers: dict[Peer, CorePeer] = {}
        self.extensions: dict[str, Extension] = {}
        self.gone = Traffic()
        """What came from and went to peers that are here no more."""
        self._core = core
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()

    def stream(self, kinds: tuple[type[Event], ...]) -> EventStream:
        """Return an iterator over what happens from now on."""
        stream = EventStream(self._core, kinds)
        stream.put(Ready(self._core.length, self._core.byte_length))
        if self._core.closed:
            stream.put(CoreClosed())
        else:
            self._streams.add(stream)
        return stream

    def tell(self, event: Event) -> None:
        """Have everybody hear of ``event``."""
        for stream in self._streams:
            stream.put(event)

    # of the core

    def extended(self, core: "Core", old_length: int, new_length: int) -> None:
        """See `CoreListener.extended`."""
        self.tell(Appended(core.length, core.byte_length))

    def stored(self, core: "Core", start: int, end: int, origin: object) -> None:
        """See `CoreListener.stored`."""
        if origin is None:
            return
        peer = self.peers.get(origin) if isinstance(origin, Peer) else None
        for stream in self._streams:
            stream.put_blocks(Downloaded, start, end, peer)
        if not core.writable and core.has(0, core.length):
            self.tell(Synced(core.length))

    def cleared(self, core: "Core", start: int, end: int) -> None:
        """See `CoreListener.cleared`."""

    def durable(self, core: "Core", length: int) -> None:
        """See `CoreListener.durable`."""

    # of its peers

    def peer_opened(self, peer: Peer) -> None:
        """See `ExchangeObserver.peer_opened`."""
        self.peers[peer] = CorePeer(peer)
        self.tell(PeerOpened(self.peers[peer]))

    def peer_left(self, peer: Peer) -> None:
        """See `ExchangeObserver.peer_left`."""
        known = self.peers.pop(peer)
        self.gone += known.stats
        self.tell(PeerGone(known))

    def uploaded(self, peer: Peer, index: int) -> None:
        """See `ExchangeObserver.uploaded`."""
        for stream in self._streams:
            stream.put_blocks(Uploaded, index, index + 1, self.peers.get(peer))

    def received(self, peer: Peer, name: str, payload: bytes) -> None:
        """See `ExchangeObserver.received`."""
        if name in self.extensions and peer in self.peers:
            self.extensions[name].put(payload, self.peers[peer])
