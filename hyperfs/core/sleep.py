"""The SLEEP files of a core: headers, tree nodes and signatures at their places.

The rule: a file that cannot be what it should be raises `DamagedStore`, naming the file and what is wrong with it.
See docs/formats.md, "A core's files".
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from hyperfs import tree_node
from hyperfs.core.nonblocking import NonblockingFile
from hyperfs.errors import DamagedStore
from hyperfs.storage import Directory
from hyperfs.tree_node import NODE_BYTES, TreeNode

HEADER_BYTES = 32
SIGNATURE_BYTES = 64
MAX_BYTES = 1 << 60

_MAGIC = b"\x05\x02\x57"
_TYPES = {"bitfield": 0, "signatures": 1, "tree": 2}
_NO_SIGNATURE = bytes(SIGNATURE_BYTES)
_SCAN_SIGNATURES = 4096
_SCAN_NODES = 1 << 14


def header(name: str, entry_bytes: int, algorithm: bytes = b"") -> bytes:
    """Return the 32-byte header of the SLEEP file ``name``."""
    start = _MAGIC + bytes([_TYPES[name], 0]) + entry_bytes.to_bytes(2, "big") + bytes([len(algorithm)]) + algorithm
    return start.ljust(HEADER_BYTES, b"\x00")


def check_header(directory: Directory, name: str, data: bytes, entry_bytes: int | None) -> int:
    """Return the entry size that a header states; raise `DamagedStore` when it is not one of the file ``name``."""
    where = directory.describe(name)
    if len(data) < HEADER_BYTES:
        raise DamagedStore(f"{where} is cut short: {len(data)} bytes, where its header alone takes {HEADER_BYTES}")
    if data[:3] != _MAGIC or data[3] != _TYPES[name] or data[4] != 0:
        raise DamagedStore(f"{where} does not begin as a {name} file does: {data[:5].hex(' ')}")
    found = int.from_bytes(data[5:7], "big")
    if entry_bytes is not None and found != entry_bytes:
        raise DamagedStore(f"{where} states entries of {found} bytes, where they are {entry_bytes}")
    return found


class TreeFile(NonblockingFile):
    """The `tree` file: node ``i`` at 32 + 40 * i, its hash and its size."""

    @staticmethod
    def place(tree_index: int) -> int:
        """Return where in the file a node begins."""
        return HEADER_BYTES + NODE_BYTES * tree_index

    def node(self, tree_index: int) -> TreeNode | None:
        """Return the node, or None where the file has none. Raises `WouldWait`, `DamagedStore`."""
        return self._checked(tree_node.decode(tree_index, self.read(self.place(tree_index), NODE_BYTES)))

    def sizes(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Return the sizes of ``count`` nodes from tree index ``first`` on, 0 for those missing. Raises `WouldWait`."""
        return tree_node.decode_sizes(self.read(self.place(first), NODE_BYTES * count), count)

    def load_node(self, tree_index: int) -> TreeNode | None:
        """Return what `node` does, and wait for the disk if need be."""
        return self._checked(tree_node.decode(tree_index, self.file.read(self.place(tree_index), NODE_BYTES)))

    def load_nodes(self, first: int, end: int) -> Iterator[TreeNode]:
        """Yield the nodes that the file has of tree indices [first, end). May wait for the disk."""
        for start in range(first, end, _SCAN_NODES):
            count = min(_SCAN_NODES, end - start)
            yield from tree_node.decode_all(start, self.file.read(self.place(start), NODE_BYTES * count))

    def write_nodes(self, nodes: Mapping[int, TreeNode]) -> None:
        """Write nodes, neighbours together. Raises OSError."""
        ordered = sorted(nodes)
        start = 0
        write = self.file.write
        for position in range(1, len(ordered) + 1):
            if position < len(ordered) and ordered[position] == ordered[position - 1] + 1:
                continue
            write(self.place(ordered[start]), b"".join([tree_node.encode(nodes[i]) for i in ordered[start:position]]))
            start = position

    def write_region(self, first: int, region: bytes | bytearray) -> None:
        """Write entries one after another from tree index ``first`` on. Raises OSError."""
        self.file.write(self.place(first), region)

    def _checked(self, node: TreeNode | None) -> TreeNode | None:
        if node is not None and node.size > MAX_BYTES:
            raise DamagedStore(f"{self.name}: node {node.tree_index} states {node.size} bytes, more than there can be")
        return node


class SignatureFile(NonblockingFile):
    """The `signatures` file: the signature of the core at length i + 1 at 32 + 64 * i."""

    def signature(self, index: int) -> bytes | None:
        """Return the signature at ``index``, or None. Raises `WouldWait`."""
        data = self.read(HEADER_BYTES + SIGNATURE_BYTES * index, SIGNATURE_BYTES)
        return data if len(data) == SIGNATURE_BYTES and data != _NO_SIGNATURE else None

    def write(self, index: int, signature: bytes) -> None:
        """Write one signature."""
        self.file.write(HEADER_BYTES + SIGNATURE_BYTES * index, signature)

    def count(self) -> int:
        """Return how many whole signatures the file has room for."""
        return max(0, self.file.size() - HEADER_BYTES) // SIGNATURE_BYTES

    def first(self, start: int, end: int) -> tuple[int, bytes] | None:
        """Return (index, signature) of the first present in [start, end). May wait for the disk."""
        for at in range(start, min(end, self.count()), _SCAN_SIGNATURES):
            count = min(_SCAN_SIGNATURES, end - at)
            data = self.file.read(HEADER_BYTES + SIGNATURE_BYTES * at, SIGNATURE_BYTES * count)
            for place in range(0, len(data) - SIGNATURE_BYTES + 1, SIGNATURE_BYTES):
                signature = data[place : place + SIGNATURE_BYTES]
                if signature != _NO_SIGNATURE:
                    return at + place // SIGNATURE_BYTES, signature
        return None

    def descending(self, below: int) -> Iterator[tuple[int, bytes]]:
        """Yield (index, signature) of those present below ``below``, from the last. May wait for the disk."""
        end = min(below, self.count())
        while end > 0:
            start = max(0, end - _SCAN_SIGNATURES)
            data = self.file.read(HEADER_BYTES + SIGNATURE_BYTES * start, SIGNATURE_BYTES * (end - start))
            table = np.frombuffer(data, np.uint8, len(data) // SIGNATURE_BYTES * SIGNATURE_BYTES)
            present = np.flatnonzero(table.reshape(-1, SIGNATURE_BYTES).any(axis=1))
            for found in reversed(present.tolist()):
                yield start + found, data[SIGNATURE_BYTES * found : SIGNATURE_BYTES * (found + 1)]
            end = start
