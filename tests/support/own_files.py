"""Files as a program brings them to `hyperfs.open_core`: nothing but what it has to bring."""


class OwnFiles:
    """Files in memory, by name; ``open_count`` of them are open."""

    def __init__(self) -> None:
        self.contents: dict[str, bytearray] = {}
        self.open_count = 0

    def open(self, name: str) -> "OwnFile":
        self.open_count += 1
        return OwnFile(self, self.contents.setdefault(name, bytearray()))


class OwnFile:
    """One opening of such a file."""

    def __init__(self, files: OwnFiles, content: bytearray) -> None:
        self._files = files
        self._content = content

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._content[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self._content.extend(bytes(max(0, offset - len(self._content))))
        self._content[offset : offset + len(data)] = data

    def size(self) -> int:
        return len(self._content)

    def truncate(self, size: int) -> None:
        del self._content[size:]

    def sync(self) -> None:
        pass

    def close(self) -> None:
        self._files.open_count -= 1
