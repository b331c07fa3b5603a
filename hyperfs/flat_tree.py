"""The numbering of a Merkle tree's nodes, in order ("flat tree").

Leaf ``i`` is node ``2 * i``; a node of depth ``d`` is ``2**d - 1 + k * 2**(d + 1)`` for the ``k``-th from the left.
An index here is always a *tree index*, never a block index.
"""


def depth(tree_index: int) -> int:
    """Return how far ``tree_index`` is above the leaves (a leaf: 0)."""
    return (~tree_index & (tree_index + 1)).bit_length() - 1


def offset(tree_index: int) -> int:
    """Return how many nodes of the same depth lie left of ``tree_index``."""
    return tree_index >> (depth(tree_index) + 1)


def index(node_depth: int, node_offset: int) -> int:
    """Return the tree index of the ``node_offset``-th node of ``node_depth``."""
    return (node_offset << (node_depth + 1)) + (1 << node_depth) - 1


def parent(tree_index: int) -> int:
    """Return the node right above."""
    bit = ~tree_index & (tree_index + 1)
    return (tree_index | bit) & ~(bit << 1)


def sibling(tree_index: int) -> int:
    """Return the other child of the same parent."""
    return tree_index ^ ((~tree_index & (tree_index + 1)) << 1)


def left_child(tree_index: int) -> int:
    """Return the left child; a leaf has none and raises ValueError."""
    bit = ~tree_index & (tree_index + 1)
    if bit == 1:
        raise ValueError(f"tree index {tree_index} is a leaf and has no children")
    return tree_index - (bit >> 1)


def right_child(tree_index: int) -> int:
    """Return the right child; a leaf has none and raises ValueError."""
    bit = ~tree_index & (tree_index + 1)
    if bit == 1:
        raise ValueError(f"tree index {tree_index} is a leaf and has no children")
    return tree_index + (bit >> 1)


def left_span(tree_index: int) -> int:
    """Return the leftmost leaf under ``tree_index``, as a tree index."""
    return tree_index - (~tree_index & (tree_index + 1)) + 1


def right_span(tree_index: int) -> int:
    """Return the rightmost leaf under ``tree_index``, as a tree index."""
    return tree_index + (~tree_index & (tree_index + 1)) - 1


def block_range(tree_index: int) -> range:
    """Return the block indices under ``tree_index``."""
    bit = ~tree_index & (tree_index + 1)
    return range((tree_index - bit + 1) >> 1, ((tree_index + bit - 1) >> 1) + 1)


def full_roots(length: int) -> list[int]:
    """Return the roots of a tree of ``length`` blocks, from left to right."""
    roots = []
    first_block = 0
    while length:
        span = 1 << (length.bit_length() - 1)
        roots.append(2 * first_block + span - 1)
        first_block += span
        length -= span
    return roots
