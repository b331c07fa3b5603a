"""Inode numbers, and what is remembered of each inode the kernel knows.

The rule: a path has the same number whenever its drive is mounted at the same place. It is a hash of the directory's
number and the name, keyed with the drive's key, so what is in a directory keeps its numbers when that is renamed; a
second path of the same number takes the next free one. Its upper bits say which of the drives of a mount it is in, so
that the tables of several share no number. A record is one small byte string in a dict (about 170 bytes
with its key): the mount of a drive with 200,000 files holds that many of them.
"""

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

ROOT = 1
"""The number of the mount's root: the kernel fixes it."""
NO_CONTENT = 0
PLACE_BITS = 53
"""How many bits of a number say what it is in its drive; those above say in which place that drive is mounted."""
MAX_PLACES = 1 << (64 - PLACE_BITS)
_WITHIN = (1 << PLACE_BITS) - 1
_HEAD = struct.Struct("<QQIB")
_NAME_AT = _HEAD.size
_DIRECTORY = 0o4
_LOOKED_AT_ONCE = 1024


class Inode(NamedTuple):
    """What a record says.

    ``parent`` is an inode number, ``name`` the name in it. ``content`` tells which version of the content the kernel's
    pages are of (`NO_CONTENT`: none yet). ``lookups`` is how often the kernel was told of it and has not forgotten it.
    ``kind`` is the file type: the upper four bits of a mode.
    """

    parent: int
    content: int
    lookups: int
    kind: int
    name: bytes


def place_of(number: int) -> int:
    """Return in which place of a mount the drive is that a number belongs to; 0: it is the mounted one."""
    return number >> PLACE_BITS


class InodeTable:
    """Owns the numbers that the kernel knows: `remember` gives them out, `forget` takes them back."""

    def __init__(self, key: bytes, *, place: int = 0) -> None:
        """``key``: up to 64 bytes that tell one drive from another. ``place``: below `MAX_PLACES`; 0 is the mount."""
        self._hasher = blake2b(key=key, digest_size=8)
        self._origin = place << PLACE_BITS
        self.root = self._origin + ROOT
        """The number of the drive's root."""
        self._records = {self.root: _HEAD.pack(0, NO_CONTENT, int(not place), _DIRECTORY)}
        self._elsewhere: dict[tuple[int, bytes], int] = {}
        self._hashed_last = (0, b"", 0)
        """What was hashed last, and its hash: who looks for a name mostly does something with it next."""

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, number: int) -> bool:
        return number in self._records

    def __getitem__(self, number: int) -> Inode:
        """Raises KeyError for a number that the kernel does not know."""
        record = self._records[number]
        parent, content, lookups, kind = _HEAD.unpack_from(record)
        return Inode(parent, content, lookups, kind, record[_NAME_AT:])

    def path(self, number: int) -> bytes:
        """Return the path of an inode, without a slash in front; the root's is empty. Raises KeyError."""
        names = []
        records = self._records
        while number != self.root:
            record = records[number]
            names.append(record[_NAME_AT:])
            number = int.from_bytes(record[:8], "little")
        names.reverse()
        return b"/".join(names)

    def find(self, parent: int, name: bytes) -> int | None:
        """Return the number of ``name`` in ``parent``, if the kernel knows it."""
        return self._find(self._hash(parent, name), parent, name)

    def find_path(self, path: bytes) -> int | None:
        """Return the number of ``path`` if the kernel knows it and everything above it."""
        number: int | None = self.root
        position = 0
        while number is not None and position < len(path):
            end = path.find(b"/", position)
            if end < 0:
                end = len(path)
            number = self.find(number, path[position:end])
            position = end + 1
        return number

    def remember(self, parent: int, name: bytes, kind: int) -> int:
        """Count one more lookup of ``name`` in ``parent``, and return its number."""
        hashed = self._hash(parent, name)
        number = self._find(hashed, parent, name)
        if number is None:
            return self._add(hashed, parent, name, kind, lookups=1)
        _, content, lookups, _ = _HEAD.unpack_from(self._records[number])
        self._records[number] = _HEAD.pack(parent, content, lookups + 1, kind) + name
        return number

    def looked_up(self, number: int) -> None:
        """Count one more lookup of a number that is known."""
        self._count(number, 1)

    def take_over(self, other: "InodeTable") -> None:
        """Go on with the numbers of another table of the same place, which gives out none any more."""
        self._records = other._records
        self._elsewhere = other._elsewhere

    def below(self, numbers: Iterable[int]) -> Iterator[list[int]]:
        """Yield every inode below any of ``numbers``, these left out, in lists, some of them empty.

        Each is of a thousand inodes that were looked at: others may have their turn between them. Inodes that come
        meanwhile are left out; those that go may be in a list still.
        """
        above = set(numbers)
        known = dict.fromkeys(above, True)
        known.setdefault(self.root, False)
        there = list(self._records)
        for start in range(0, len(there), _LOOKED_AT_ONCE):
            found = []
            for inode in there[start : start + _LOOKED_AT_ONCE]:
                number, chain = inode, []
                while number not in known:
                    chain.append(number)
                    record = self._records.get(number)
                    number = self.root if record is None else int.from_bytes(record[:8], "little")
                known.update(dict.fromkeys(chain, known[number]))
                if known[inode] and inode not in above:
                    found.append(inode)
            yield found

    def set_content(self, number: int, content: int) -> None:
        """Note which content the kernel's pages of an inode are of from now on."""
        record = self._records[number]
        parent, _, lookups, kind = _HEAD.unpack_from(record)
        self._records[number] = _HEAD.pack(parent, content, lookups, kind) + record[_NAME_AT:]

    def forget(self, number: int, lookups: int) -> None:
        """Take back ``lookups`` lookups; with none left the inode is dropped. A root stays, the mount's uncounted."""
        record = self._records.get(number)
        if record is None or number == ROOT:
            return
        parent, content, counted, kind = _HEAD.unpack_from(record)
        name = record[_NAME_AT:]
        if counted > lookups or number == self.root:
            self._records[number] = _HEAD.pack(parent, content, max(0, counted - lookups), kind) + name
            return
        del self._records[number]
        if self._elsewhere:
            self._elsewhere.pop((parent, name), None)

    def _count(self, number: int, change: int) -> None:
        if number == ROOT:
            return
        record = self._records[number]
        parent, content, lookups, kind = _HEAD.unpack_from(record)
        self._records[number] = _HEAD.pack(parent, content, lookups + change, kind) + record[_NAME_AT:]

    def _add(self, hashed: int, parent: int, name: bytes, kind: int, *, lookups: int) -> int:
        """Give out a number for a name that has none, the next free one from ``hashed`` on."""
        number = hashed
        while number in self._records:
            number = self._in_range(number + 1)
        if number != hashed:
            self._elsewhere[parent, name] = number
        self._records[number] = _HEAD.pack(parent, NO_CONTENT, lookups, kind) + name
        return number

    def _find(self, hashed: int, parent: int, name: bytes) -> int | None:
        record = self._records.get(hashed)
        if record is not None and record[_NAME_AT:] == name and int.from_bytes(record[:8], "little") == parent:
            return hashed
        return self._elsewhere.get((parent, name)) if self._elsewhere else None

    def _hash(self, parent: int, name: bytes) -> int:
        last_parent, last_name, hashed = self._hashed_last
        if name == last_name and parent == last_parent:
            return hashed
        hasher = self._hasher.copy()
        hasher.update(parent.to_bytes(8, "little") + name)
        hashed = self._in_range(int.from_bytes(hasher.digest(), "little"))
        self._hashed_last = parent, name, hashed
        return hashed

    def _in_range(self, number: int) -> int:
        """Return a number of this place's; keep off 0 (no inode), the root's and the highest ("unknown")."""
        within = number & _WITHIN
        return self._origin | within if ROOT < within < _WITHIN else self.root + 1
