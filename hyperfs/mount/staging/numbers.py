"""Inode numbers where files are renamed and unlinked.

The rule: a number belongs to a file for as long as the kernel or the staging knows it, wherever the file goes.
"""

import struct
from collections.abc import Callable

from hyperfs.mount.inodes import ROOT, InodeTable

_HEAD = struct.Struct("<QQIB")
_NOWHERE = 0


class Numbers(InodeTable):
    """An `InodeTable` whose inodes may move."""

    def __init__(
        self, key: bytes, is_kept: Callable[[int], bool], forgotten: Callable[[int], None], *, place: int = 0
    ) -> None:
        """``is_kept`` says which ones the kernel does not take away by forgetting: ``forgotten`` is told of those."""
        super().__init__(key, place=place)
        self._is_kept = is_kept
        self._forgotten = forgotten

    def place(self, parent: int, name: bytes, kind: int) -> int:
        """Return the number of ``name`` in ``parent`` without counting a lookup."""
        hashed = self._hash(parent, name)
        number = self._find(hashed, parent, name)
        return self._add(hashed, parent, name, kind, lookups=0) if number is None else number

    def lookups(self, number: int) -> int:
        """Return how often the kernel was told of a number and has not forgotten it."""
        return self[number].lookups if number in self else 0

    def move(self, number: int, parent: int, name: bytes) -> None:
        """Say that a file is at another place now."""
        self._leave(number)
        if number != self._hash(parent, name):
            self._elsewhere[parent, name] = number
        self._write(number, parent, name)

    def detach(self, number: int) -> None:
        """Say that a file is nowhere any more. Its number stays for who has it open."""
        self._leave(number)
        self._write(number, _NOWHERE, b"")

    def forget(self, number: int, lookups: int) -> None:
        """Take back ``lookups`` lookups; with none left the number is dropped, unless it is kept."""
        record = self._records.get(number)
        if record is None or number == ROOT:
            return
        counted = _HEAD.unpack_from(record)[2]
        if counted <= lookups and self._is_kept(number):
            self._count(number, -counted)
            self._forgotten(number)
            return
        super().forget(number, lookups)

    def drop_unknown(self, number: int) -> None:
        """Drop a number that is kept no more, if the kernel does not know it."""
        if number in self and number != self.root and not self[number].lookups:
            super().forget(number, 0)

    def _leave(self, number: int) -> None:
        if self._elsewhere:
            record = self[number]
            if self._elsewhere.get((record.parent, record.name)) == number:
                del self._elsewhere[record.parent, record.name]

    def _write(self, number: int, parent: int, name: bytes) -> None:
        _, content, lookups, kind = _HEAD.unpack_from(self._records[number])
        self._records[number] = _HEAD.pack(parent, content, lookups, kind) + name
