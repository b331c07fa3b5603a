"""A process that mounts a drive of cores in memory, and does to it what a test writes on its standard input.

The rule: each line is a JSON string, the body of an async function that has ``own`` (an `OwnDrive`), ``cores``,
``operations`` (of the mount) and ``state`` (a dict to keep things in); what it returns is answered as a line of JSON,
an exception as ``{"error": …}``. The process unmounts and ends when its input does.
"""

import json
import logging
import os
import sys
import textwrap
from typing import Any

import trio

from hyperfs.core.reader import Hint, Priority, Run
from hyperfs.drive.drive import Drive
from hyperfs.mount import session
from hyperfs.mount.operations import Operations
from hyperfs.mount.options import MountOptions

from .drives import new_drive
from .memory_core import MemoryCore, MemoryCores


class WaitingCore(MemoryCore):
    """A core whose missing blocks are waited for until they are put back."""

    def __init__(self, key: bytes, *, writable: bool = True) -> None:
        super().__init__(key, writable=writable)
        self.back = trio.Event()
        self.waiting = 0
        self.aheads: list[tuple[int, int]] = []

    def put_back(self) -> None:
        super().put_back()
        self.back.set()
        self.back = trio.Event()

    async def get(self, index: int, *, priority: Priority = Priority.URGENT, hint: Hint | None = None) -> bytes:
        while (block := self.blocks[index]) is None:
            self.waiting += 1
            try:
                await self.back.wait()
            finally:
                self.waiting -= 1
        return block

    async def read(self, run: Run, position: int, size: int, *, priority: Priority = Priority.URGENT) -> bytes:
        parts = []
        at = 0
        for index in run.blocks:
            length = self._sizes[index]
            if at + length > position and at < position + size:
                parts.append((await self.get(index))[max(0, position - at) : position + size - at])
            at += length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def ahead(self, run: Run, position: int, size: int) -> None:
        self.aheads.append((position, size))


class WaitingCores(MemoryCores):
    """A provider of them."""

    async def open_core(self, key: bytes) -> MemoryCore:
        return self.cores.setdefault(key, WaitingCore(key, writable=False))

    def create(self) -> MemoryCore:
        made = super().create()
        core = self.cores[made.key] = WaitingCore(made.key)
        return core


async def main(mountpoint: str, options: dict[str, Any], prepare: str, version: int | None) -> None:
    cores = WaitingCores()
    own = await new_drive(cores)
    state: dict[str, Any] = {"cores": cores, "own": own, "state": {}}
    if prepare:
        await run(prepare, state)
    drive = await Drive.open(cores, own.drive.key, version=version)

    class Shown(Operations):
        def __init__(self, *arguments: Any, **choices: Any) -> None:
            super().__init__(*arguments, **choices)
            state["operations"] = self

    session.Operations = Shown  # type: ignore[misc]  # so that tests can look into the mount

    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            await session.run_mount(drive, mountpoint, MountOptions(**options), on_ready=lambda _: answer("ready"))
            nursery.cancel_scope.cancel()

        nursery.start_soon(serve)
        await obey(state)
        nursery.cancel_scope.cancel()


async def obey(state: dict[str, Any]) -> None:
    pending = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as commands:
        async for data in commands:
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                try:
                    result = await run(json.loads(line), state)
                except Exception as error:  # noqa: BLE001 - told to the test
                    result = {"error": repr(error)}
                answer(result)


async def run(body: str, state: dict[str, Any]) -> Any:
    names: dict[str, Any] = {}
    exec(f"async def _(own, cores, state, operations=None):\n{textwrap.indent(textwrap.dedent(body), ' ')}", names)
    return await names["_"](**state)


def answer(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    trio.run(main, sys.argv[1], *json.loads(sys.argv[2]))
