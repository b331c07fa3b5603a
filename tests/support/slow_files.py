"""Files in memory of which some pages are cached, and at each of whose calls a thread can be kept waiting.

The rule is a page cache's: what was written or read is in memory until chance evicts it, which it does not before it
was synced; a read that may not wait finds only what is in memory. Pages are small, so that they matter.
"""

from collections.abc import Sequence

from .crashes import RecordingDirectory, RecordingFile
from .scheduling import Schedule

_PAGE_BYTES = 64


class SlowFile(RecordingFile):
    """A file that notes what is done to it."""

    schedule: Schedule
    cached: set[int]
    """Which of the file's pages are in memory, however often it is open."""
    dirty: set[int]

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        if self.schedule.is_slow():
            self.cached.intersection_update(self.dirty)
        if self.schedule.is_quiet or self.cached.issuperset(_pages(offset, min(size, self.size() - offset))):
            return super().read(offset, size)
        return None

    def read(self, offset: int, size: int) -> bytes:
        self.schedule.point()
        data = super().read(offset, size)
        self.cached.update(_pages(offset, len(data)))
        return data

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.schedule.point()
        super().write(offset, data)
        self.cached.update(_pages(offset, len(data)))
        self.dirty.update(_pages(offset, len(data)))

    def write_all(self, offset: int, parts: Sequence[bytes]) -> None:
        for part in parts:
            self.write(offset, part)
            offset += len(part)

    def truncate(self, size: int) -> None:
        self.schedule.point()
        super().truncate(size)

    def sync(self) -> None:
        self.schedule.point()
        super().sync()
        self.dirty.clear()


def _pages(offset: int, size: int) -> range:
    return range(offset // _PAGE_BYTES, -(-(offset + size) // _PAGE_BYTES)) if size > 0 else range(0)


class SlowDirectory(RecordingDirectory):
    """A folder of slow files."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = schedule
        self._pages: dict[str, tuple[set[int], set[int]]] = {}

    def open(self, name: str, *, create: bool = False, permissions: int = 0o644) -> SlowFile:
        super().open(name, create=create)
        file = SlowFile(name, self.files[name], self.operations)
        file.schedule = self._schedule
        file.cached, file.dirty = self._pages.setdefault(name, (set(), set()))
        return file
