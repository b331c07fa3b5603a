"""Files in memory: for tests, and for cores that need not outlive the process."""

from collections.abc import Sequence

from hyperfs.errors import Closed, StoreLocked


class MemoryContents:
    """The bytes of one file, shared by everybody who has it open."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.locked = False


class MemoryFile:
    """One opening of a file in memory."""

    def __init__(self, name: str, contents: MemoryContents) -> None:
        self._name = name
        self._contents = contents
        self._holds_lock = False
        self._closed = False

    def read_nowait(self, offset: int, size: int) -> bytes | None:
        """See `RandomAccessFile.read_nowait`."""
        return self.read(offset, size)

    def read(self, offset: int, size: int) -> bytes:
        """See `RandomAccessFile.read`."""
        return bytes(self._open_contents()[offset : offset + size])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """See `RandomAccessFile.write`."""
        contents = self._open_contents()
        if not len(data):
            return
        if offset > len(contents):
            contents.extend(bytes(offset - len(contents)))
        contents[offset : offset + len(data)] = data

    def write_all(self, offset: int, parts: Sequence[bytes]) -> None:
        """See `RandomAccessFile.write_all`."""
        self.write(offset, b"".join(parts))

    def size(self) -> int:
        """See `RandomAccessFile.size`."""
        return len(self._open_contents())

    def next_data(self, offset: int) -> int:
        """See `RandomAccessFile.next_data`: memory has no holes."""
        return min(offset, self.size())

    def truncate(self, size: int) -> None:
        """See `RandomAccessFile.truncate`."""
        contents = self._open_contents()
        if size < len(contents):
            del contents[size:]
        else:
            contents.extend(bytes(size - len(contents)))

    def punch_hole(self, offset: int, size: int) -> None:
        """See `RandomAccessFile.punch_hole`."""
        size = min(size, self.size() - offset)
        if size > 0:
            self.write(offset, bytes(size))

    def allocated(self) -> int:
        """See `RandomAccessFile.allocated`: memory has no holes."""
        return len(self._open_contents())

    def sync(self) -> None:
        """See `RandomAccessFile.sync`: memory is as durable as it gets."""
        self._open_contents()

    def lock(self) -> None:
        """See `RandomAccessFile.lock`."""
        if self._contents.locked and not self._holds_lock:
            raise StoreLocked(f"{self._name} (in memory) is open already in this process")
        self._contents.locked = self._holds_lock = True

    def close(self) -> None:
        """See `RandomAccessFile.close`."""
        self._closed = True
        if self._holds_lock:
            self._contents.locked = self._holds_lock = False

    def _open_contents(self) -> bytearray:
        if self._closed:
            raise Closed(f"{self._name} (in memory) was closed")
        return self._contents.data


class MemoryDirectory:
    """A folder in memory; opening it again finds what was written."""

    kept = True

    def __init__(self) -> None:
        self.files: dict[str, MemoryContents] = {}

    def open(self, name: str, *, create: bool = False, permissions: int = 0o600) -> MemoryFile:
        """See `Directory.open`."""
        if name not in self.files:
            if not create:
                raise FileNotFoundError(name)
            self.files[name] = MemoryContents()
        return MemoryFile(name, self.files[name])

    def exists(self, name: str) -> bool:
        """See `Directory.exists`."""
        return name in self.files

    def sync(self) -> None:
        """See `Directory.sync`."""

    def keep(self) -> None:
        """See `Directory.keep`."""

    def describe(self, name: str) -> str:
        """See `Directory.describe`."""
        return name
