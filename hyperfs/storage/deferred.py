"""A folder on disk that is not made before there is something to keep: until then its files are in memory.

The rule: after `DeferredDirectory.keep` it is as if every file had been on disk from its beginning.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from hyperfs.storage.disk import DiskDirectory, DiskFile
from hyperfs.storage.memory import MemoryDirectory
from hyperfs.storage.protocol import RandomAccessFile


class DeferredFile:
    """One opening of a file that is in memory first, and on disk later."""

    def __init__(self, file: RandomAccessFile, on_close: Callable[["DeferredFile"], None]) -> None:
        self.file = file
        self.locked = False
        self._on_close = on_close

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        """See `RandomAccessFile.read_nowait`."""
        return self.file.read_nowait(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """See `RandomAccessFile.read`."""
        return self.file.read(offset, size)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """See `RandomAccessFile.write`."""
        self.file.write(offset, data)

    def write_all(self, offset: int, parts: Sequence[bytes]) -> None:
        """See `RandomAccessFile.write_all`."""
        self.file.write_all(offset, parts)

    def size(self) -> int:
        """See `RandomAccessFile.size`."""
        return self.file.size()

    def next_data(self, offset: int) -> int:
        """See `RandomAccessFile.next_data`."""
        return self.file.next_data(offset)

    def truncate(self, size: int) -> None:
        """See `RandomAccessFile.truncate`."""
        self.file.truncate(size)

    def punch_hole(self, offset: int, size: int) -> None:
        """See `RandomAccessFile.punch_hole`."""
        self.file.punch_hole(offset, size)

    def allocated(self) -> int:
        """See `RandomAccessFile.allocated`."""
        return self.file.allocated()

    def sync(self) -> None:
        """See `RandomAccessFile.sync`."""
        self.file.sync()

    def lock(self) -> None:
        """See `RandomAccessFile.lock`."""
        self.file.lock()
        self.locked = True

    def close(self) -> None:
        """See `RandomAccessFile.close`."""
        self.file.close()
        self._on_close(self)


class DeferredDirectory:
    """A folder at ``path`` that does not exist yet, or the one that `keep` has made of it."""

    def __init__(self, path: Path) -> None:
        self.kept = False
        """Whether the files are on disk."""
        self._memory = MemoryDirectory()
        self._disk = DiskDirectory(path)
        self._opened: dict[DeferredFile, tuple[str, int]] = {}
        self._permissions: dict[str, int] = {}

    def open(self, name: str, *, create: bool = False, permissions: int = 0o600) -> RandomAccessFile:
        """See `Directory.open`."""
        if self.kept:
            return self._disk.open(name, create=create, permissions=permissions)
        file = DeferredFile(self._memory.open(name, create=create), self._forget)
        self._opened[file] = name, permissions
        self._permissions.setdefault(name, permissions)
        return file

    def exists(self, name: str) -> bool:
        """See `Directory.exists`."""
        return self._disk.exists(name) if self.kept else self._memory.exists(name)

    def sync(self) -> None:
        """See `Directory.sync`."""
        if self.kept:
            self._disk.sync()

    def describe(self, name: str) -> str:
        """See `Directory.describe`."""
        return self._disk.describe(name)

    def keep(self) -> None:
        """See `Directory.keep`. What was made so far on disk when it raises is made again by the next call."""
        if self.kept:
            return
        made: list[tuple[DeferredFile, DiskFile]] = []
        with ExitStack() as on_failure:
            for opened, (name, permissions) in list(self._opened.items()):
                on_disk = self._disk.open(name, create=True, permissions=permissions)
                on_failure.callback(on_disk.close)
                if opened.locked:
                    on_disk.lock()
                made.append((opened, on_disk))
            for name, contents in self._memory.files.items():
                file = self._disk.open(name, create=True, permissions=self._permissions[name])
                try:
                    file.write(0, contents.data)
                    file.sync()
                finally:
                    file.close()
            self._disk.sync()
            on_failure.pop_all()
        for opened, on_disk in made:
            opened.file = on_disk  # and the one in memory is not closed: a reader may just have got hold of it
        self.kept = True

    def _forget(self, file: DeferredFile) -> None:
        self._opened.pop(file, None)
