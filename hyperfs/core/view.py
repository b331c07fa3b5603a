"""A core as a process sees it that does not own it: read-only files, a shared map, and the daemon as its source.

The rule: it takes no locks and writes nothing, and it never believes a byte whose bit was cleared while it read. See
docs/architecture.md, "Between the daemon and its mounts".
"""

from contextlib import ExitStack, suppress
from pathlib import Path

from hyperfs.core.format import HYPERCORE_9, CoreFormat
from hyperfs.core.local import LocalReader
from hyperfs.core.nonblocking import NonblockingFile
from hyperfs.core.reader import Source
from hyperfs.core.shared_map import SharedMapReader
from hyperfs.core.sleep import TreeFile
from hyperfs.storage import DiskDirectory, MemoryDirectory
from hyperfs.storage.disk import DiskFile


class CoreView(LocalReader):
    """Implements `CoreReader` over another process's core. ``map_path`` is the owner's shared map.

    Of a core of which there is nothing on disk the files are opened when there is. ``writable`` is what the owner says
    of the core.
    """

    def __init__(
        self,
        directory: DiskDirectory,
        map_path: Path,
        *,
        key: bytes,
        length: int,
        byte_length: int,
        writable: bool = False,
        source: Source | None = None,
        format: CoreFormat = HYPERCORE_9,
    ) -> None:
        self._map = SharedMapReader(map_path, key)
        self._directory = directory
        self._files: list[DiskFile] = []
        nothing = MemoryDirectory()
        super().__init__(
            key=key,
            discovery_key=format.discovery_key(key),
            writable=writable,
            length=length,
            byte_length=byte_length,
            tree=TreeFile(nothing.open("tree", create=True), directory.describe("tree")),
            data=NonblockingFile(nothing.open("data", create=True), directory.describe("data")),
            bits=self._map,
            source=source,
        )
        self._map.on_mapped = self._open_files
        with ExitStack() as on_failure:
            on_failure.callback(self._map.close)
            self._open_files()
            on_failure.pop_all()

    def extended(self, length: int, byte_length: int) -> None:
        """Switch to a newer head, as the owner reported it after verifying it; an older one is ignored."""
        if length > self.length:
            self._extend(length, byte_length)

    def reopen_map(self) -> None:
        """Map the shared map again, after a new owner of the store said hello, and forget where blocks were.

        The new owner may have cut off what the one before had not made durable, and put other blocks in its place.
        """
        self._map.reopen()
        self._whole_runs.clear()
        self._offsets.forget()

    def restarted(self, length: int, byte_length: int) -> None:
        """Take over the head of a new owner, even a shorter one than the owner before had told of."""
        self.reopen_map()
        if length > self.length:
            self._extend(length, byte_length)
        else:
            self.length, self.byte_length = length, byte_length

    def rest(self) -> None:
        """Have no file open until something is asked of this again; what is under way goes on.

        Meanwhile the owner may let go of the core, so that whoever wakes this takes over its head with `restarted`.
        """
        self._map.close()
        for file in self._files:
            file.rest()
        self._whole_runs.clear()
        self._offsets.forget()

    def close(self) -> None:
        """Close the files and the map; nothing is here from now on, and who waits for something gets `Closed`."""
        self._end_waits()
        self._map.close()
        self._tree.file.close()
        self._data.file.close()

    def _open_files(self) -> None:
        """Open the files in place of nothing, if they are there by now."""
        if not self._files:
            with ExitStack() as on_failure, suppress(FileNotFoundError):
                tree = self._directory.open("tree")
                on_failure.callback(tree.close)
                data = self._directory.open("data")
                self._data.file, self._tree.file = data, tree
                self._files = [data, tree]
                on_failure.pop_all()
