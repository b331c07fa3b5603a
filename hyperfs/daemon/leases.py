"""A client's right to append to one content core, and what it appends under it.

The rule: what comes is appended in the order in which it came, by one task; after a failure nothing more is.
"""

from typing import Any, Final, Protocol, cast

import trio

from hyperfs.daemon.requests import AppendContent
from hyperfs.daemon.slots import Slots
from hyperfs.drive.committer import ContentLease
from hyperfs.errors import ConflictingLength

_QUEUED: Final = 2


class Append(Protocol):
    """One `AppendContent` that waits for its answer."""

    @property
    def call(self) -> Any: ...
    def answer(self) -> None:
        """Tell that it was appended."""
        ...

    def fail(self, error: Exception) -> None:
        """Tell that it was not."""
        ...


class Lease:
    """A queue that one task works off, until the client gives the lease back, or goes away."""

    def __init__(self) -> None:
        send, receive = trio.open_memory_channel[Append](_QUEUED)
        self._send: trio.MemorySendChannel[Append] = send
        self._receive: trio.MemoryReceiveChannel[Append] = receive
        self._ended = trio.Event()
        self._content: ContentLease | None = None

    async def work(self, content: ContentLease, slots: Slots) -> None:
        """Append what comes, until the lease is released. Cancelled, what is being appended is there or is not."""
        broken: Exception | None = None
        self._content = content
        async for append in self._receive:
            if broken is None:
                try:
                    call: AppendContent = append.call
                    # What appends only hashes and writes them, for which a view is as good as bytes.
                    await content.append(cast(list[bytes], slots.blocks(call.slot, call.sizes)))
                except Exception as error:  # noqa: BLE001  answered; what follows it must not be appended
                    broken = error
            if broken is None:
                append.answer()
            else:
                append.fail(broken)

    async def put(self, append: Append) -> None:
        """Hand content to the lease's task. Waits when that is behind, and so does the client."""
        try:
            await self._send.send(append)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            append.fail(has_ended())

    async def give_back(self, start: int) -> None:
        """Forget what was appended from block ``start`` on, and the client has heard of.

        Raises OSError. Cancelled, all of it or nothing.
        """
        if self._content is None or self._ended.is_set():
            raise has_ended()
        await self._content.give_back(start)

    async def release(self) -> None:
        """Take nothing more, and return once everything that was put has been appended."""
        self._send.close()
        await self._ended.wait()

    def end(self) -> None:
        """Nobody appends under this lease any more."""
        self._receive.close()
        self._ended.set()


def has_ended() -> ConflictingLength:
    """Return the error of who appends without a lease."""
    return ConflictingLength("the right to append to this drive has ended; write again")
