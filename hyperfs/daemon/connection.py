"""One control connection: messages over a unix socket, with the first words checked.

The rule: whoever is on the other end runs as the same user (SO_PEERCRED) and speaks the same protocol, or not one
message is exchanged.
"""

import os
import socket
import struct
from collections import deque
from typing import Final

import trio

from hyperfs import __version__
from hyperfs.daemon.wire import PREFIX, PROTOCOL, Hello, Message, decode, encode, size_of
from hyperfs.errors import DaemonError, EncodingError

HELLO_SECONDS: Final = 10.0
"""How long the other side may take for its first words."""

_CHUNK: Final = 64 * 1024


class Connection:
    """Owns one connected unix socket. One task receives; sends are serialised here.

    A send that is cancelled half-way leaves a torn frame, so it ends the connection. Unless it ``takes_descriptors``,
    which the daemon does not, the kernel drops those that the other end sends.
    """

    def __init__(self, stream: trio.socket.SocketType, *, takes_descriptors: bool = False) -> None:
        self._socket = stream
        self._input = bytearray()
        self._descriptors: deque[int] = deque()
        self._extra_bytes = socket.CMSG_SPACE(4) if takes_descriptors else 0
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

    async def send_encoded(self, frames: bytes, descriptor: int | None = None) -> None:
        """Send what `encode` made, one frame or several, and with them ``descriptor``, which stays the caller's.

        Raises:
            DaemonError: the connection is gone.
        """
        async with self._sending:
            if self._torn:
                raise DaemonError("the control connection was interrupted")
            self._torn = True
            try:
                await self._send_all(frames, descriptor)
            except (OSError, trio.ClosedResourceError) as error:
                raise DaemonError(f"the control connection is gone: {error}") from error
            self._torn = False

    async def receive(self) -> Message | None:
        """Return the next message, or None once the other side has hung up. A call that is cancelled loses nothing.

        Raises:
            EncodingError: the other side sent something that is no message.
        """
        if not await self._fill(PREFIX.size):
            return None
        size = size_of(self._input[: PREFIX.size])
        if not await self._fill(PREFIX.size + size):
            return None
        packed = bytes(self._input[PREFIX.size : PREFIX.size + size])
        del self._input[: PREFIX.size + size]
        return decode(packed)

    def take_descriptor(self) -> int:
        """Return the descriptor that came with the reply received last, which says that there is one; it is yours.

        Raises:
            EncodingError: there is none.
        """
        if not self._descriptors:
            raise EncodingError("a control message lacks the descriptor that was to come with it")
        return self._descriptors.popleft()

    def close(self) -> None:
        """Hang up. Whoever waits on this connection gets an error, or None."""
        self._torn = True
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    async def _fill(self, wanted: int) -> bool:
        while len(self._input) < wanted:
            data = await self._receive_some()
            if not data:
                return False
            self._input += data
        return True

    async def _receive_some(self) -> bytes:
        try:
            data, extra, _, _ = await self._socket.recvmsg(_CHUNK, self._extra_bytes, socket.MSG_CMSG_CLOEXEC)
        except (OSError, trio.ClosedResourceError):
            return b""
        for level, kind, content in extra:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._descriptors.extend(memoryview(content).cast("i"))
        return data

    async def _send_all(self, data: bytes, descriptor: int | None) -> None:
        with memoryview(data) as view:
            sent = 0
            if descriptor is not None:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))
                sent = await self._socket.sendmsg([view], [rights])
            while sent < len(view):
                sent += await self._socket.send(view[sent:])
