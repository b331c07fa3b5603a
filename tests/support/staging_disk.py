"""The disk below a staging folder: it fails as it is told to, and knows what would outlive a power failure.

The rule is the kernel's: a page that could not be written is told of once, by the sync that met it, and counts as
written from then on, though the disk has it not.
"""

import os
import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hyperfs.mount.staging import directory, files
from tests.support.crashes import SECTOR_BYTES

CALLS = (
    "open",
    "pread",
    "preadv",
    "pwritev",
    "fdatasync",
    "fsync",
    "posix_fallocate",
    "unlink",
    "link",
    "statvfs",
    "fstat",
)
"""What the staging asks of the disk, beside `write_at`."""

Verdict = Callable[[str, Path | None], OSError | None]
"""Says what an operation, of a file if that can be told, fails with."""


class _Content:
    """One file: what is durable of it, and what was written since."""

    def __init__(self) -> None:
        self.durable = b""
        self.unsynced: list[tuple[int, int]] = []


class StagingDisk:
    """The disk of the folder ``path``. `installed` puts it below the staging."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.verdict: Verdict = lambda call, file: None
        self.before: Callable[[str, Path | None], None] = lambda call, file: None
        """Called before each operation, in the thread that does it."""
        self._contents: dict[str, _Content] = {}
        self._names: set[str] = set()
        self._deleted: dict[str, bytes] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Be the disk of the staging until the block ends."""
        standing = types.SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
        for name in CALLS:
            setattr(standing, name, self._wrapped(name, getattr(os, name)))
        with (
            patch.object(files, "os", standing),
            patch.object(directory, "os", standing),
            patch.object(files, "write_at", self._wrapped("write_at", files.write_at)),
        ):
            yield

    def lose_power(self, into: Path, chance: random.Random) -> None:
        """Put into a new folder what may be there after a power failure at this instant."""
        into.mkdir()
        now = {path.name for path in self.path.iterdir() if path.is_file()}
        for name in sorted(now | self._names):
            if (name in now and name in self._names) or chance.random() < 0.5:
                content = self._contents.get(name, _Content())
                cached = (self.path / name).read_bytes() if name in now else self._deleted[name]
                (into / name).write_bytes(_torn(content, cached, chance))

    def durable(self, name: str) -> bytes:
        """Return what is durable of a file."""
        return self._contents[name].durable

    def _wrapped(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            path = _path_of(arguments[0])
            self.before(call, path)
            error = self.verdict(call, path)
            if error is None:
                if call == "unlink" and path is not None:
                    self._deleted[path.name] = path.read_bytes() if path.exists() else b""
                result = real(*arguments, **keywords)
            self._note(call, path, arguments, error)
            if error is not None:
                raise error
            return result

        return wrapped

    def _note(self, call: str, path: Path | None, arguments: tuple[Any, ...], error: OSError | None) -> None:
        if path is None or (error is not None and call != "fdatasync"):
            return
        if call == "fsync" and path == self.path:
            self._names = {there.name for there in self.path.iterdir() if there.is_file()}
            return
        if path.parent != self.path:
            return
        content = self._contents.setdefault(path.name, _Content())
        if call in ("write_at", "pwritev"):
            at, data = (arguments[1], arguments[2]) if call == "write_at" else (arguments[2], arguments[1][0])
            content.unsynced.append((at, at + len(data)))
        elif call == "fdatasync":
            written, content.unsynced = content.unsynced, []
            if error is None:
                content.durable = _with(content.durable, path.read_bytes(), written)


def _path_of(argument: Any) -> Path | None:
    if isinstance(argument, int):
        path = Path(os.readlink(f"/proc/self/fd/{argument}"))
        return path if path.exists() else None
    return Path(argument)


def _with(durable: bytes, cached: bytes, ranges: list[tuple[int, int]]) -> bytes:
    found = bytearray(durable.ljust(len(cached), b"\0"))
    for start, end in ranges:
        found[start:end] = cached[start:end]
    return bytes(found)


def _torn(content: _Content, cached: bytes, chance: random.Random) -> bytes:
    new = _with(content.durable, cached, content.unsynced)
    old = content.durable.ljust(len(new), b"\0")
    sectors = range(0, len(new), SECTOR_BYTES)
    return b"".join(chance.choice((old, new))[at : at + SECTOR_BYTES] for at in sectors)
