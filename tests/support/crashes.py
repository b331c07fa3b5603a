"""Storage that records every change and sync, and shows what a crash at any moment could have left.

The rule is that of a disk below a page cache: what was written before a file's last sync is there; of what came later,
each sector is there as it was after any of its writes since, or before all of them, and so is the file's size.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from hyperfs.storage import MemoryDirectory
from hyperfs.storage.memory import MemoryContents, MemoryFile

SECTOR_BYTES = 512


@dataclass
class Operation:
    """One change: new ``content`` of the file from ``offset``, a new ``size``, or (both None) a sync."""

    name: str
    offset: int = 0
    content: bytes | None = None
    size: int | None = None


class RecordingFile(MemoryFile):
    """A file in memory that notes what is done to it."""

    def __init__(self, name: str, contents: MemoryContents, operations: list[Operation]) -> None:
        super().__init__(name, contents)
        self._operations = operations

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        super().write(offset, data)
        self._operations.append(Operation(self._name, offset=offset, content=bytes(data)))

    def truncate(self, size: int) -> None:
        super().truncate(size)
        self._operations.append(Operation(self._name, size=size))

    def sync(self) -> None:
        self._operations.append(Operation(self._name))


class RecordingDirectory(MemoryDirectory):
    """A folder whose ``operations`` are all that was done to its files, in order.

    Two folders may note theirs in one list; ``prefix`` tells whose is whose.
    """

    def __init__(
        self,
        files: dict[str, MemoryContents] | None = None,
        *,
        operations: list[Operation] | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        self.operations: list[Operation] = [] if operations is None else operations
        self._prefix = prefix
        for name, contents in (files or {}).items():
            self.files[name] = MemoryContents()
            self.files[name].data[:] = contents.data

    def open(self, name: str, *, create: bool = False, permissions: int = 0o644) -> RecordingFile:
        super().open(name, create=create)
        return RecordingFile(self._prefix + name, self.files[name], self.operations)


@dataclass
class _File:
    current: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    versions: dict[int, list[bytes]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)

    def apply(self, operation: Operation) -> None:
        if operation.content is not None:
            end = operation.offset + len(operation.content)
            if not operation.content:
                return
            if end > len(self.current):
                self.current.extend(bytes(end - len(self.current)))
            self.current[operation.offset : end] = operation.content
            for sector in range(operation.offset // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1):
                at = sector * SECTOR_BYTES
                self.versions.setdefault(sector, []).append(bytes(self.current[at : at + SECTOR_BYTES]))
            self.sizes.append(len(self.current))
        elif operation.size is not None:
            del self.current[operation.size :]
            self.current.extend(bytes(operation.size - len(self.current)))
            self.sizes.append(len(self.current))
        else:
            self.durable = bytes(self.current)
            self.versions.clear()
            self.sizes.clear()

    def crashed(self, chance: random.Random) -> bytes:
        size = chance.choice([len(self.durable), *self.sizes])
        left = bytearray(self.durable[:size].ljust(size, b"\x00"))
        for sector, versions in self.versions.items():
            at = sector * SECTOR_BYTES
            version = chance.choice([None, *versions])
            if version is not None and at < size:
                left[at : at + len(version)] = version
        return bytes(left[:size])


class Replay:
    """Goes through recorded operations and makes directories as a crash at the present point would leave them."""

    def __init__(self, operations: Sequence[Operation], start: dict[str, MemoryContents] | None = None) -> None:
        self._operations = operations
        self._files: dict[str, _File] = {}
        for name, contents in (start or {}).items():
            self._files[name] = _File(bytearray(contents.data), bytes(contents.data))
        self.position = 0

    def advance(self, position: int) -> None:
        """Apply the operations up to ``position``."""
        for operation in self._operations[self.position : position]:
            self._files.setdefault(operation.name, _File()).apply(operation)
        self.position = position

    def killed(self) -> MemoryDirectory:
        """Return what is there when the process died: all of it, for the page cache lives on."""
        return _directory({name: bytes(file.current) for name, file in self._files.items()})

    def lost_power(self, chance: random.Random) -> MemoryDirectory:
        """Return what may be there when the machine died."""
        return _directory({name: file.crashed(chance) for name, file in self._files.items()})


def folder_of(directory: MemoryDirectory, prefix: str) -> MemoryDirectory:
    """Return the folder that was recorded with ``prefix``, out of what a `Replay` left."""
    found = MemoryDirectory()
    found.files.update(
        {name.removeprefix(prefix): contents for name, contents in directory.files.items() if name.startswith(prefix)}
    )
    return found


def _directory(files: dict[str, bytes]) -> MemoryDirectory:
    directory = MemoryDirectory()
    for name, content in files.items():
        directory.files[name] = MemoryContents()
        directory.files[name].data[:] = content
    return directory
