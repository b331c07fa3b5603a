"""The rows of a listing: a name and what is told of it, in few bytes, since a directory may have very many.

The rule: a row is about 50 bytes and the name; it can be unpacked without anything else.
"""

import struct

from hyperfs.mount.staging.nodes import Attributes

_ROW = struct.Struct("<IIIQQQId")
_NAME_AT = _ROW.size
_SECONDS_BYTES = 8
_MOST = (1 << 64) - 1


def row_of(name: str, attributes: Attributes, seconds: float) -> bytes:
    """Return the row of an entry; ``seconds`` as in `Answer`."""
    mode, uid, gid, size, mtime, ctime, links = attributes
    if mtime > _MOST or ctime > _MOST:  # what a drive claims in milliseconds may be more than fits in nanoseconds
        mtime, ctime = min(mtime, _MOST), min(ctime, _MOST)
    return _ROW.pack(mode, uid, gid, size, mtime, ctime, links, seconds) + name.encode()


def name_of(row: bytes) -> bytes:
    """Return the name in a row."""
    return row[_NAME_AT:]


def unpack(row: bytes) -> tuple[Attributes, float]:
    """Return what a row tells of its name, and for how long that may be believed."""
    *attributes, seconds = _ROW.unpack_from(row)
    return Attributes(*attributes), seconds


def unlasting(row: bytes) -> bytes:
    """Return a row of which the kernel may keep nothing."""
    return row[: _NAME_AT - _SECONDS_BYTES] + bytes(_SECONDS_BYTES) + row[_NAME_AT:]
