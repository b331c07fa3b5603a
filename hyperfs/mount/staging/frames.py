"""A journal's bytes: a line that names the version, then one frame for each record.

The rules: a frame tells its length, how much of its journal was durable when it was written, and a checksum of all that
and of where it stands. Behind the last frame are zeros, or nothing. What is neither a frame nor such an end is damage,
which costs the records that it hits and none behind them; unless the machine stopped since, and nothing behind it was
known to be durable: then the disk took the last writes in an order of its own, and the journal ends there.

Version 2 begins with ``hyperfs journal 2`` and a line feed, the 16 bytes of the machine's boot id, 8 bytes for the end
of the journal before (0 if nothing is known of it), 8 bytes each for the journal and the place where an earlier one was
found to end so (both 0 if none was), and a CRC-32 of these 40. A frame is a mark, 4 bytes; the size of the record, 4;
the durable bytes, 8; a CRC-32; the record. The checksum is of the journal's number and the frame's place, 8 bytes each,
then size, durable bytes and record. Version 1 had the line alone, and frames of size, CRC-32 of the record, and record.
All numbers are little-endian.
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import Protocol

from hyperfs.errors import LaterFormat

MAX_RECORD_BYTES = 256 * 1024 * 1024
_NAME = b"hyperfs journal "
_LINES = {1: b"hyperfs journal 1\n", 2: b"hyperfs journal 2\n"}
_LINE_BYTES = len(_LINES[2])
_HEADER = struct.Struct("<16sQQQ")
_CHECKSUM = struct.Struct("<I")
_CHECKSUM_AT = _LINE_BYTES + _HEADER.size
_HEADER_BYTES = _CHECKSUM_AT + _CHECKSUM.size
_MARK = b"\xc1hyj"
_FRAME = struct.Struct("<4sIQI")
_CHECKED = struct.Struct("<QQIQ")
_FRAME_1 = struct.Struct("<II")
_PAGE_BYTES = 4096
_FEW_BYTES = 32


@dataclass(frozen=True, slots=True)
class Cut:
    """Journal ``number`` ends at byte ``place``, and those behind it, up to the one that says so, count for nothing."""

    number: int
    place: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A record, at byte ``start`` of its journal, of which ``durable_bytes`` were durable when it was written."""

    record: bytes
    start: int
    end: int
    durable_bytes: int = 0


@dataclass(slots=True)
class Contents:
    """What was found in a journal."""

    begin: int
    """Where its first frame stands."""
    frames: list[Frame] = field(default_factory=list)
    """Those that check, in order."""
    durable_bytes: int = 0
    """What begins before this byte was durable, with all that it speaks of, or no power failed since."""
    damage: list[range] = field(default_factory=list)
    """Bytes that held something that cannot be read any more."""
    end: int | None = None
    """Where the journal ends although there is something behind, of which nothing was durable when the power failed."""
    end_before: int = 0
    """Where the journal before this one ended when this one began; 0 when it does not say."""
    earlier: Cut | None = None
    """Where an earlier journal was found to end so when this one began."""
    is_certain: bool = True
    """Whether all of it was durable, or no power failed since."""
    is_known_durable: bool = False
    """Whether something in it says that all journals before it are durable."""

    @property
    def last(self) -> int:
        """Where its last frame ends."""
        return self.frames[-1].end if self.frames else self.begin


def header(boot: bytes, end_before: int = 0, earlier: Cut | None = None) -> bytes:
    """Return what a journal begins with. ``boot`` is 16 bytes that tell this boot of the machine from others."""
    number, place = (0, 0) if earlier is None else (earlier.number, earlier.place)
    said = _HEADER.pack(boot, end_before, number, place)
    return _LINES[2] + said + _CHECKSUM.pack(zlib.crc32(said))


def frame(record: bytes, *, number: int, place: int, durable_bytes: int) -> bytes:
    """Return the frame of a record at byte ``place`` of journal ``number``, whose first bytes were durable by then."""
    checksum = _checksum(record, number, place, durable_bytes)
    return _FRAME.pack(_MARK, len(record), durable_bytes, checksum) + record


def parse(data: bytes, number: int, boot: bytes, *, was_durable: bool) -> Contents:
    """Return what is in journal ``number``; ``boot`` is the present one.

    ``was_durable`` tells that a later journal knows all of this one to have been durable.

    Raises:
        LaterFormat: a version that is not known here.
    """
    line = data[:_LINE_BYTES]
    first = _Version1(data)
    version: _Version = first if line == _LINES[1] else _Version2(data, number)
    gaps: list[range] = []
    if line not in _LINES.values() and any(line):
        if line.startswith(_NAME):
            text = line[len(_NAME) :].split(b"\n")[0].decode(errors="replace")
            raise LaterFormat(
                f"journal {number} of what is staged is of version {text}, which this one does not know; "
                "mount the drive with the version of hyperfs that wrote it"
            )
        gaps.append(range(_LINE_BYTES))
        if first.frame_at(_LINE_BYTES) is not None:
            version = first
    frames = _frames(data, version, gaps)
    durable_bytes = max((found.durable_bytes for found in frames), default=0)
    contents = Contents(version.begin, durable_bytes=durable_bytes, is_known_durable=durable_bytes > 0)
    # Of a journal of version 1 it cannot be told whether the power failed: all of it that can be read counts.
    lost_power = version is not first
    if version is not first:
        said, checksum = data[_LINE_BYTES:_CHECKSUM_AT], data[_CHECKSUM_AT:_HEADER_BYTES]
        if checksum == _CHECKSUM.pack(zlib.crc32(said)):
            began, contents.end_before, earlier, place = _HEADER.unpack(said)
            lost_power = began != boot
            contents.earlier = Cut(earlier, place) if earlier else None
        elif any(said):
            gaps.insert(0, range(_HEADER_BYTES))
    for gap in gaps:
        if lost_power and not was_durable and gap.start >= max(durable_bytes, _HEADER_BYTES):
            contents.end = gap.start
            break
        contents.damage.append(gap)
    contents.is_certain = was_durable or not lost_power
    if contents.is_certain:
        contents.durable_bytes = len(data)
    contents.frames = [found for found in frames if contents.end is None or found.start < contents.end]
    return contents


def _frames(data: bytes, version: "_Version", gaps: list[range]) -> list[Frame]:
    """Return the frames that check, and add what lies between them, and is not the end, to ``gaps``."""
    frames: list[Frame] = []
    at = version.begin
    while True:
        found = version.frame_at(at)
        if found is not None:
            frames.append(found)
            at = found.end
            continue
        behind = version.next_behind(at)
        if behind is None:
            break
        gaps.append(range(at, behind))
        at = behind
    end = len(data.rstrip(b"\0"))
    if end > at and not version.is_half_written(at, end):
        gaps.append(range(at, end))
    return frames


class _Version(Protocol):
    begin: int

    def frame_at(self, at: int) -> Frame | None:
        """Return the frame at a byte, None when there is none, or it does not check."""
        ...

    def next_behind(self, at: int) -> int | None:
        """Return where the next frame is, behind one that does not check."""
        ...

    def is_half_written(self, at: int, end: int) -> bool:
        """Tell whether what is between ``at`` and ``end``, with zeros behind, is what a kill leaves of one frame."""
        ...


class _Version1:
    begin = _LINE_BYTES

    def __init__(self, data: bytes) -> None:
        self._data = data

    def frame_at(self, at: int) -> Frame | None:
        if at + _FRAME_1.size > len(self._data):
            return None
        start = at
        size, checksum = _FRAME_1.unpack_from(self._data, at)
        at += _FRAME_1.size
        record = self._data[at : at + size]
        if not 0 < size <= MAX_RECORD_BYTES or len(record) != size or zlib.crc32(record) != checksum:
            return None
        return Frame(record, start, at + size)

    def next_behind(self, at: int) -> int | None:
        if at + _FRAME_1.size > len(self._data):
            return None
        behind = int(at + _FRAME_1.size + _FRAME_1.unpack_from(self._data, at)[0])
        return behind if self.frame_at(behind) is not None else None

    def is_half_written(self, at: int, end: int) -> bool:
        whole = at + _FRAME_1.size
        if whole <= len(self._data):
            whole += _FRAME_1.unpack_from(self._data, at)[0]
        return _ends_with_a_page(end, whole)


class _Version2:
    begin = _HEADER_BYTES

    def __init__(self, data: bytes, number: int) -> None:
        self._data = data
        self._number = number

    def frame_at(self, at: int) -> Frame | None:
        if at + _FRAME.size > len(self._data):
            return None
        mark, size, durable_bytes, checksum = _FRAME.unpack_from(self._data, at)
        body = at + _FRAME.size
        if mark != _MARK or not 0 < size <= min(MAX_RECORD_BYTES, len(self._data) - body):
            return None
        record = self._data[body : body + size]
        if _checksum(record, self._number, at, durable_bytes) != checksum:
            return None
        return Frame(record, at, body + size, durable_bytes)

    def next_behind(self, at: int) -> int | None:
        while (at := self._data.find(_MARK, at + 1)) >= 0:
            if self.frame_at(at) is not None:
                return at
        return None

    def is_half_written(self, at: int, end: int) -> bool:
        whole = at + _FRAME.size
        if whole <= len(self._data):
            mark, size, _, _ = _FRAME.unpack_from(self._data, at)
            if mark == _MARK:
                whole += size
        return _ends_with_a_page(end, whole)


def _ends_with_a_page(end: int, whole: int) -> bool:
    """A kill stops a write between two pages: its last byte is at the end of one, or few zeros before."""
    page_end = -(-end // _PAGE_BYTES) * _PAGE_BYTES
    return page_end - end < _FEW_BYTES and whole > page_end


def _checksum(record: bytes, number: int, place: int, durable_bytes: int) -> int:
    return zlib.crc32(record, zlib.crc32(_CHECKED.pack(number, place, len(record), durable_bytes)))
