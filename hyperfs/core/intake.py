"""What peers sent, verified and on its way to the disk.

The rule: an item adds nothing here unless all of it verified; what is here was verified, and is written as a whole.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hyperfs import flat_tree
from hyperfs.core.bitfield import Bitfield
from hyperfs.core.files import CoreFiles
from hyperfs.core.format import NO_SIGNATURE
from hyperfs.core.proofs import MAX_LENGTH, Head, ProofChecker, Received
from hyperfs.errors import InvalidProof
from hyperfs.tree_node import TreeNode


class StoredBlock(NamedTuple):
    """A verified block and the byte offset where it belongs."""

    start: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a block
    value: bytes


class Intake:
    """A batch of verified items for one core. ``nodes`` are those to write, ``signatures`` by index of last block.

    ``own`` returns nodes that are here, or raises; ``own_or_wrong`` returns one that matches nothing for a damaged one.
    Of a tree of more than ``max_length`` blocks only what lies below that is taken.
    """

    def __init__(
        self,
        checker: ProofChecker,
        own: Callable[[int], TreeNode | None],
        own_or_wrong: Callable[[int], TreeNode | None],
        *,
        max_length: int = MAX_LENGTH,
    ) -> None:
        self.nodes: dict[int, TreeNode] = {}
        self.blocks: list[StoredBlock] = []
        self.signatures: dict[int, bytes] = {}
        self.head: Head | None = None
        self.byte_count = 0
        self.too_far: list[int] = []
        """The blocks that `write` had to leave out."""
        self._checker = checker
        self._own = own
        self._own_or_wrong = own_or_wrong
        self._max_length = max_length
        self._next = (-1, 0)

    def take(self, item: Received) -> None:
        """Verify one item and add it. Raises `InvalidProof`, `Fork`; `WouldWait` when it has to be done again."""
        nodes = self.nodes
        verified, head = self._checker.check(item, self._known_or_wrong)
        if head is not None and head.length > self._max_length:
            head = None
            verified = [node for node in verified if flat_tree.right_span(node.tree_index) < 2 * self._max_length]
        start = self._start(item.index, {node.tree_index: node for node in verified}) if item.value is not None else 0
        for node in verified:
            nodes[node.tree_index] = node
        if head is not None:
            if head.signature != NO_SIGNATURE:
                self.signatures[head.length - 1] = head.signature
            if self.head is None or head.length > self.head.length:
                self.head = head
        if item.value is not None:
            self.blocks.append(StoredBlock(start, item.index, item.value))
            self.byte_count += len(item.value)
            self._next = (item.index + 1, start + len(item.value))

    def take_head(self, nodes: Sequence[TreeNode], head: Head) -> None:
        """Add a head that was verified elsewhere, with the nodes that lead to it."""
        self.nodes.update({node.tree_index: node for node in nodes})
        self.signatures[head.length - 1] = head.signature
        self.head = head

    def __bool__(self) -> bool:
        return bool(self.nodes or self.blocks)

    def drop_known(self, bitfield: Bitfield) -> None:
        """Leave out what is on disk already."""
        self.nodes = {index: node for index, node in self.nodes.items() if not bitfield.has_node(index)}
        self.blocks = sorted({block.index: block for block in self.blocks if not bitfield.get(block.index)}.values())

    def write(self, files: CoreFiles) -> None:
        """Write data and nodes, neighbours together; leave out, and put into `too_far`, what no file reaches.

        May wait for the disk. Raises OSError.
        """
        for run in self._runs():
            parts = [block.value for block in run]
            try:
                files.data.file.write_all(run[0].start, parts)
            except OSError as error:
                if error.errno != errno.EFBIG:
                    raise
                self.too_far += [block.index for block in run]
        if self.too_far:
            self.blocks = [block for block in self.blocks if block.index not in self.too_far]
        files.tree.write_nodes(self.nodes)

    def _runs(self) -> Iterator[list[StoredBlock]]:
        """Yield the blocks, those together that lie one after another in the file."""
        run: list[StoredBlock] = []
        for block in self.blocks:
            if run and block.start != run[-1].start + len(run[-1].value):
                yield run
                run = []
            run.append(block)
        if run:
            yield run

    def note_in(self, bitfield: Bitfield) -> None:
        """Note in ``bitfield`` that the blocks and nodes are here."""
        bitfield.set_nodes(sorted(self.nodes))
        for blocks in self.ranges():
            bitfield.set_blocks(blocks.start, blocks.stop)

    def ranges(self) -> list[range]:
        """Return the ranges of blocks that were added."""
        ranges: list[range] = []
        for block in self.blocks:
            if ranges and ranges[-1].stop == block.index:
                ranges[-1] = range(ranges[-1].start, block.index + 1)
            else:
                ranges.append(range(block.index, block.index + 1))
        return ranges

    def _known_or_wrong(self, tree_index: int) -> TreeNode | None:
        return self.nodes.get(tree_index) or self._own_or_wrong(tree_index)

    def _known(self, tree_index: int) -> TreeNode | None:
        return self.nodes.get(tree_index) or self._own(tree_index)

    def _start(self, index: int, verified: dict[int, TreeNode]) -> int:
        """Return where block ``index`` begins: what lies left of it was verified with it, or before it."""
        if self._next[0] == index:
            return self._next[1]
        start = 0
        for root in flat_tree.full_roots(index):
            node = verified.get(root) or self._known(root)
            if node is None:
                raise InvalidProof(f"block {index} does not verify: node {root}, left of it, is missing")
            start += node.size
        return start
