"""Storage whose reads wait, each in its thread, until a test says that the disk has brought what they ask for.

The rule: nothing is read before `ColdDirectory.thaw`, and what is read then is what the file has at that time.
"""

import threading

from hyperfs.storage import MemoryDirectory
from hyperfs.storage.memory import MemoryContents, MemoryFile


class ColdFile(MemoryFile):
    """A file in memory that is in no page cache while its directory is cold."""

    def __init__(self, name: str, contents: MemoryContents, directory: "ColdDirectory") -> None:
        super().__init__(name, contents)
        self._directory = directory

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        return None if self._name in self._directory.cold else super().read_nowait(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        if self._name in self._directory.cold:
            data = super().read(offset, size) if self._directory.reads_before else None
            self._directory.waiting.set()
            self._directory.warm.wait()
            if data is not None:
                return data
        return super().read(offset, size)


class ColdDirectory(MemoryDirectory):
    """A folder whose files ``cold`` are read as slowly as a test wants.

    ``waiting`` is set once somebody waits for one. With ``reads_before`` what they get is what the file had when they
    asked, else what it has once it is thawed.
    """

    def __init__(self, *, reads_before: bool = False) -> None:
        super().__init__()
        self.cold: set[str] = set()
        self.reads_before = reads_before
        self.waiting = threading.Event()
        self.warm = threading.Event()

    def open(self, name: str, *, create: bool = False, permissions: int = 0o600) -> ColdFile:
        super().open(name, create=create)
        return ColdFile(name, self.files[name], self)

    def freeze(self, name: str) -> None:
        """Have reads of the file ``name`` wait from now on."""
        self.cold.add(name)
        self.waiting.clear()
        self.warm.clear()

    def thaw(self) -> None:
        """Let every read go on."""
        self.cold.clear()
        self.warm.set()
