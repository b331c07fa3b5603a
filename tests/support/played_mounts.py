"""The daemon's mounts without FUSE: their processes are played by a test."""

import signal
from collections.abc import Awaitable, Callable

import trio

from hyperfs.daemon.places import Places
from hyperfs.daemon.supervisor import Mount, Supervisor

Play = Callable[["Played", Mount], Awaitable[None]]


class Played(Supervisor):
    """A supervisor whose children are played by ``play``, which returns when the process ends."""

    def __init__(self, places: Places, nursery: trio.Nursery, play: "Play", forget: Callable[[str], None]) -> None:
        super().__init__(places, nursery, forget)
        self._play = play
        self.signals: list[signal.Signals] = []
        self.terminated = trio.Event()
        self.killed = trio.Event()

    async def _run_child(self, mount: Mount) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_killed, nursery.cancel_scope)
            await self._play(self, mount)
            nursery.cancel_scope.cancel()

    async def _until_killed(self, scope: trio.CancelScope) -> None:
        await self.killed.wait()
        scope.cancel()

    def _signal(self, mount: Mount, number: signal.Signals) -> None:
        self.signals.append(number)
        (self.killed if number is signal.SIGKILL else self.terminated).set()
