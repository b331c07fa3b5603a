"""A folder of a drive as one file, made while it is sent: TAR, or ZIP.

The rule: nothing is kept but one piece of one file. What cannot be read ends the archive unfinished, which every
program that unpacks it notices; what no archive can hold is left out.
"""

import io
import tarfile
import time
import zipfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import IO, TYPE_CHECKING, Final

from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import Snapshot
from hyperfs.errors import EncodingError
from hyperfs.web.files import Write, copy_part

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FIRST_ZIP_YEAR: Final = 1980
_LAST_ZIP_TIME: Final = (2107, 12, 31, 23, 59, 58)


class Archive(Enum):
    """A kind of archive: the ending of its name, and its media type."""

    TAR = ("tar", "application/x-tar")
    ZIP = ("zip", "application/zip")

    @property
    def ending(self) -> str:
        """What stands behind the dot of its name."""
        return self.value[0]

    @property
    def type(self) -> str:
        """The media type."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class _Member:
    """An entry and its path in the archive."""

    entry: Entry
    path: str


async def write_archive(kind: Archive, snapshot: Snapshot, folder: str, write: Write) -> None:
    """Write all below ``folder`` as one archive, drives that are mounted in it included.

    Raises `BlockNotAvailable`, `PathError`.
    """
    await (_write_tar if kind is Archive.TAR else _write_zip)(snapshot, folder, write)


async def _members(snapshot: Snapshot, folder: str) -> AsyncGenerator[_Member, None]:
    above = folder.rpartition("/")[0]
    async with aclosing(snapshot.walk(folder)) as entries:
        async for entry in entries:
            yield _Member(entry, entry.path[len(above) + 1 :] if above else entry.path)


async def _write_tar(snapshot: Snapshot, folder: str, write: Write) -> None:
    async with aclosing(_members(snapshot, folder)) as members:
        async for member in members:
            try:
                stat = member.entry.stat
            except EncodingError:
                continue
            info = tarfile.TarInfo(member.path)
            info.mode, info.uid, info.gid, info.mtime = stat.mode & 0o7777, stat.uid, stat.gid, stat.mtime // 1000
            if stat.is_directory:
                info.type = tarfile.DIRTYPE
            elif stat.is_link:
                info.type, info.linkname = tarfile.SYMTYPE, stat.linkname or ""
            elif stat.is_file:
                info.size = stat.size
            else:
                continue
            await write(info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape"))
            if info.size:
                file = await snapshot.open(member.entry)
                await copy_part(file, range(file.size), write)
                await write(b"\0" * (-info.size % tarfile.BLOCKSIZE))
    await write(b"\0" * (2 * tarfile.BLOCKSIZE))


async def _write_zip(snapshot: Snapshot, folder: str, write: Write) -> None:
    out = _Outbox()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        async with aclosing(_members(snapshot, folder)) as members:
            async for member in members:
                try:
                    stat = member.entry.stat
                except EncodingError:
                    continue
                if not (stat.is_directory or stat.is_link or stat.is_file):
                    continue
                info = zipfile.ZipInfo(member.path + ("/" if stat.is_directory else ""), zip_time(stat.mtime))
                info.create_system = 3  # Unix, so that the mode counts
                info.external_attr = (stat.mode & 0xFFFF) << 16 | (0x10 if stat.is_directory else 0)
                if stat.is_directory:
                    archive.writestr(info, b"")
                elif stat.is_link:
                    archive.writestr(info, (stat.linkname or "").encode(errors="surrogateescape"))
                else:
                    file = await snapshot.open(member.entry)
                    with archive.open(info, "w", force_zip64=file.size >= 1 << 31) as into:

                        async def add(piece: bytes, into: IO[bytes] = into) -> None:
                            into.write(piece)
                            await write(out.take())

                        await copy_part(file, range(file.size), add)
                await write(out.take())
    await write(out.take())


class _Outbox(io.RawIOBase):
    """What `zipfile` writes to, taken away piece by piece: it cannot be sought in."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """Return whether it can be written to."""
        return True

    def write(self, piece: "ReadableBuffer", /) -> int:
        """Keep a piece."""
        self._pieces.append(bytes(piece))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        """Return what was written since."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def zip_time(milliseconds: int) -> tuple[int, int, int, int, int, int]:
    """Return a time as ZIP holds it: of no zone, and from 1980 to 2107."""
    try:
        at = time.localtime(milliseconds / 1000)[:6]
    except (OverflowError, ValueError, OSError):
        return _LAST_ZIP_TIME
    return min(max(at, (_FIRST_ZIP_YEAR, 1, 1, 0, 0, 0)), _LAST_ZIP_TIME)
