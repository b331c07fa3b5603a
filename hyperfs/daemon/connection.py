"""One control connection: messages over a unix socket, with the first words checked.

The rule: whoever is on the other end runs as the same user (SO_PEERCRED) and speaks the same protocol, or not one
message is exchanged.
"""

import os
import socket
import struct
from collections.abc import Sequence
from typing import Final

import trio

from hyperfs import __version__
from hyperfs.daemon.wire import PREFIX, PROTOCOL, Buffer, Hello, Message, decode, encode, sizes
from hyperfs.errors import DaemonError, EncodingError

HELLO_SECONDS: Final = 10.0
"""How long the other side may take for its first words."""

_CHUNK: Final = 64 * 1024
_SEND_BUFFER_BYTES: Final = 512 * 1024
"""Few turns of the two ends for content, and small enough to stay in a processor's cache on its way."""
_SPARE_BYTES: Final = 1024 * 1024
_MAX_SPARE: Final = 4


class Connection:
    """Owns one connected unix socket. One task receives; sends are serialised here.

    A send that is cancelled half-way leaves a torn frame, so it ends the connection.
    """

    def __init__(self, stream: trio.socket.SocketType) -> None:
        self._socket = stream
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._input = bytearray()
        self._spare: list[bytearray] = []
        self._sending = trio.Lock()
        self._torn = False

    def check_user(self) -> None:
        """Check that the other end runs as this user.

        Raises:
            DaemonError: it does not.
        """
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _gid = struct.unpack("3i", raw)
        if uid != os.geteuid():
            raise DaemonError(f"process {pid} of user {uid} is at the other end of the control socket; it is not ours")

    async def greet(self, *, within_seconds: float = HELLO_SECONDS) -> Hello:
        """Exchange the first words and return the other side's.

        Raises:
            DaemonError: it says nothing in time, or says something else.
        """
        try:
            with trio.fail_after(within_seconds):
                await self.send(Hello(PROTOCOL, __version__, os.getpid()))
                answer = await self.receive()
        except trio.TooSlowError:
            raise DaemonError(f"the other end of the control socket said nothing for {within_seconds:g} s") from None
        except EncodingError as error:
            raise DaemonError(f"the other end of the control socket is no hyperfs: {error}") from error
        if not isinstance(answer, Hello):
            raise DaemonError("the other end of the control socket hung up, or did not say what it is")
        return answer

    async def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            EncodingError: it is too large for a frame; nothing was sent.
            DaemonError: the connection is gone.
        """
        await self.send_encoded(encode(message))

    async def send_encoded(self, frames: bytes, payload: Sequence[Buffer] = ()) -> None:
        """Send what `encode` made, one frame or several, and the parts of the last one's payload.

        Raises:
            DaemonError: the connection is gone.
        """
        async with self._sending:
            if self._torn:
                raise DaemonError("the control connection was interrupted")
            self._torn = True
            try:
                await self._send_all(frames)
                for part in payload:
                    await self._send_all(part)
            except (OSError, trio.ClosedResourceError) as error:
                raise DaemonError(f"the control connection is gone: {error}") from error
            self._torn = False

    async def receive(self) -> Message | None:
        """Return the next message, or None once the other side has hung up.

        A call that is cancelled loses nothing, unless it was within a frame's payload.

        Raises:
            EncodingError: the other side sent something that is no message.
        """
        if not await self._fill(PREFIX.size):
            return None
        header_size, payload_size = sizes(self._input[: PREFIX.size])
        if not await self._fill(PREFIX.size + header_size):
            return None
        header = bytes(self._input[PREFIX.size : PREFIX.size + header_size])
        del self._input[: PREFIX.size + header_size]
        payload: Buffer = b""
        if payload_size:
            payload = await self._receive_payload(payload_size)
            if len(payload) < payload_size:
                return None
        return decode(header, payload)

    def reuse(self, payload: Buffer) -> None:
        """Take back the payload of a message that nobody looks at any more: fresh memory is slow to touch."""
        if isinstance(payload, bytearray) and len(payload) >= _SPARE_BYTES and len(self._spare) < _MAX_SPARE:
            self._spare.append(payload)

    def close(self) -> None:
        """Hang up. Whoever waits on this connection gets an error, or None."""
        self._torn = True
        self._socket.close()

    async def _fill(self, wanted: int) -> bool:
        while len(self._input) < wanted:
            data = await self._receive_some()
            if not data:
                return False
            self._input += data
        return True

    async def _receive_some(self) -> bytes:
        try:
            return await self._socket.recv(_CHUNK)
        except (OSError, trio.ClosedResourceError):
            return b""

    async def _receive_payload(self, size: int) -> bytearray:
        """Return ``size`` bytes, fewer if the other side hangs up, received in place."""
        payload = self._buffer(size)
        filled = min(size, len(self._input))
        payload[:filled] = self._input[:filled]
        del self._input[:filled]
        with memoryview(payload) as view:
            while filled < size:
                try:
                    count = await self._socket.recv_into(view[filled:])
                except (OSError, trio.ClosedResourceError):
                    count = 0
                if not count:
                    break
                filled += count
        return payload if filled == size else payload[:filled]

    def _buffer(self, size: int) -> bytearray:
        for number, spare in enumerate(self._spare):
            if len(spare) == size:
                return self._spare.pop(number)
        return bytearray(size)

    async def _send_all(self, data: Buffer) -> None:
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                sent += await self._socket.send(view[sent:])
