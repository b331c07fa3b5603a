"""A client's requests to the daemon: many at once, each cancellable, over a connection that may come and go.

The rule: a request is answered, or it fails, or its caller is cancelled; never left waiting for a connection that
nobody will restore. After a reconnect only requests that may be asked twice are asked again.
"""

import itertools
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from hyperfs.daemon.codec import from_plain
from hyperfs.daemon.connection import Connection
from hyperfs.daemon.failures import Described, exception_of
from hyperfs.daemon.wire import Cancel, Failure, Message, Notice, Reply, Request, encode
from hyperfs.errors import DaemonError, EncodingError

_log = logging.getLogger(__name__)

OUTSTANDING: Final = 1024
"""Unanswered requests of one client; the next one waits. Well below what the daemon allows."""

_FIRST_RETRY_SECONDS: Final = 0.05
_JOINED_BYTES: Final = 64 * 1024
_LAST_RETRY_SECONDS: Final = 0.25

Connect = Callable[[], Awaitable[Connection | None]]


@dataclass(slots=True, eq=False)
class Pending:
    """One request that waits for its answer. Made by `Link.send`."""

    request: Request
    repeatable: bool
    done: trio.Event = field(default_factory=trio.Event)
    result: Any = None
    failure: Exception | None = None

    async def wait(self) -> Any:
        """Return the answer, or raise it. Cancelling the wait does not withdraw the request."""
        await self.done.wait()
        if self.failure is not None:
            raise self.failure
        return self.result


class Link:
    """Owns the requests of one client, and the connection they go over while there is one."""

    def __init__(self, on_notice: Callable[[Notice], None]) -> None:
        self._on_notice = on_notice
        self._calls: dict[int, Pending] = {}
        self._numbers = itertools.count(1)
        self._room = trio.Semaphore(OUTSTANDING)
        self._outbox: deque[bytes] = deque()
        self._wake = trio.Event()
        self._connected = False
        self._ended: str | None = None

    @property
    def connected(self) -> bool:
        """Whether the daemon is at the other end just now."""
        return self._connected

    async def request(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool = False) -> Any:
        """Ask the daemon and return its answer. Cancelling withdraws the request.

        A file descriptor that comes with the answer, then a map, is put in as ``descriptor``; the caller owns it.
        ``repeatable`` requests are sent again after a reconnect, others fail when the connection is lost.

        Raises:
            DaemonError: the daemon is gone.
            HyperfsError, OSError: what the daemon answered.
        """
        async with self._room:
            pending = self.send(method, arguments, repeatable=repeatable)
            try:
                return await pending.wait()
            except trio.Cancelled:
                if self._calls.pop(pending.request.id, None) is not None and self._connected:
                    self._post(Cancel(pending.request.id))
                raise

    def send(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool = False) -> Pending:
        """Ask the daemon, and let the caller wait when he likes; what is sent so arrives in this order.

        The caller keeps the number of such requests small. Raises as `request` does when the daemon is gone already.
        """
        if self._ended is not None:
            raise DaemonError(self._ended)
        if not self._connected and not repeatable:
            raise DaemonError("the daemon is gone; a mount finds the next one by itself, once a command starts it")
        request = Request(next(self._numbers), method, arguments)
        frame = encode(request)
        pending = Pending(request, repeatable)
        self._calls[request.id] = pending
        if self._connected:
            self._outbox.append(frame)
            self._wake.set()
        return pending

    async def run_once(
        self, connection: Connection, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Speak over ``connection`` until it ends; what cannot be asked again then fails. Started: can be asked."""
        self._attach()
        task_status.started()
        try:
            await self._converse(connection)
        finally:
            connection.close()
            self._detach()

    async def run_for_ever(
        self,
        connection: Connection,
        connect: Connect,
        restore: Callable[[], Awaitable[None]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Speak over ``connection``, and after its end over the next one that ``connect`` finds, until cancelled.

        ``restore`` is called at each new connection, before the requests that were waiting are asked again.
        """
        await self.run_once(connection, task_status=task_status)
        while True:
            _log.warning("the daemon is gone; waiting for the next one")
            connection = await _persistently(connect)
            _log.info("reached the daemon again")
            async with trio.open_nursery() as nursery:
                self._attach()
                nursery.start_soon(self._resume, restore)
                await self.run_once(connection)
                nursery.cancel_scope.cancel()

    def end(self, reason: str) -> None:
        """Fail all that waits, and all that will be asked, with ``reason``."""
        self._ended = reason
        for id in list(self._calls):
            self._answer(id, failure=DaemonError(reason))

    async def _resume(self, restore: Callable[[], Awaitable[None]]) -> None:
        waiting = list(self._calls.values())
        try:
            await restore()
        except (DaemonError, OSError) as error:
            _log.warning("could not take up again with the daemon: %s", error)
        for pending in waiting:
            if pending.request.id in self._calls:
                self._post(pending.request)

    def _attach(self) -> None:
        self._connected = True
        self._outbox.clear()

    def _detach(self) -> None:
        self._connected = False
        self._outbox.clear()
        for pending in list(self._calls.values()):
            if not pending.repeatable:
                self._answer(
                    pending.request.id, failure=DaemonError("the daemon went away before it had answered; try again")
                )

    async def _converse(self, connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, connection)
            try:
                while True:
                    message = await connection.receive()
                    if message is None:
                        break
                    self._take(message, connection)
            except EncodingError as error:
                _log.error("the daemon sent something that is no message: %s", error)
            nursery.cancel_scope.cancel()

    async def _write(self, connection: Connection) -> None:
        """Send what is posted. A task of its own, so that a cancelled request never tears a frame."""
        try:
            while True:
                while self._outbox:
                    frames = self._outbox.popleft()
                    while self._outbox and len(frames) < _JOINED_BYTES:
                        frames += self._outbox.popleft()
                    await connection.send_encoded(frames)
                self._wake = trio.Event()
                await self._wake.wait()
        except DaemonError as error:
            _log.debug("%s", error)

    def _post(self, message: Message) -> None:
        self._outbox.append(encode(message))
        self._wake.set()

    def _answer(self, id: int, *, result: Any = None, failure: Exception | None = None) -> None:
        """Wake whoever waits for request ``id``; one that was withdrawn is unknown by now."""
        pending = self._calls.pop(id, None)
        if pending is not None:
            pending.result, pending.failure = result, failure
            pending.done.set()

    def _take(self, message: Message, connection: Connection) -> None:
        match message:
            case Reply(id, dict(result), True):
                descriptor = connection.take_descriptor()
                if id in self._calls:
                    self._answer(id, result={**result, "descriptor": descriptor})
                else:
                    os.close(descriptor)
            case Reply(id, result, False):
                self._answer(id, result=result)
            case Failure(id, error):
                self._answer(id, failure=exception_of(from_plain(Described, error)))
            case Notice():
                self._on_notice(message)
            case _:
                raise EncodingError("the daemon asks, where it should answer")


async def _persistently(connect: Connect) -> Connection:
    pause = _FIRST_RETRY_SECONDS
    while True:
        await trio.sleep(pause)
        try:
            connection = await connect()
        except DaemonError as error:
            _log.warning("%s", error)
            connection = None
        if connection is not None:
            return connection
        pause = min(pause * 2, _LAST_RETRY_SECONDS)
