"""A folder on disk of which it is known, at each instant, what a kill and what a power failure would leave of it.

The rules are those of a disk below a page cache: after a kill everything written is there. After a power failure a file
has what it had when it was last synced, and each sector written since is there as it was or as it became; so is its
size. The names in the folder are those of the last sync of the folder, with the first few of the changes since.

All of the process's system calls go through it while it is installed; other folders are left alone.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.crashes import SECTOR_BYTES

_AHEAD_BYTES = 4096
_CHANGES = "pwrite", "pwritev", "write", "ftruncate", "posix_fallocate"


@dataclass(slots=True)
class _File:
    """One file, whatever its names are. ``last`` is what it held when its last name went."""

    path: str
    durable: bytes = b""
    is_synced: bool = True
    last: bytes | None = None

    def now(self) -> bytes:
        return Path(self.path).read_bytes() if self.last is None else self.last


@dataclass(slots=True)
class _Folder:
    durable: dict[str, _File] = field(default_factory=dict)
    names: dict[str, _File] = field(default_factory=dict)
    changes: list[tuple[str, _File | None]] = field(default_factory=list)
    """What became of which name since the folder was synced."""

    def set(self, name: str, file: _File | None) -> None:
        if file is None:
            self.names.pop(name)
        else:
            self.names[name] = file
        self.changes.append((name, file))

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.changes.clear()


class RecordedFolder:
    """Watches what is done to the files of one folder, which has none yet. ``point`` is called before each call."""

    def __init__(self, path: Path, point: Callable[[], None]) -> None:
        self.path = str(path)
        self._point = point
        self._folder = _Folder()
        self._by_inode: dict[tuple[int, int], _File] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Watch until the block ends."""
        kept = {}
        replaced = dict.fromkeys(_CHANGES, self._changing)
        replaced |= {"open": self._opening, "unlink": self._unlinking, "fsync": self._syncing}
        replaced |= {"fdatasync": self._syncing, "rename": self._renaming, "replace": self._renaming}
        for name, wrapper in replaced.items():
            kept[name] = getattr(os, name)
            setattr(os, name, wrapper(kept[name]))
        try:
            yield
        finally:
            for name, call in kept.items():
                setattr(os, name, call)

    def after_kill(self, target: Path) -> None:
        """Make ``target`` what is there when the process died now."""
        shutil.copytree(self.path, target)

    def after_power_failure(self, target: Path, chance: random.Random) -> None:
        """Make ``target`` what may be there when the machine died now."""
        target.mkdir()
        names = dict(self._folder.durable)
        changes = self._folder.changes
        for name, file in changes[: chance.choice((0, len(changes), chance.randint(0, len(changes))))]:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        luck = chance.choice((0.0, 0.5, 1.0))
        for name, file in names.items():
            (target / name).write_bytes(_crashed(file, chance, luck))

    def _name(self, path: Any) -> str | None:
        above, _, name = os.fspath(path).rpartition("/")
        return name if above == self.path else None

    def _opening(self, call: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            name = self._name(path)
            if name is None:
                return call(path, flags, *arguments, **options)
            self._point()
            descriptor = call(path, flags, *arguments, **options)
            if name not in self._folder.names:
                file = _File(os.fspath(path))
                self._folder.set(name, file)
                self._by_inode[_identity(os.fstat(descriptor))] = file
            return descriptor

        return opened

    def _changing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def changed(descriptor: int, *arguments: Any) -> Any:
            file = self._by_inode.get(_identity(os.fstat(descriptor)))
            if file is None:
                return call(descriptor, *arguments)
            self._point()
            file.is_synced = False
            if call.__name__ == "posix_fallocate":  # space ahead, of which less is as good, and cheaper to copy
                offset, size = arguments
                return call(descriptor, offset, min(size, max(1, os.fstat(descriptor).st_size + _AHEAD_BYTES - offset)))
            return call(descriptor, *arguments)

        return changed

    def _syncing(self, call: Callable[[int], None]) -> Callable[[int], None]:
        def synced(descriptor: int) -> None:
            self._point()
            file = self._by_inode.get(_identity(os.fstat(descriptor)))
            if file is not None:
                file.durable = file.now()
                file.is_synced = True
            elif os.readlink(f"/proc/self/fd/{descriptor}") == self.path:
                self._folder.sync()
            else:
                call(descriptor)

        return synced

    def _unlinking(self, call: Callable[..., None]) -> Callable[..., None]:
        def unlinked(path: Any, **options: Any) -> None:
            name = self._name(path)
            if name is not None:
                self._point()
                file = self._folder.names.get(name)
                if file is not None:
                    file.last = file.now()
                    self._by_inode.pop(_identity(os.stat(path)))
                    call(path, **options)
                    self._folder.set(name, None)
                    return
            call(path, **options)

        return unlinked

    def _renaming(self, call: Callable[..., None]) -> Callable[..., None]:
        def renamed(old: Any, new: Any, **options: Any) -> None:
            source, target = self._name(old), self._name(new)
            if source is not None and target is not None:
                self._point()
                replaced = self._folder.names.get(target)
                if replaced is not None:
                    replaced.last = replaced.now()
                    self._by_inode.pop(_identity(os.stat(new)))
                call(old, new, **options)
                file = self._folder.names[source]
                file.path = os.fspath(new)
                self._folder.set(target, file)
                self._folder.set(source, None)
                return
            call(old, new, **options)

        return renamed


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _crashed(file: _File, chance: random.Random, luck: float) -> bytes:
    """Return what a power failure may leave of a file; ``luck`` is how likely what was not synced is there."""
    if file.is_synced:
        return file.durable
    now = file.now()
    size = len(now) if chance.random() < luck else len(file.durable)
    left = bytearray(file.durable[:size].ljust(size, b"\0"))
    for at in range(0, size, SECTOR_BYTES):
        if chance.random() < luck:
            left[at : at + SECTOR_BYTES] = now[at : at + SECTOR_BYTES].ljust(min(SECTOR_BYTES, size - at), b"\0")
    return bytes(left)
