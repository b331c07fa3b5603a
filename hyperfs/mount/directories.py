"""Open directories: the names and attributes of one instant, packed, so that reading on and seeking find them again.

The rule: an open directory lists one instant from its first entry to its last; going back to its beginning takes a new
one. The offset of an entry is its place in that list, so it stays right for as long as the directory is open.
"""

import stat as st
from collections.abc import Callable, Iterator
from functools import partial

import pyfuse3

from hyperfs.mount.presenter import Presenter
from hyperfs.mount.rows import name_of, unpack
from hyperfs.mount.staging.nodes import Attributes
from hyperfs.mount.view import Answer, View

_DOT_ATTRIBUTES = Attributes(st.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 1)
_DOTS = 2


class OpenDirectory:
    """One opendir: its inode and, once it was read from, its rows and the generation that they are of."""

    __slots__ = ("generation", "number", "rows")

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows: list[bytes] | None = None
        self.generation: object = None

    async def read(self, view: View, on_entries: Callable[[], None]) -> None:
        """Take a new listing. Raises as `View.list`."""
        generation = view.generation_of(self.number)
        self.rows = await view.list(self.number, on_entries)
        self.generation = generation

    def reply(self, start: int, token: pyfuse3.ReaddirToken, view: View, presenter: Presenter) -> None:
        """Answer a readdir from offset ``start`` with as many entries as it takes, all with their attributes.

        Each one counts as a lookup. What may have changed since the listing is looked at again.
        """
        if self.rows is None:
            return
        reply, present, inodes, parent = pyfuse3.readdir_reply, presenter.of, view.inodes, self.number
        for offset, number, name in self._dots(start, view):
            if not reply(token, name, present(Answer(number, _DOT_ATTRIBUTES, 0.0)), offset):
                return
        refreshed = None if self.generation == view.generation_of(parent) else partial(view.row_now, parent)
        for index in range(max(0, start - _DOTS), len(self.rows)):
            row: bytes | None = self.rows[index]
            if refreshed is not None:
                row = refreshed(self.rows[index])
            if row is None:
                continue
            name = name_of(row)
            attributes, seconds = unpack(row)
            number = inodes.remember(parent, name, attributes.mode >> 12 & 0o17)
            if not reply(token, name, present(Answer(number, attributes, seconds)), index + _DOTS + 1):
                inodes.forget(number, 1)
                return

    def _dots(self, start: int, view: View) -> Iterator[tuple[int, int, bytes]]:
        above = view.inodes[self.number].parent or self.number
        yield from ((1, self.number, b"."), (2, above, b".."))[start:]
