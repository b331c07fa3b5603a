"""A daemon that has not come to all who want to ask it: the next one waits, and is told if that takes too long."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import trio
import trio.testing

from hyperfs import __version__
from hyperfs.daemon.connection import Connection
from hyperfs.daemon.places import Places
from hyperfs.daemon.process import Announcement, connect_running, write_announcement
from hyperfs.errors import DaemonError

from ..support.clocks import settled
from ..support.stores import PATIENCE_SECONDS, places

__all__ = ["places"]


@contextmanager
def busy_daemon(places: Places) -> Iterator[tuple[socket.socket, int]]:
    """Listen where a store's daemon does, with no room for one more; yield the listener, and how many wait there."""
    path = places.socket()
    places.announcement.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        write_announcement(places, Announcement(os.getpid(), str(path), __version__, ending=False))
        waiting = 0
        while True:
            client = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
            waiting += 1
        yield listener, waiting


async def test_a_command_waits_until_the_daemon_has_room_for_it(places: Places) -> None:
    reached: list[Connection | None] = []

    async def command() -> None:
        reached.append(await connect_running(places))

    with trio.fail_after(PATIENCE_SECONDS), busy_daemon(places) as (listener, waiting):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(command)
            await settled()
            assert reached == []
            for _ in range(waiting):
                listener.accept()[0].close()
            stream, _ = await trio.socket.from_stdlib_socket(listener).accept()
            daemon = Connection(stream)
            await daemon.greet()
        assert reached[0] is not None
        reached[0].close()
        daemon.close()


async def test_a_command_that_waits_for_too_long_says_what_it_waited_for(
    places: Places, patient_clock: trio.testing.MockClock
) -> None:
    with busy_daemon(places), pytest.raises(DaemonError, match="so many commands wait"):
        await connect_running(places)
