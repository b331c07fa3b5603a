"""``python -m bench.commit_pauses``: how long a commit of many files keeps others waiting.

The rule: others are a program that looks up a name in the mount, over and over, each time another that the kernel
cannot know, and a command that asks the daemon, over and over. What is told is the longest that any of them waited.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import trio

from bench.workspace import HyperfsStore, Workspace
from hyperfs.daemon.client import DaemonClient, Start, connect
from hyperfs.daemon.requests import GetHead

_FILES_IN_FOLDER = 100
_BYTES = 100
_IDLE_SECONDS = 0.5
_SETTLING_SECONDS = 3.0
_NEVER_SECONDS = "3600"
_PAUSE_SECONDS = 0.001


class Waits:
    """When somebody asked, and how long he waited."""

    def __init__(self) -> None:
        self._waits: list[tuple[float, float]] = []

    def add(self, asked: float) -> None:
        """Note that the answer to what was asked then has come."""
        self._waits.append((asked, time.perf_counter() - asked))

    def longest(self, since: float, until: float) -> float:
        """Return the longest wait in milliseconds."""
        return max((seconds for asked, seconds in self._waits if since <= asked < until), default=0.0) * 1000


class Prober:
    """Looks up absent names in a folder, in a thread of its own, until it is told to end."""

    def __init__(self, folder: Path) -> None:
        self.waits = Waits()
        self._folder = folder
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Prober":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._ends.wait(_PAUSE_SECONDS):
            number += 1
            asked = time.perf_counter()
            (self._folder / f"absent-{number}").exists()
            self.waits.add(asked)


def make_files(folder: Path, count: int) -> None:
    """Make so many small files, a hundred in a folder."""
    for number in range(count):
        if number % _FILES_IN_FOLDER == 0:
            below = folder / f"{number // _FILES_IN_FOLDER:05}"
            below.mkdir()
        (below / f"{number % _FILES_IN_FOLDER:02}").write_bytes(os.urandom(_BYTES))


def remove_files(folder: Path) -> None:
    """Remove all of them, as ``rm -rf`` does."""
    for below in folder.iterdir():
        for path in below.iterdir():
            path.unlink()
        below.rmdir()


async def ask(client: DaemonClient, key: bytes, waits: Waits, before: int) -> float:
    """Ask for a drive's version until it is another; return when that was."""
    while True:
        asked = time.perf_counter()
        head = await client.request(GetHead(key))
        waits.add(asked)
        if head.length != before:
            return time.perf_counter()
        await trio.sleep(_PAUSE_SECONDS)


async def measure(store: HyperfsStore, key: str, folder: Path, name: str) -> None:
    """Print what others waited for from now on until a commit is over."""
    waits = Waits()
    async with connect(store.directory, start=Start.NEVER) as client:
        before = (await client.request(GetHead(bytes.fromhex(key)))).length
        with Prober(folder) as prober:
            began = time.perf_counter()
            await trio.sleep(_IDLE_SECONDS)  # the commit begins a second after the last change
            idle = time.perf_counter()
            committed = await ask(client, bytes.fromhex(key), waits, before)
            await trio.sleep(_SETTLING_SECONDS)
            ended = time.perf_counter()
    mount = prober.waits
    print(
        f"{name}: version after {committed - began:.1f} s; longest lookup in the mount "
        f"{mount.longest(idle, ended):.1f} ms (idle {mount.longest(began, idle):.1f}), "
        f"longest answer of the daemon {waits.longest(began, ended):.1f} ms"
    )


def main() -> int:
    """Measure making and removing so many files."""
    parser = argparse.ArgumentParser(prog="python -m bench.commit_pauses", description=__doc__)
    parser.add_argument("files", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--dir", type=Path, help="where the store is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hyperfs-bench-", dir=arguments.dir or "/var/tmp") as directory:
        workspace = Workspace(Path(directory), quick=False)
        try:
            for count in arguments.files:
                store = workspace.new_store()
                key = store.create_drive()
                with store.mounted(key, workspace.new_directory("mnt"), "--flush-interval", _NEVER_SECONDS) as folder:
                    for name, work in (
                        ("made", lambda folder=folder, count=count: make_files(folder, count)),
                        ("removed", lambda folder=folder: remove_files(folder)),
                    ):
                        began = time.perf_counter()
                        work()
                        print(f"{count} files {name} in {time.perf_counter() - began:.1f} s")
                        trio.run(measure, store, key, folder, f"{count} files {name}")
                store.remove()
        finally:
            workspace.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
