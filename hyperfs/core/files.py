"""The open files of one core, and the order in which they become durable.

The rule: data and tree first, then signatures, then the bitfield: what says that something is there comes after it.
See docs/formats.md, "A core's files".
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hyperfs.core.bitfield import Bitfield
from hyperfs.core.format import CoreFormat
from hyperfs.core.head_record import RecordedHead
from hyperfs.core.nonblocking import NonblockingFile
from hyperfs.core.sleep import HEADER_BYTES, SignatureFile, TreeFile
from hyperfs.storage import Directory, RandomAccessFile
from hyperfs.tree_node import TreeNode


@dataclass(slots=True)
class CoreFiles:
    """The open files of one core and what they say. Owns the files, and the lock on `bitfield`."""

    directory: Directory
    format: CoreFormat
    key: bytes
    secret_key: bytes | None
    tree: TreeFile
    data: NonblockingFile
    signatures: SignatureFile
    bitfield_file: RandomAccessFile
    page_bytes: int
    bitfield: Bitfield
    roots: tuple[TreeNode, ...] = ()
    length: int = 0
    durable_length: int = 0
    """Up to where the files were in order on the disk."""
    recovered: RecordedHead | None = None
    """What made ``length`` longer than that: its signature is in no file yet, and its bits are in memory only."""
    named: bool = False
    """Whether the names of the files are durable."""
    unsure: bool = False
    """Whether the disk may have lost data or nodes, because syncing them failed: they have to be written again."""

    def close(self) -> None:
        """Close all files and so let go of the lock."""
        for file in (self.tree.file, self.data.file, self.signatures.file, self.bitfield_file):
            file.close()

    def flush(self, signatures: Mapping[int, bytes], pages: list[tuple[int, bytes]]) -> None:
        """Make everything durable in the order that a crash may cut off anywhere: data and tree, then what says so."""
        self.unsure = True
        self.data.file.sync()
        self.tree.file.sync()
        self.unsure = False
        if not self.named:
            self.directory.sync()
            self.named = True
        if signatures:
            for index, signature in signatures.items():
                self.signatures.write(index, signature)
            self.signatures.file.sync()
        self.write_pages(pages)
        self.bitfield_file.sync()

    def write_pages(self, pages: list[tuple[int, bytes]]) -> None:
        """Write pages of the bitfield, neighbours together."""
        start = 0
        for position in range(1, len(pages) + 1):
            if position < len(pages) and pages[position][0] == pages[position - 1][0] + 1:
                continue
            offset = HEADER_BYTES + self.page_bytes * pages[start][0]
            self.bitfield_file.write(offset, b"".join([page for _, page in pages[start:position]]))
            start = position
