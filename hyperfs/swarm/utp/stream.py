"""uTP connections as trio's streams.

The one rule: a stream is closed by whoever holds it; what it wrote before still arrives, if that is possible within
`LINGER_SECONDS`.
"""

from __future__ import annotations

import errno
from typing import Final

import trio

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.utp.connection import State
from hyperfs.swarm.utp.endpoint import UtpEndpoint, UtpLink

_RECEIVE_BYTES: Final = 1 << 16


class UtpStream(trio.abc.HalfCloseableStream):
    """One connection. Made by `connect`, or of what an endpoint accepts."""

    def __init__(self, link: UtpLink) -> None:
        self.address: Address = link.address
        """Where the other side is."""
        self._link = link
        self._waiting = trio.lowlevel.ParkingLot()
        self._closed = False
        self._finished = False
        self._sending = False
        self._receiving = False
        link.notify = self._notify

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes as soon as there are some, b"" after the last. See `trio.abc.ReceiveStream`."""
        await trio.lowlevel.checkpoint()
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving")
        self._receiving = True
        try:
            while True:
                self._check_open()
                data = self._link.read(_RECEIVE_BYTES if max_bytes is None else max_bytes)
                if data or self._link.connection.is_complete:
                    return data
                self._check_up()
                await self._waiting.park()
        finally:
            self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; returns when they are sent, or few of them wait. See `trio.abc.SendStream`.

        Cancelled, an unknown part of them is sent.
        """
        await trio.lowlevel.checkpoint()
        if self._sending:
            raise trio.BusyResourceError("another task is sending")
        self._sending = True
        try:
            self._check_writable()
            self._link.write(data)
            while not self._link.connection.has_room:
                await self._waiting.park()
                self._check_writable()
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Return when there is room. See `trio.abc.SendStream`."""
        await self.send_all(b"")

    async def send_eof(self) -> None:
        """Say that nothing more will be sent; what comes can still be received. See `trio.abc.HalfCloseableStream`."""
        await trio.lowlevel.checkpoint()
        if self._finished:
            return
        self._check_writable()
        self._finished = True
        self._link.finish()

    async def aclose(self) -> None:
        """Close it. What was sent arrives yet, if it can; cancelled or not, it is closed."""
        if not self._closed:
            self._closed = True
            self._link.leave()
            self._notify()
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")

    def _check_up(self) -> None:
        if self._link.connection.state is State.ENDED:
            raise trio.BrokenResourceError(f"the connection is gone: {self._link.connection.problem}")

    def _check_writable(self) -> None:
        self._check_open()
        self._check_up()
        if self._finished:
            raise trio.ClosedResourceError("nothing can be sent after send_eof")

    def _notify(self) -> None:
        self._waiting.unpark_all()


async def connect(endpoint: UtpEndpoint, address: Address) -> UtpStream:
    """Open a connection to ``address``. Raises OSError when that cannot be; cancelled, nothing is left of it."""
    await trio.lowlevel.checkpoint()
    changed = trio.Event()
    link = endpoint.connect(address, lambda: changed.set())
    if link is None:
        raise OSError(errno.EMFILE, "too many connections by uTP")
    try:
        while link.connection.state is State.SYN_SENT:
            changed = trio.Event()
            await changed.wait()
    except BaseException:
        link.abort()
        raise
    if link.connection.state is not State.CONNECTED:
        raise OSError(errno.ECONNREFUSED, f"no connection by uTP: {link.connection.problem}", str(address))
    return UtpStream(link)
