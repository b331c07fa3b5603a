"""A trie at one version, as its readers use it.

A `Trie` never changes. A newer head is another `Trie`; both share what the cache holds.

Reading awaits nothing as long as the nodes are here. Where one is missing, the first question carries a hint for peers
(`hyperfs.trie.extension`), and what a walk needs next is fetched together.
"""

from hyperfs.core.reader import CoreReader, Hint
from hyperfs.errors import NotADrive, UnknownVersion, short
from hyperfs.trie import extension
from hyperfs.trie.cache import NodeCache
from hyperfs.trie.diff import DiffIterator
from hyperfs.trie.header import TRIE_TYPE, Header
from hyperfs.trie.history import HistoryIterator
from hyperfs.trie.iterator import NodeIterator, Stack, Walk
from hyperfs.trie.loader import Loader, MissingNodes
from hyperfs.trie.lookup import find
from hyperfs.trie.node import Node
from hyperfs.trie.paths import Path


async def read_header(core: CoreReader) -> Header:
    """Return the header of the trie in ``core``. Raises `NotADrive` when it is none, and `BlockNotAvailable`."""
    block = core.get_local(0)
    if block is None:
        block = await core.get(0)
    try:
        header = Header.decode(block)
    except ValueError as error:
        raise NotADrive(f"{core.key.hex()} is not a trie: {error}") from error
    if header.type != TRIE_TYPE:
        raise NotADrive(f"{core.key.hex()} is not a trie, but a {header.type[:40]!r}")
    return header


class Trie:
    """The trie in ``core`` as block ``version - 1`` left it; ``version`` 1 (the header alone) and 0 are empty."""

    __slots__ = ("cache", "core", "version")

    def __init__(self, core: CoreReader, version: int, cache: NodeCache) -> None:
        self.core = core
        self.version = version
        self.cache = cache

    def __repr__(self) -> str:
        return f"Trie({short(self.core.key)}+{self.version})"

    @property
    def head_seq(self) -> int:
        """The block of the newest node, 0 when there is none."""
        return max(self.version - 1, 0)

    def checkout(self, version: int) -> "Trie":
        """Return the trie at another version. Raises `UnknownVersion` when the core is not that long."""
        if not 0 <= version <= max(self.core.length, self.version):
            raise UnknownVersion(f"{short(self.core.key)} has no version {version}: the newest is {self.core.length}")
        return Trie(self.core, version, self.cache)

    async def get(self, path: str, *, hidden: bool = False) -> Node | None:
        """Return the node of ``path``, or None. Raises `BlockNotAvailable`, `DamagedTrie`, and `EncodingError`."""
        target = Path.of(path, self.cache.hashing, hidden=hidden)
        loader = Loader(self.core, self.cache)
        # A peer looks the key up among the visible ones.
        asked = hidden
        while True:
            try:
                return find(loader, self.head_seq, target)
            except MissingNodes as missing:
                seqs = missing.seqs
            await loader.fetch(seqs, None if asked else extension.get_question(self.head_seq, target.key))
            asked = True

    def iterate(
        self, prefix: str = "", *, recursive: bool = True, reverse: bool = False, gt: bool = False, hidden: bool = False
    ) -> NodeIterator:
        """Return an async iterator over the nodes whose keys begin with the parts of ``prefix``, itself included.

        In the order of digits, or ``reverse``; ``gt`` leaves out ``prefix`` itself. Not ``recursive``: one node for
        each child name, often a deeper one, of whose key the next part is the name.
        Raises, while iterating, `BlockNotAvailable` and `DamagedTrie`; and `EncodingError` here.
        """
        path = Path.of(prefix, self.cache.hashing, hidden=hidden)
        walk = Walk(recursive=recursive, reverse=reverse, gt=gt)

        def question(stack: Stack | None) -> Hint:
            return extension.iterator_question(self.head_seq, path, walk, stack)

        return NodeIterator(Loader(self.core, self.cache), self.head_seq, path, walk, question)

    def diff(self, older: "Trie", *, prefix: str = "", hidden: bool = False) -> DiffIterator:
        """Return an async iterator over the changes of keys below ``prefix`` since ``older``, a version of this core.

        Deleting writes a neighbour again, which then appears as changed. Raises as `iterate` does.
        """
        path = Path.of(prefix, self.cache.hashing, hidden=hidden)
        return DiffIterator(Loader(self.core, self.cache), self.head_seq, older.head_seq, path)

    def history(self, start: int = 1, end: int | None = None, *, reverse: bool = False) -> HistoryIterator:
        """Return an async iterator over the nodes in blocks [start, end) of this version, oldest first.

        A node with an empty key is one that deleted the last entry. Raises as `iterate` does.
        """
        stop = self.version if end is None else min(end, self.version)
        return HistoryIterator(Loader(self.core, self.cache), range(max(start, 1), stop), reverse=reverse)
