"""What a test leaves behind in its process: descriptors, threads, child processes, mounts, locks.

The rule: a test leaves nothing. What fixtures of a module or a session hold is theirs to give back, by the end of the
module's last test.
"""

import gc
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_KEPT_THREADS = "Trio thread", "scheduled"
"""Threads without work that are kept for the next who needs one: trio's, and those of `tests.support.scheduling`."""
_PROC = Path("/proc/self")


@dataclass(frozen=True)
class Held:
    """What the process holds at one moment, each thing as it is told."""

    things: frozenset[str]
    folder: Path
    """Mounts count below this one: others may be those of a test beside it."""

    @classmethod
    def now(cls, folder: Path) -> "Held":
        things = {*_descriptors(), *_threads(), *_children(), *_mounts(folder), *_locks()}
        return cls(frozenset(things), folder)

    def and_also(self, things: Iterable[str]) -> "Held":
        """Return this with what was told of already."""
        return Held(self.things | frozenset(things), self.folder)

    def left_since(self) -> list[str]:
        """Return what is held now and was not then, once what nobody refers to any more is collected."""
        if not Held.now(self.folder).things - self.things:
            return []
        gc.collect()
        return sorted(Held.now(self.folder).things - self.things)


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir(_PROC / "fd"):
        try:
            found.append(f"descriptor {name} of {os.readlink(_PROC / 'fd' / name)}")
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def _threads() -> list[str]:
    return [f"thread {thread.name!r}" for thread in threading.enumerate() if not thread.name.startswith(_KEPT_THREADS)]


def _children() -> list[str]:
    return [
        f"child process {number}: {_command(number)}"
        for task in os.listdir(_PROC / "task")
        for number in _read(_PROC / "task" / task / "children").split()
    ]


def _command(number: str) -> str:
    return _read(Path("/proc") / number / "cmdline").replace("\0", " ")[:200]


def _mounts(folder: Path) -> list[str]:
    points = (line.split()[4] for line in _read(_PROC / "mountinfo").splitlines())
    return [f"mount at {point}" for point in points if Path(point).is_relative_to(folder)]


def _locks() -> list[str]:
    """Return the file locks that this process holds."""
    own = str(os.getpid())
    lines = (line.split() for line in _read(Path("/proc/locks")).splitlines())
    return [f"{fields[1]} on {fields[5]}" for fields in lines if len(fields) > 5 and fields[4] == own]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
