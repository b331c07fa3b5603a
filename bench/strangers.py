"""``python -m bench.strangers``: what peers that bring nothing cost a download from one that does.

Beside a reader and an honest peer are some that claim every block and answer nothing, on a line and a clock that are
made up; and some that send nothing but Haves, over sockets and by the processor's clock. The bound is a fifth more than
without them; where nobody is known to answer yet, half a second besides.
"""

import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from hyperfs.core.reader import Priority
from hyperfs.protocol.events import RequestReceived
from hyperfs.replication import Replicator
from tests.support.clocks import patient_clock
from tests.support.peers import ScriptedPeer, join_far, nursery_to_cancel, reader, scripted, serving, writer

_LIARS = 8
_BLOCKS = 4000
_ROUND_TRIP = 0.1
_LARGE_BYTES = 65536
_HAVES = 100_000
_BOUND = 1.2
_FIRST_SECONDS = 0.5
_REPEATS = 5


async def _listen(peer: ScriptedPeer) -> None:
    try:
        while True:
            await peer.next(RequestReceived)
    except trio.EndOfChannel:
        pass


async def seconds_beside_silent(liars: int, priority: Priority) -> float:
    """Return how long fetching all blocks from one far peer takes beside silent ones."""
    replicator = Replicator()
    core = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        for number in range(liars):
            peer = scripted(nursery, replicator, name=f"liar:{number}")
            await peer.announce(await peer.open(), _BLOCKS)
            nursery.start_soon(_listen, peer)
        join_far(nursery, replicator, serving(await writer(_BLOCKS)), round_trip=_ROUND_TRIP)
        await trio.sleep(1)
        began_at = trio.current_time()
        await core.fetch([range(_BLOCKS)], priority=priority)
        return trio.current_time() - began_at
    raise AssertionError


def _socket_streams() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Return both ends of a line that holds, as any does, only so much of what nobody takes."""
    left, right = trio.socket.socketpair()
    return trio.SocketStream(left), trio.SocketStream(right)


async def processor_beside_talkers(talkers: int) -> float:
    """Return the processor's seconds for fetching large blocks beside peers that send Haves without end."""
    replicator = Replicator()
    core = await reader(replicator)
    theirs = await writer(0, blocks=[bytes([index % 251]) * _LARGE_BYTES for index in range(_BLOCKS)])
    async with trio.open_nursery() as nursery:
        for number in range(talkers):
            ours, other = _socket_streams()
            nursery.start_soon(partial(replicator.run, ours, initiator=False, name=f"talker:{number}"))
            peer = ScriptedPeer(other)
            channel = await peer.open()
            await peer.announce(channel, 0)
            for index in range(_HAVES):
                channel.send_have(1_000_000 + index * 7919 % (1 << 20))
            nursery.start_soon(peer.send)
        ours, other = _socket_streams()
        nursery.start_soon(partial(replicator.run, ours, initiator=True, name="server:1"))
        nursery.start_soon(partial(serving(theirs).run, other, initiator=False, name="reader:1"))
        began_at = time.thread_time()
        await core.fetch([range(_BLOCKS)])
        seconds = time.thread_time() - began_at
        nursery.cancel_scope.cancel()
    return seconds


def _at_once(work: Callable[[int, Priority], Awaitable[float]], peers: int, priority: Priority) -> float:
    """Run ``work`` on a clock that goes on only when there is nothing else to do."""
    with pytest.MonkeyPatch.context() as patch:
        return trio.run(work, peers, priority, clock=patient_clock(patch))


def main() -> int:
    """Print the figures; exit status 1 when a figure by the clock that is made up is past its bound."""
    missed = False
    for priority in Priority:
        alone, beside = (_at_once(seconds_beside_silent, liars, priority) for liars in (0, _LIARS))
        bound = _BOUND * alone + _FIRST_SECONDS
        missed |= beside > bound
        print(f"{priority.name.lower()}, {_LIARS} silent: {beside:.2f} s, {alone:.2f} alone, bound {bound:.2f}")
    least = dict.fromkeys((0, 1, _LIARS), float("inf"))
    for _ in range(_REPEATS):
        for talkers in least:
            least[talkers] = min(least[talkers], trio.run(processor_beside_talkers, talkers))
    alone = least.pop(0)
    for talkers, beside in least.items():
        print(
            f"{talkers} sending Haves: {beside:.2f} s of the processor, {alone:.2f} alone, bound {_BOUND * alone:.2f}"
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
