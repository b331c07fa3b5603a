"""Messages of a program's own between the peers of a core, under a name that both sides list.

The rule: a peer that sends faster than the program reads costs a bounded amount, and holds up nobody: at most
`MAX_MESSAGES` of `MAX_MESSAGE_BYTES` together are kept, and what comes beyond is dropped, and counted.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import trio

from hyperfs.drive.nursery import open_work
from hyperfs.errors import Closed
from hyperfs.library.encodings import ValueEncoding
from hyperfs.library.peers import CorePeer

log = logging.getLogger(__name__)

MAX_MESSAGES: Final = 1024
MAX_MESSAGE_BYTES: Final = 8 << 20


class Extension:
    """An extension of one core: an asynchronous iterator of (message, peer). Made by `OpenCore.register_extension`."""

    def __init__(
        self,
        name: str,
        encoding: ValueEncoding,
        *,
        peers: Callable[[], list[CorePeer]],
        on_close: Callable[["Extension"], None],
    ) -> None:
        self.name = name
        self.dropped = 0
        """How many messages were not kept, because too many waited to be read."""
        self._encoding = encoding
        self._peers = peers
        self._on_close: Callable[[Extension], None] | None = on_close
        self._messages: deque[tuple[bytes, CorePeer]] = deque()
        self._waiting_bytes = 0
        self._news = trio.Event()

    async def send(self, message: Any, peer: CorePeer) -> None:
        """Send one message to ``peer``, once it has read most of what it was sent before.

        A peer that does not list the extension passes it over, and one that has gone gets nothing. Raises ValueError
        for a message that does not fit a frame of 8 MiB, what the encoding raises, and `Closed`. Cancelled, nothing is
        sent.
        """
        await self._send(self._encoding.encode(message), peer)

    async def broadcast(self, message: Any) -> int:
        """Send one message to every peer that is here, to each as `send` does; return to how many.

        Cancelled, some of them get it.
        """
        payload = self._encoding.encode(message)
        self._check()
        peers = self._peers()
        async with open_work() as nursery:
            for peer in peers:
                nursery.start_soon(self._send, payload, peer)
        return len(peers)

    async def receive(self) -> tuple[Any, CorePeer]:
        """Return the next message that a peer sent, and the peer. Raises `Closed`. Cancelled, none is lost.

        One that cannot be decoded is left out, with a line in the log.
        """
        while True:
            while not self._messages:
                self._check()
                if self._news.is_set():  # else somebody waits for it
                    self._news = trio.Event()
                await self._news.wait()
            payload, peer = self._messages.popleft()
            self._waiting_bytes -= len(payload)
            try:
                return self._encoding.decode(payload), peer
            except Exception as error:  # noqa: BLE001 - the encoding is the program's, the bytes are a stranger's
                log.info("%s: a message of extension %s is none: %s", peer.name, self.name, error)

    def __aiter__(self) -> "Extension":
        return self

    async def __anext__(self) -> tuple[Any, CorePeer]:
        try:
            return await self.receive()
        except Closed:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """List the extension to peers no more; a second time does nothing. What came before can still be read."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)
            self._news.set()

    def put(self, payload: bytes, peer: CorePeer) -> None:
        """Take what ``peer`` sent."""
        if len(self._messages) >= MAX_MESSAGES or self._waiting_bytes + len(payload) > MAX_MESSAGE_BYTES:
            self.dropped += 1
            return
        self._messages.append((payload, peer))
        self._waiting_bytes += len(payload)
        self._news.set()

    def _check(self) -> None:
        if self._on_close is None:
            raise Closed(f"extension {self.name} is not registered any more")

    async def _send(self, payload: bytes, peer: CorePeer) -> None:
        self._check()
        await peer.send_extension(self.name, payload)
