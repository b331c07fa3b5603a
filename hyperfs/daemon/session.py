"""One client of the daemon: its requests, what it has open, and what it is told.

The rule: whatever a client asked for ends when it goes away. A client that does not read cannot make the daemon keep
much: replies are bounded by the requests it may have unanswered, and of a core's heads only the newest is kept.
"""

import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import trio

from hyperfs.core.core import Core
from hyperfs.daemon.connection import Connection
from hyperfs.daemon.failures import to_wire
from hyperfs.daemon.registry import User, checked_key
from hyperfs.daemon.slots import Slots
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
from hyperfs.drive.committer import ContentLease
from hyperfs.errors import ConflictingLength, DaemonError, EncodingError, HyperfsError

if TYPE_CHECKING:
    from hyperfs.daemon.server import Daemon

_log = logging.getLogger(__name__)

Handler = Callable[["Session", Mapping[str, Any]], Awaitable[Any]]

_APPENDS_QUEUED = 2
_JOINED_BYTES = 64 * 1024


class Lease:
    """A client's right to append to one content core: a queue that one task works off in order."""

    def __init__(self) -> None:
        send, self.receive = trio.open_memory_channel[Request](_APPENDS_QUEUED)
        self.send: trio.MemorySendChannel[Request] = send
        self.ended = trio.Event()


class Session:
    """Owns one connection to the daemon, and the tasks that answer its requests."""

    def __init__(self, daemon: "Daemon", connection: Connection, methods: Mapping[str, Handler]) -> None:
        self.daemon = daemon
        self.user = User(on_head=self._head_moved)
        self.leases: dict[int, Lease] = {}
        self.gathered: list[Operation] = []
        """The parts of a commit that came so far, when it is too large for one frame."""
        self.mount_id: str | None = None
        self._connection = connection
        self._methods = methods
        self._scopes: dict[int, trio.CancelScope] = {}
        self._outbox: deque[tuple[bytes, int | None]] = deque()
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
                nursery.start_soon(self._write)
                await self._read(nursery)
                nursery.cancel_scope.cancel()
        except (DaemonError, EncodingError) as error:
            _log.warning("a control connection ended: %s", error)
        finally:
            self._connection.close()
            for _, descriptor in self._outbox:
                if descriptor is not None:
                    os.close(descriptor)
            self.daemon.registry.release(self.user)
            self.daemon.peers.release(self.user)

    def reply(self, id: int, result: Any = None, *, descriptor: int | None = None) -> None:
        """Answer request ``id``, and give a file descriptor away. For a handler whose work goes on afterwards."""
        self._post(Reply(id, result, descriptor is not None), descriptor)

    def tell(self, notice: Notice) -> None:
        """Tell the client something unasked."""
        self._post(notice)

    def fail(self, id: int, error: Exception) -> None:
        """Answer request ``id`` with what went wrong."""
        if not isinstance(error, HyperfsError | OSError):
            _log.error("a request failed unexpectedly", exc_info=error)
        self._post(Failure(id, to_wire(error)))

    async def _read(self, nursery: trio.Nursery) -> None:
        while (message := await self._connection.receive()) is not None:
            match message:
                case Request(id, "content.append", arguments):
                    await self._queue_append(id, arguments, message)
                case Request(id):
                    if len(self._scopes) >= MAX_OUTSTANDING or id in self._scopes:
                        self.fail(id, DaemonError(f"more than {MAX_OUTSTANDING} requests at once"))
                        continue
                    scope = trio.CancelScope()
                    self._scopes[id] = scope
                    nursery.start_soon(self._answer, message, scope)
                case Cancel(id):
                    if id in self._scopes:
                        self._scopes[id].cancel()
                case _:
                    raise EncodingError("a client answers, where it should ask")

    async def _answer(self, request: Request, scope: trio.CancelScope) -> None:
        """Work on one request, and answer it, also when it is cancelled."""
        result: Any = None
        failure: Exception | None = None
        with scope:
            try:
                if request.method == "content.lease":
                    await self._hold_lease(request)
                    return
                handler = self._methods.get(request.method)
                if handler is None:
                    raise DaemonError(f"the daemon does not know what {request.method!r} means")
                result = await handler(self, request.arguments)
            except Exception as error:  # noqa: BLE001  the edge: nothing that a request does may end the daemon
                failure = error
            finally:
                del self._scopes[request.id]
        if failure is None and scope.cancelled_caught:
            failure = DaemonError("cancelled")
        if failure is None:
            try:
                self.reply(request.id, result)
            except EncodingError as error:
                self.fail(request.id, error)
        else:
            self.fail(request.id, failure)

    async def _hold_lease(self, request: Request) -> None:
        """Hold the lease that ``request`` asks for until it is released or cancelled; append what comes meanwhile."""
        lease = Lease()
        committer = await self.daemon.committer(checked_key(request.arguments["key"]))
        try:
            async with committer.content() as content:
                slots, descriptor = Slots.create()
                try:
                    self.leases[request.id] = lease
                    core = committer.content_core
                    granted = {"lease": request.id, "length": core.length, "byte_length": core.byte_length}
                    self.reply(request.id, granted, descriptor=descriptor)
                    await self._append_all(lease, content, slots)
                finally:
                    slots.close()
        finally:
            self.leases.pop(request.id, None)
            lease.receive.close()
            lease.ended.set()

    async def _append_all(self, lease: Lease, content: ContentLease, slots: Slots) -> None:
        """Append what comes under a lease, in order, until it is released; after a failure nothing more."""
        broken: Exception | None = None
        async for append in lease.receive:
            if broken is None:
                try:
                    blocks = slots.blocks(append.arguments["slot"], append.arguments["sizes"])
                    # What appends only hashes and writes them, for which a view is as good as bytes.
                    await content.append(cast(list[bytes], blocks))
                except Exception as error:  # noqa: BLE001  answered; what follows it must not be appended
                    broken = error
            if broken is None:
                self.reply(append.id)
            else:
                self.fail(append.id, broken)

    async def _queue_append(self, id: int, arguments: Mapping[str, Any], request: Request) -> None:
        """Hand content to its lease's task. Waits when that is behind, and so does the client."""
        lease = self.leases.get(arguments.get("lease", 0))
        try:
            if lease is None:
                raise trio.BrokenResourceError
            await lease.send.send(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.fail(id, ConflictingLength("the right to append to this drive has ended"))

    async def _write(self) -> None:
        """Send replies as fast as the client reads them, and before them the newest heads.

        So whoever has the answer to what he asked knows of every head that came before it.
        """
        try:
            while True:
                while self._outbox or self._moved:
                    frames = [encode(Notice("head", head_of(core))) for core in self._moved.values()]
                    self._moved.clear()
                    descriptor = None
                    while self._outbox and descriptor is None and sum(map(len, frames)) < _JOINED_BYTES:
                        frame, descriptor = self._outbox.popleft()
                        frames.append(frame)
                    await self._send(b"".join(frames), descriptor)
                self._wake = trio.Event()
                await self._wake.wait()
        except DaemonError:
            return  # hung up: the reading side notices, too

    def _post(self, message: Message, descriptor: int | None = None) -> None:
        self._outbox.append((encode(message), descriptor))
        self._wake.set()

    async def _send(self, frames: bytes, descriptor: int | None) -> None:
        try:
            await self._connection.send_encoded(frames, descriptor)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _head_moved(self, core: Core) -> None:
        self._moved[core.key] = core
        self._wake.set()


def head_of(core: Core) -> dict[str, Any]:
    """Return a core's newest head as plain values."""
    return {"key": core.key, "length": core.length, "byte_length": core.byte_length}
