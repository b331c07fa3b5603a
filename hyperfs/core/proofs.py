"""Proofs: the tree nodes that tie a block to a signed tree; how they are chosen, and how they are checked.

The rule: nothing is taken over from a proof unless every node of it leads to a node that is trusted already, or to
roots that the core's key signed. See docs/formats.md, "Proofs".
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hyperfs import flat_tree
from hyperfs.core.format import NO_SIGNATURE
from hyperfs.errors import DamagedStore, Fork, InvalidProof, short
from hyperfs.tree_node import TreeNode

if TYPE_CHECKING:
    from hyperfs.core.format import CoreFormat

MAX_BLOCK_BYTES = 8 << 20
MAX_LENGTH = 1 << 32
_MAX_TREE_BYTES = 1 << 60
_MAX_KNOWN_HEADS = 64


class Proof(NamedTuple):
    """What proves a block: nodes from the bottom up, then roots; the signature unless the asker needs none."""

    nodes: tuple[TreeNode, ...]
    signature: bytes | None


class Received(NamedTuple):
    """A block (or, with ``value`` None, only its hash) as a peer sent it, not verified.

    ``leaf`` is what ``value`` was found to hash to, by whoever did that ahead of the check; never from a peer.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a block
    value: bytes | None
    nodes: tuple[TreeNode, ...]
    signature: bytes | None
    leaf: bytes | None = None


class Head(NamedTuple):
    """A signed tree: its length in blocks and bytes, and the signature, or `NO_SIGNATURE` for one that never grows."""

    length: int
    byte_length: int
    signature: bytes


class _Known:
    """What an asker has, as its digest told: a set of nodes in which two siblings bring their parent."""

    def __init__(self) -> None:
        self._nodes: set[int] = set()

    def add(self, tree_index: int) -> None:
        nodes = self._nodes
        while tree_index not in nodes:
            nodes.add(tree_index)
            if flat_tree.sibling(tree_index) not in nodes:
                return
            tree_index = flat_tree.parent(tree_index)

    def __contains__(self, tree_index: int) -> bool:
        return tree_index in self._nodes


def choose_nodes(
    has: Callable[[int], bool], index: int, *, digest: int, hash_only: bool
) -> tuple[list[int], int] | None:
    """Return (tree indices of a proof of block ``index`` for an asker with ``digest``, signed length or 0).

    ``has`` tells which nodes are here. 0 means that no signature is needed; None that the leaf is not here.
    """
    leaf = 2 * index
    if not has(leaf):
        return None
    chosen = [leaf] if hash_only else []
    if digest == 1:
        return chosen, 0
    if digest & 1:
        below = _siblings_below(has, leaf, digest)
        if below is not None:
            return chosen + below, 0
    known = _known_of(has, leaf, digest)
    node = leaf
    while node not in known:
        sibling = flat_tree.sibling(node)
        if not has(sibling):
            length = _length_over(has, node)
            chosen += [root for root in flat_tree.full_roots(length) if root != node and root not in known]
            return chosen, length
        if sibling not in known:
            chosen.append(sibling)
        node = flat_tree.parent(node)
    return chosen, 0


def _siblings_below(has: Callable[[int], bool], leaf: int, digest: int) -> list[int] | None:
    """Return what an asker lacks below the ancestor that ``digest`` names; None if the path to it is not all here.

    Most proofs are of this kind, and need nothing but the digest's bits.
    """
    chosen = []
    bits = digest >> 1
    node = leaf
    while bits != 1:
        bit = ~node & (node + 1)
        sibling = node ^ (bit << 1)
        if not has(sibling):
            return None
        if not bits & 1:
            chosen.append(sibling)
        node = (node | bit) & ~(bit << 1)
        bits >>= 1
    return chosen if has(node) else None


def _known_of(has: Callable[[int], bool], leaf: int, digest: int) -> _Known:
    known = _Known()
    has_ancestor = digest & 1
    digest >>= 1
    node = leaf
    while digest:
        if digest == 1 and has_ancestor:
            if has(node):
                known.add(node)
            # Who has an ancestor has all the roots left of it.
            node = min(node, flat_tree.sibling(node))
            for root in flat_tree.full_roots((flat_tree.right_span(node) >> 1) + 1):
                if has(root):
                    known.add(root)
            break
        sibling = flat_tree.sibling(node)
        if digest & 1 and has(sibling):
            known.add(sibling)
        node = flat_tree.parent(node)
        digest >>= 1
    return known


def _length_over(has: Callable[[int], bool], node: int) -> int:
    """Return the length of the longest tree here of which ``node`` lies under a root."""
    parent = flat_tree.parent(node)
    while has(parent) and has(flat_tree.sibling(node)):
        node, parent = parent, flat_tree.parent(parent)
    end = flat_tree.right_span(node) + 2
    for depth in range(flat_tree.depth(node) - 1, -1, -1):
        following = flat_tree.index(depth, end >> (depth + 1))
        if has(following):
            end = flat_tree.right_span(following) + 2
    return end >> 1


def tree_length(has: Callable[[int], bool], end: int) -> int:
    """Return the length of the core whose tree nodes ``has`` tells; none is at or past tree index ``end``."""
    top = node = 0
    while flat_tree.right_span(node) < max(end, 1):
        node = flat_tree.parent(node)
        if has(node):
            top = node
    return _length_over(has, top) if has(top) else 0


def tree_covers(index: int, length: int, older: int) -> bool:
    """Tell whether a whole proof of block ``index`` in a tree of ``length`` blocks holds all roots of ``older`` blocks.

    Then a signature of the longer tree is one of the shorter as well. What such a proof holds is the path from the
    block to its root, what lies beside the path, and the other roots.
    """
    roots = set(flat_tree.full_roots(length))
    held = set(roots)
    node = 2 * index
    while node not in roots:
        held.update((node, flat_tree.sibling(node)))
        node = flat_tree.parent(node)
    return held.issuperset(flat_tree.full_roots(older))


def request_digest(block_index: int, tree_length: int, known: Callable[[int], bool]) -> tuple[int, list[int] | None]:
    """Return the digest for a request of ``block_index``, and which nodes its answer is going to make known.

    ``tree_length`` is the number of blocks that known nodes may lie under; ``known`` tells of a tree index. The nodes
    are None when no ancestor is known: then the answer's proof ends somewhere that only the other side knows.
    """
    node = 2 * block_index
    if known(node):
        return 1, []
    digest = 0
    level_bit = 2
    if block_index >= tree_length:
        # below the first node that reaches back to where anything is known there is nothing to look at
        depth = max(0, (block_index ^ tree_length).bit_length() - 1)
        node = flat_tree.index(depth, block_index >> depth)
        level_bit <<= depth
    brought = [node]
    limit = 2 * tree_length
    while True:
        # inlined sibling and parent: this runs for every block that is asked
        low = ~node & (node + 1)
        sibling = node ^ (low << 1)
        parent = (node | low) & ~(low << 1)
        if known(sibling):
            digest |= level_bit
        else:
            brought.append(sibling)
        if known(parent):
            digest |= 2 * level_bit | 1
            return (1 if digest + 1 == 4 * level_bit else digest), brought
        brought.append(parent)
        if flat_tree.left_span(parent) == 0 and flat_tree.right_span(parent) >= limit:
            return digest, None
        node = parent
        level_bit *= 2


class OwnNodeWrong(DamagedStore):
    """A tree node on this disk is not what it was when it was verified; ``right`` is."""

    def __init__(self, right: TreeNode) -> None:
        super().__init__(f"node {right.tree_index} on disk is not the one that was verified")
        self.right = right


class ProofChecker:
    """Checks what peers send against a core's key; remembers which heads it has seen signed."""

    def __init__(self, core_format: "CoreFormat", key: bytes) -> None:
        self._format = core_format
        self._key = key
        self._heads: dict[tuple[bytes, int, bytes], None] = {}

    def check(self, item: Received, own: Callable[[int], TreeNode | None]) -> tuple[list[TreeNode], Head | None]:
        """Return (verified nodes, own ones among them; the head that proves them, if it took a signature).

        What is sent beyond the first node that is trusted is verified as well, and left out if that fails: a block may
        be here, and not the nodes between it and a newer head. ``own`` returns trusted nodes. Raises `InvalidProof`,
        or `Fork` for a signed contradiction to them, and `OwnNodeWrong` for a node of ours that does not belong to
        those above it.
        """
        index, value, nodes, _, leaf = item
        if not 0 <= index < MAX_LENGTH:
            raise self._invalid(index, "its index is past any core")
        for node in nodes:
            if len(node.hash) != 32 or not 0 <= node.size <= _MAX_TREE_BYTES:
                raise self._invalid(index, f"node {node.tree_index} is malformed")
        position = 0
        if value is not None:
            size = len(value)
            if size > MAX_BLOCK_BYTES:
                raise self._invalid(index, f"{size} bytes, where {MAX_BLOCK_BYTES} are allowed")
            top = TreeNode(2 * index, leaf or self._format.leaf_hash(value), size)
        else:
            if not nodes or nodes[0].tree_index != 2 * index:
                raise self._invalid(index, "the hash itself is missing")
            top = nodes[0]
            position = 1
        found = [top]
        verified = 0
        contradicts = -1
        count = len(nodes)
        parent_hash = self._format.parent_hash
        while True:
            at = top.tree_index
            known = own(at)
            if known is not None:
                if known == top:
                    if contradicts >= 0:
                        # What is above was made of what the peer sent: it is our own node that is not what it was.
                        raise OwnNodeWrong(next(node for node in found if node.tree_index == contradicts))
                    if position == count:
                        return found, None
                    verified = len(found)
                else:
                    contradicts = at
            bit = ~at & (at + 1)
            beside = at ^ (bit << 1)
            if position < count and nodes[position].tree_index == beside:
                uncle = nodes[position]
                position += 1
                found.append(uncle)
                known = own(beside)
                if known is not None and known != uncle:
                    contradicts = beside
            else:
                known = own(beside)
                if known is None:
                    break
                uncle = known
            size = top.size + uncle.size
            left, right = (top, uncle) if at < beside else (uncle, top)
            top = TreeNode((at | bit) & ~(bit << 1), parent_hash(size, left.hash, right.hash), size)
            found.append(top)
        try:
            head = self._check_roots(item, top, nodes[position:], own, found, contradicts)
        except InvalidProof as error:
            if not verified or isinstance(error, Fork):
                raise
            return found[:verified], None
        return found, head

    def _check_roots(
        self,
        item: Received,
        top: TreeNode,
        rest: tuple[TreeNode, ...],
        own: Callable[[int], TreeNode | None],
        found: list[TreeNode],
        contradicts: int,
    ) -> Head:
        last = rest[-1].tree_index if rest else top.tree_index
        length = (max(flat_tree.right_span(top.tree_index), flat_tree.right_span(last)) >> 1) + 1
        if length > MAX_LENGTH:
            raise self._invalid(item.index, f"it claims a length of {length} blocks")
        roots = []
        position = 0
        for wanted in flat_tree.full_roots(length):
            known = own(wanted)
            if wanted == top.tree_index:
                root = top
            elif position < len(rest) and rest[position].tree_index == wanted:
                root = rest[position]
                position += 1
                found.append(root)
                if known is not None and known != root:
                    contradicts = wanted
            elif known is not None:
                root = known
            else:
                raise self._invalid(item.index, f"root {wanted} of a tree of {length} blocks is missing")
            roots.append(root)
        if top not in roots or position != len(rest):
            raise self._invalid(item.index, "its nodes do not lead to the roots")
        signature = item.signature or NO_SIGNATURE
        if item.signature is None:
            if contradicts >= 0:
                raise self._invalid(item.index, f"node {contradicts} is not the one already verified")
            if not self._format.verify(roots, length, signature, self._key):
                raise self._invalid(item.index, "the signature is missing")
        else:
            self._check_signature(item, roots, length)
        if contradicts >= 0:
            raise Fork(
                f"core {short(self._key)} is forked: its key signed {length} blocks whose node {contradicts} is not "
                "the one signed before; what is here is kept, ask the owner which is meant"
            )
        return Head(length, sum(root.size for root in roots), signature)

    def _check_signature(self, item: Received, roots: list[TreeNode], length: int) -> None:
        assert item.signature is not None
        seen = (self._format.tree_hash(roots), length, item.signature)
        if seen in self._heads:
            return
        if not self._format.verify(roots, length, item.signature, self._key):
            raise self._invalid(item.index, f"its signature is not one of a tree of {length} blocks")
        if len(self._heads) >= _MAX_KNOWN_HEADS:
            del self._heads[next(iter(self._heads))]
        self._heads[seen] = None

    def _invalid(self, index: int, why: str) -> InvalidProof:
        return InvalidProof(f"block {index} of core {short(self._key)} does not verify: {why}")
