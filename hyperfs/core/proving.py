"""Making the proofs of a core's blocks out of the nodes that are here.

The rule: of a core of ours a proof shows nothing that a crash could take back.
"""

from collections.abc import Callable

import trio

from hyperfs import flat_tree
from hyperfs.core.durability import Durability
from hyperfs.core.files import CoreFiles
from hyperfs.core.format import NO_SIGNATURE
from hyperfs.core.nonblocking import WouldWait, run_with_reads
from hyperfs.core.own_nodes import OwnNodes
from hyperfs.core.proofs import Proof, choose_nodes
from hyperfs.errors import BlockNotAvailable, short
from hyperfs.tree_node import TreeNode


class Prover:
    """Proves blocks of one core."""

    def __init__(self, files: CoreFiles, nodes: OwnNodes, durability: Durability) -> None:
        self._files = files
        self._nodes = nodes
        self._durability = durability

    async def proof(self, index: int, *, digest: int, hash_only: bool, only_durable: bool) -> Proof:
        """Return the proof of block ``index`` for an asker that has ``digest``. Raises `BlockNotAvailable`."""
        key = self._files.key
        has: Callable[[int], bool] = self._has_durable if only_durable else self._files.bitfield.has_node
        chosen = choose_nodes(has, index, digest=digest, hash_only=hash_only)
        if chosen is None:
            raise BlockNotAvailable(f"core {short(key)} has no proof of block {index} here")
        indices, length = chosen
        try:
            nodes = self._nodes.all_of(indices)
        except WouldWait:
            nodes = await run_with_reads(self._nodes.all_of, indices)
        if length == 0:
            return Proof(nodes, None)
        signature = await self._durability.signature(length - 1)
        if signature is None and not await self._is_static(length):
            raise BlockNotAvailable(f"core {short(key)} has no signature of {length} blocks here")
        return Proof(nodes, signature)

    async def signature(self, index: int, length: int) -> tuple[int, bytes] | None:
        """Return the first signature at or after block ``index`` of ``length``, with the block that it is at."""
        pending = self._durability.first_signature(index)
        end = length if pending is None else pending[0]
        in_file = await trio.to_thread.run_sync(self._files.signatures.first, index, end)
        return in_file or pending

    async def roots(self, length: int) -> list[TreeNode]:
        """Return the roots of the tree of ``length`` blocks. Raises `BlockNotAvailable`."""
        indices = flat_tree.full_roots(length)
        missing = [root for root in indices if not self._files.bitfield.has_node(root)]
        if missing:
            raise BlockNotAvailable(
                f"core {short(self._files.key)}: node {missing[0]}, a root of {length} blocks, is not here"
            )
        return list(await run_with_reads(self._nodes.all_of, indices))

    async def _is_static(self, length: int) -> bool:
        """Tell whether this core needs no signature: its key is the hash of its tree, so it never grows."""
        roots = await run_with_reads(self._nodes.all_of, flat_tree.full_roots(length))
        return self._files.format.verify(roots, length, NO_SIGNATURE, self._files.key)

    def _has_durable(self, tree_index: int) -> bool:
        end = 2 * self._durability.length
        return flat_tree.right_span(tree_index) < end and self._files.bitfield.has_node(tree_index)
