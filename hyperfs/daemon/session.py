"""One client of the daemon: its requests, what it has open, and what it is told.

The rule: whatever a client asked for ends when it goes away. A client that does not read cannot make the daemon keep
much: what it asks is not read while more than `MAX_UNSENT_BYTES` wait for it, and of a core's heads only the newest is
kept.
"""

import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio

from hyperfs.core.core import Core
from hyperfs.daemon.answers import Head, LeaseGranted
from hyperfs.daemon.call import Call
from hyperfs.daemon.codec import to_plain
from hyperfs.daemon.connection import Connection
from hyperfs.daemon.failures import describe
from hyperfs.daemon.leases import Lease
from hyperfs.daemon.registry import User
from hyperfs.daemon.requests import News, decode_call
from hyperfs.daemon.wire import (
    MAX_OUTSTANDING,
    PROTOCOL,
    Cancel,
    Failure,
    Message,
    Notice,
    Reply,
    Request,
    encode,
)
from hyperfs.drive.commits import Operation
from hyperfs.errors import DaemonError, EncodingError, HyperfsError

_log = logging.getLogger(__name__)

MAX_UNSENT_BYTES: Final = 1024 * 1024
"""Of replies that a client has not read; past that its requests wait."""
_JOINED_BYTES: Final = 64 * 1024

Handler = Callable[["Session", Any], Awaitable[Any]]
"""Answers a call by what it returns. May be cancelled at any await, when the client withdraws what it asked."""
LongHandler = Callable[["Session", Any, "Asked"], Awaitable[None]]
"""Answers a call itself, and may go on with it afterwards, until the client withdraws it."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who answers which kind of call. Those ``in_order`` are given one after the other, as they came."""

    answering: Mapping[type[Call[Any]], Handler]
    long: Mapping[type[Call[Any]], LongHandler]
    in_order: Mapping[type[Call[Any]], LongHandler]


class Asked:
    """One call that waits for its answer."""

    def __init__(self, session: "Session", id: int, call: Call[Any]) -> None:
        self._session = session
        self.id = id
        self.call = call

    def answer(self, answer: Any = None) -> None:
        """Answer it. A descriptor in the answer is given away."""
        try:
            plain = self.call.encode_answer(answer)
            descriptor = answer.descriptor if isinstance(answer, LeaseGranted) else None
            self._session.post(Reply(self.id, plain, descriptor is not None), descriptor)
        except EncodingError as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Answer it with what went wrong."""
        self._session.fail(self.id, error)


class Session:
    """Owns one connection to the daemon, and the tasks that answer its requests."""

    def __init__(self, connection: Connection, handlers: Handlers) -> None:
        self.user = User(on_head=self._head_moved)
        self.leases: dict[int, Lease] = {}
        self.gathered: dict[bytes, list[Operation]] = {}
        """Parts of commits, by the key of the drive that they are for."""
        """The parts of a commit that came so far, when it is too large for one frame."""
        self.mount_id: str | None = None
        self._connection = connection
        self._handlers = handlers
        self._scopes: dict[int, trio.CancelScope] = {}
        self._outbox: deque[tuple[bytes, int | None]] = deque()
        self._unsent_bytes = 0
        self._wants_room = trio.lowlevel.ParkingLot()
        self._all_sent = trio.Event()
        self._is_sending = False
        self._moved: dict[bytes, Core] = {}
        self._wake = trio.Event()

    async def run(self) -> None:
        """Answer the client until it hangs up."""
        try:
            self._connection.check_user()
            hello = await self._connection.greet()
            if hello.protocol != PROTOCOL:
                _log.warning("process %d speaks for hyperfs %s: not understood", hello.pid, hello.version)
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                await self._read(nursery)
                nursery.cancel_scope.cancel()
        except (DaemonError, EncodingError) as error:
            _log.warning("a control connection ended: %s", error)
        finally:
            self._connection.close()
            for _, descriptor in self._outbox:
                if descriptor is not None:
                    os.close(descriptor)

    def tell(self, news: News) -> None:
        """Tell the client something unasked."""
        self.post(Notice(type(news).__name__, to_plain(news)))

    def fail(self, id: int, error: Exception) -> None:
        """Answer request ``id`` with what went wrong."""
        if not isinstance(error, HyperfsError | OSError):
            _log.error("a request failed unexpectedly", exc_info=error)
        self.post(Failure(id, to_plain(describe(error))))

    def post(self, message: Message, descriptor: int | None = None) -> None:
        """Have a message sent, and a descriptor given away with it. Raises `EncodingError` when it is too large."""
        frames = encode(message)
        self._outbox.append((frames, descriptor))
        self._unsent_bytes += len(frames)
        self._wake.set()

    async def sent(self) -> None:
        """Return once everything posted so far has been sent."""
        while self._outbox or self._is_sending:
            await self._all_sent.wait()

    async def _room(self) -> None:
        """Return once the client has read enough for one more answer to be made."""
        while self._unsent_bytes > MAX_UNSENT_BYTES:
            await self._wants_room.park()
        self._wants_room.unpark()  # the next one, which looks again once this one has answered

    async def _read(self, nursery: trio.Nursery) -> None:
        while (message := await self._connection.receive()) is not None:
            await self._room()
            match message:
                case Request(id, method, arguments):
                    if len(self._scopes) >= MAX_OUTSTANDING or id in self._scopes:
                        self.fail(id, DaemonError(f"more than {MAX_OUTSTANDING} requests at once, or one twice"))
                        continue
                    try:
                        asked = Asked(self, id, decode_call(method, arguments))
                    except HyperfsError as error:
                        self.fail(id, error)
                        continue
                    in_order = self._handlers.in_order.get(type(asked.call))
                    if in_order is not None:
                        await in_order(self, asked.call, asked)
                    else:
                        scope = self._scopes[id] = trio.CancelScope()
                        nursery.start_soon(self._answer, asked, scope)
                case Cancel(id):
                    if id in self._scopes:
                        self._scopes[id].cancel()
                case _:
                    raise EncodingError("a client answers, where it should ask")

    async def _answer(self, asked: Asked, scope: trio.CancelScope) -> None:
        """Work on one call, and answer it, also when it is cancelled."""
        kind = type(asked.call)
        answer: Any = None
        failure: Exception | None = None
        long = self._handlers.long.get(kind)
        with scope:
            try:
                await self._room()
                if long is not None:
                    await long(self, asked.call, asked)
                    return
                answer = await self._handlers.answering[kind](self, asked.call)
            except Exception as error:  # noqa: BLE001  the edge: nothing that a request does may end the daemon
                failure = error
            finally:
                del self._scopes[asked.id]
        if failure is None and scope.cancelled_caught:
            failure = DaemonError("cancelled")
        if failure is None:
            asked.answer(answer)
        else:
            asked.fail(failure)

    async def _write(self, whole: trio.CancelScope) -> None:
        """Send replies as fast as the client reads them, and before them the newest heads.

        So whoever has the answer to what he asked knows of every head that came before it.
        """
        try:
            while True:
                while self._outbox or self._moved:
                    self._is_sending = True
                    frames = [encode(Notice("Head", to_plain(head_of(core)))) for core in self._moved.values()]
                    self._moved.clear()
                    descriptor = None
                    while self._outbox and descriptor is None and sum(map(len, frames)) < _JOINED_BYTES:
                        frame, descriptor = self._outbox.popleft()
                        self._unsent_bytes -= len(frame)
                        frames.append(frame)
                    await self._send(b"".join(frames), descriptor)
                    self._wants_room.unpark()
                self._is_sending = False
                self._all_sent.set()
                self._all_sent = trio.Event()
                self._wake = trio.Event()
                await self._wake.wait()
        except DaemonError:
            whole.cancel()  # hung up, which the reading side does not notice while it waits for room

    async def _send(self, frames: bytes, descriptor: int | None) -> None:
        try:
            await self._connection.send_encoded(frames, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _head_moved(self, core: Core) -> None:
        self._moved[core.key] = core
        self._wake.set()


def head_of(core: Core) -> Head:
    """Return a core's newest head."""
    return Head(core.key, core.length, core.byte_length)
