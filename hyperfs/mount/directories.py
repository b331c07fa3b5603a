"""Open directories: the names and attributes of one version, packed, so that reading on and seeking find them again.

The rule: an open directory lists one version from its first entry to its last; going back to its beginning takes a new
one. The offset of an entry is its place in that list, so it stays right for as long as the directory is open.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import aclosing

import pyfuse3

from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import Snapshot
from hyperfs.mount.attributes import LATEST_NS, Presenter, kind_of, lasting_seconds, size_of
from hyperfs.mount.inodes import ROOT, InodeTable
from hyperfs.mount.staging.nodes import MILLISECOND_NS, mtime_of, stat_of

ROW = struct.Struct("<IIIQQQd")
_NAME_AT = ROW.size
_SECONDS_BYTES = 8
_DOTS = 2


class Listing:
    """The entries of a directory in one version: about 100 bytes each."""

    def __init__(self, snapshot: Snapshot, rows: list[bytes]) -> None:
        self.snapshot = snapshot
        self.rows = rows

    @classmethod
    async def read(
        cls, snapshot: Snapshot, path: str, presenter: Presenter, *, on_entry: Callable[[], None] | None = None
    ) -> "Listing":
        """List ``path``, calling ``on_entry`` whenever more entries are known. Raises `PathError`, `BlockNotAvailable`.

        A long listing may take long to come from afar: what waits for it counts the time since the last entry.
        """
        rows: list[bytes] = []
        async with aclosing(snapshot.list_batches(path)) as batches:
            async for entries in batches:
                if on_entry is not None and entries:
                    on_entry()
                rows += [row_of(entry, presenter) for entry in entries]
        return cls(snapshot, rows)


def row_of(entry: Entry, presenter: Presenter) -> bytes:
    """Return the row of what lies in a drive."""
    stat = stat_of(entry)
    mode, uid, gid = presenter.owner_and_mode(stat)
    mtime, ctime = min(mtime_of(stat), LATEST_NS), min(stat.ctime * MILLISECOND_NS, LATEST_NS)
    return ROW.pack(mode, uid, gid, size_of(stat), mtime, ctime, lasting_seconds(entry)) + entry.name.encode()


def unlasting(row: bytes) -> bytes:
    """Return a row of which the kernel may keep nothing."""
    return row[: _NAME_AT - _SECONDS_BYTES] + bytes(_SECONDS_BYTES) + row[_NAME_AT:]


class OpenDirectory:
    """One opendir: its inode, its path, and, once it was read from, its listing."""

    __slots__ = ("changes", "listing", "number", "path")

    def __init__(self, number: int, path: bytes) -> None:
        self.number = number
        self.path = path
        self.listing: Listing | None = None
        self.changes = 0
        """How often a writable mount was changed before it was listed."""

    def reply(
        self,
        start: int,
        token: pyfuse3.ReaddirToken,
        inodes: InodeTable,
        presenter: Presenter,
        *,
        current: bool,
        refresh: Callable[[bytes], bytes | None] | None = None,
    ) -> None:
        """Answer a readdir from offset ``start`` with as many entries as it takes, all with their attributes.

        Each one counts as a lookup. What is not ``current``, the drive having changed, the kernel may not keep.
        ``refresh`` makes of a row what it has to be now, or None when it is gone.
        """
        listing = self.listing
        if listing is None:
            return
        for position, name in self._dots(start, inodes):
            directory = presenter.of_values(position[1], 0o040755, 0, 0, 0, 0, 0, 0.0)
            if not pyfuse3.readdir_reply(token, name, directory, position[0]):
                return
        rows = listing.rows
        parent = self.number
        unpack, reply, remember, of_values = (
            ROW.unpack_from,
            pyfuse3.readdir_reply,
            inodes.remember,
            presenter.of_values,
        )
        for index in range(max(0, start - _DOTS), len(rows)):
            row: bytes | None = rows[index]
            if refresh is not None:
                row = refresh(rows[index])
            if row is None:
                continue
            name = row[_NAME_AT:]
            mode, uid, gid, size, mtime, ctime, seconds = unpack(row)
            number = remember(parent, name, kind_of(mode))
            answer = of_values(number, mode, uid, gid, size, mtime, ctime, seconds if current else 0.0)
            if not reply(token, name, answer, index + _DOTS + 1):
                inodes.forget(number, 1)
                return

    def _dots(self, start: int, inodes: InodeTable) -> Iterator[tuple[tuple[int, int], bytes]]:
        above = ROOT if self.number == ROOT else inodes[self.number].parent
        dots = ((1, self.number), b"."), ((2, above), b"..")
        yield from dots[start:]
