"""Many hosts around one switch, in one process and on whatever clock runs: each has one line up and one down for all.

The rule: connections share a line piece by piece, in the order of asking, and what waits for it is bounded, so that who
sends more than a line takes waits.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from hyperfs.replication import Replicator

PIECE_BYTES: Final = 2048
UNSENT_PIECES: Final = 8
"""What one connection's sending end holds, as a socket's buffer does."""


class Access:
    """One host's line: bytes a second up and down, and seconds that everything takes to the switch."""

    def __init__(self, *, up: float, down: float, delay: float) -> None:
        self.delay = delay
        self.sent_bytes = 0
        self._up, self._down = up, down
        self._sending, self._receiving = trio.Lock(), trio.Lock()

    async def send(self, size_bytes: int) -> None:
        """Wait until so much has gone up the line."""
        async with self._sending:
            await trio.sleep(size_bytes / self._up)
        self.sent_bytes += size_bytes

    async def receive(self, size_bytes: int) -> None:
        """Wait until so much has come down the line."""
        async with self._receiving:
            await trio.sleep(size_bytes / self._down)


class _End(trio.abc.Stream):
    def __init__(self, outgoing: trio.MemorySendChannel[bytes], incoming: trio.MemoryReceiveChannel[bytes]) -> None:
        self._outgoing, self._incoming = outgoing, incoming
        self._left = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            await self._outgoing.send(bytes(data[start : start + PIECE_BYTES]))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        pieces = [self._left]
        if not self._left:
            try:
                pieces.append(await self._incoming.receive())
            except trio.EndOfChannel:
                return b""
        most = math.inf if max_bytes is None else max_bytes
        while sum(map(len, pieces)) < most:
            try:
                pieces.append(self._incoming.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        data = b"".join(pieces)
        given = data if max_bytes is None else data[:max_bytes]
        self._left = data[len(given) :]
        return given

    async def aclose(self) -> None:
        await self._outgoing.aclose()
        await self._incoming.aclose()


async def _carry(
    sender: Access,
    receiver: Access,
    source: trio.MemoryReceiveChannel[bytes],
    sink: trio.MemorySendChannel[bytes],
) -> None:
    on_way_in, on_way_out = trio.open_memory_channel[tuple[float, bytes]](UNSENT_PIECES)

    async def arrive() -> None:
        async for arrives_at, piece in on_way_out:
            await trio.sleep_until(arrives_at)
            await receiver.receive(len(piece))
            await sink.send(piece)

    async with trio.open_nursery() as nursery, on_way_in:
        nursery.start_soon(arrive)
        async for piece in source:
            await sender.send(len(piece))
            await on_way_in.send((trio.current_time() + sender.delay + receiver.delay, piece))


def connect(
    nursery: trio.Nursery, dialler: tuple[Replicator, Access], listener: tuple[Replicator, Access], *, name: str
) -> None:
    """Connect two replicators on hosts with these lines; ``name`` is how the dialler calls the other."""
    (near, near_access), (far, far_access) = dialler, listener
    out_in, out_out = trio.open_memory_channel[bytes](UNSENT_PIECES)
    arrived_in, arrived_out = trio.open_memory_channel[bytes](math.inf)
    back_in, back_out = trio.open_memory_channel[bytes](UNSENT_PIECES)
    returned_in, returned_out = trio.open_memory_channel[bytes](math.inf)
    ends = [_End(out_in, returned_out), _End(back_in, arrived_out)]

    async def carry_both() -> None:
        try:
            async with trio.open_nursery() as both:
                both.start_soon(_carry, near_access, far_access, out_out, arrived_in)
                both.start_soon(_carry, far_access, near_access, back_out, returned_in)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # an end was closed

    nursery.start_soon(carry_both)
    nursery.start_soon(lambda: near.run(ends[0], initiator=True, name=name))
    nursery.start_soon(lambda: far.run(ends[1], initiator=False, name=f"dialler of {name}"))
