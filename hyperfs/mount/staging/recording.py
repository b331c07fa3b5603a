"""Writing down each change in the journal, so that `recovery` can make it again.

The rules: a change is written down before it is made, and `Records.written` before anybody answers for it; what was
written to an open file, and what attributes it was given, is written down later, when somebody asks for it. While an
earlier process's changes are being made again nothing is written down, and time is what it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from hyperfs.core.reader import Run
from hyperfs.drive import names
from hyperfs.drive.snapshot import OpenFile
from hyperfs.mount.staging.extents import Content, Extent
from hyperfs.mount.staging.journal import Journal
from hyperfs.mount.staging.nodes import Node
from hyperfs.mount.staging.records import AttributesSet, LeftOut, Place, Record, Removed, Written, encode
from hyperfs.mount.staging.times import Clock
from hyperfs.mount.staging.tree import Tree


class Records:
    """The words of one journal. Knows which files were written to and not yet written down."""

    def __init__(self, journal: Journal, tree: Tree, clock: Clock) -> None:
        self._journal = journal
        self._tree = tree
        self._clock = clock
        self._replayed_time: int | None = None
        self._unwritten: dict[int, Node] = {}
        self._attributes_set: set[int] = set()

    @contextmanager
    def replaying(self, time: int) -> Iterator[None]:
        """Make the changes of an earlier process again: at ``time``, and without writing them down."""
        self._replayed_time = time
        try:
            yield
        finally:
            self._replayed_time = None

    def now(self) -> int:
        """Return the time of a change, in ns: when it is made again, the time at which it was made."""
        return self._clock() if self._replayed_time is None else self._replayed_time

    def add(self, *records: Record) -> None:
        """Write down changes, all or none. Raises OSError, and then they do not count."""
        if records and self._replayed_time is None:
            now = self.now()
            self._journal.add(*[encode(record, now) for record in records])

    @property
    def is_slow(self) -> bool:
        """Whether what is written down now has to be waited for."""
        return self._replayed_time is None and self._journal.is_slow

    async def written(self) -> None:
        """Return once what was written down is there for the next process. Raises OSError. Not cancelled."""
        await self._journal.written()

    def resized(self, node: Node, size: int) -> list[Record]:
        """Return what is to be written down before a file is given another size, what was written to it included.

        Raises OSError, and then it must not be.
        """
        content = node.content
        if content is None or node.parent is None:
            return []
        self.add_content(node.number)
        low, limit = min(content.low, size), min(content.limit, size)
        return [Written(self._tree.path(node.number), size, limit, low, _base_of(content), [], node.mtime)]

    def wrote(self, node: Node) -> None:
        """Note that there is something about a file's content to be written down."""
        self._unwritten[node.number] = node

    def attributes_set(self, node: Node) -> None:
        """Note that the attributes of an open file are to be written down."""
        self._unwritten[node.number] = node
        self._attributes_set.add(node.number)

    def forget(self, node: Node) -> None:
        """Note that of a file nothing is to be written down."""
        self._unwritten.pop(node.number, None)
        self._attributes_set.discard(node.number)

    def add_content(self, number: int) -> None:
        """Write down what was written to a file, and its attributes, so that the next process knows them."""
        node = self._unwritten.get(number)
        if node is not None:
            self._add_content(node)

    def add_contents(self) -> None:
        """Do `add_content` for all files."""
        for node in list(self._unwritten.values()):
            self._add_content(node)

    def add_held(self, held: frozenset[int]) -> None:
        """Write down all of what a commit leaves out, for the journal that begins without the ones before it."""
        tree = self._tree
        for number in held:
            node = tree.displaced.get(number)
            if node is not None and node.base is not None:
                self.add(Removed(names.join(tree.path(node.base[0]), node.base[1])))
        for number in held:
            node = tree.dirty.get(number)
            if node is not None:
                self._add_whole(node)

    def _add_whole(self, node: Node) -> None:
        path = self._tree.path(node.number)
        self.add(LeftOut(path, node.mode, node.uid, node.gid, node.linkname, list(node.attributes.items())))
        self._attributes_set.add(node.number)
        self._add_content(node, whole=True)

    def _add_content(self, node: Node, *, whole: bool = False) -> None:
        """Write down a file's size and the extents that are new, and its attributes if they were set."""
        if node.parent is not None:
            path = self._tree.path(node.number)
            records: list[Record] = []
            content = node.content if whole or (node.content is not None and node.content.to_log is not None) else None
            if content is not None:
                low, extents = content.take_log(whole=whole)
                records.append(_written(path, node.mtime, content, low, extents))
            if node.number in self._attributes_set:
                records.append(AttributesSet(path, node.mode, node.uid, node.gid, node.mtime))
            try:
                self.add(*records)
            except OSError:
                if content is not None:
                    content.log_all()
                self.wrote(node)
                raise
        self.forget(node)


def _written(path: str, mtime: int, content: Content, low: int, extents: list[Extent]) -> Written:
    places = [Place(extent.start, extent.end, extent.segment.number, extent.place) for extent in extents]
    return Written(path, content.size, content.limit, low, _base_of(content), places, mtime)


def _base_of(content: Content) -> Run | None:
    return content.below.run if isinstance(content.below, OpenFile) else None
