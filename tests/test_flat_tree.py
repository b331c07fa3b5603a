"""The tree's numbering: the reference's figures, and the laws that hold for every node."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs import flat_tree
from tests.support import vectors

TREE_INDEX = st.integers(min_value=0, max_value=2**50)
LENGTH = st.integers(min_value=0, max_value=2**40)
NODES: list[dict[str, int]] = vectors.load("crypto")["flatTree"]


@pytest.mark.parametrize("node", NODES, ids=lambda node: str(node["index"]))
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("depth", flat_tree.depth),
        ("offset", flat_tree.offset),
        ("parent", flat_tree.parent),
        ("sibling", flat_tree.sibling),
        ("leftSpan", flat_tree.left_span),
        ("rightSpan", flat_tree.right_span),
    ],
)
def test_agrees_with_the_reference(node: dict[str, int], name: str, function: Any) -> None:
    assert function(node["index"]) == node[name]


@pytest.mark.parametrize("node", [node for node in NODES if node["depth"]], ids=lambda node: str(node["index"]))
def test_children_agree_with_the_reference(node: dict[str, int]) -> None:
    index = node["index"]
    assert (flat_tree.left_child(index), flat_tree.right_child(index)) == (node["leftChild"], node["rightChild"])


@pytest.mark.parametrize("length", [int(length) for length in vectors.load("crypto")["fullRootsByBlocks"]])
def test_roots_agree_with_the_reference(length: int) -> None:
    assert flat_tree.full_roots(length) == vectors.load("crypto")["fullRootsByBlocks"][str(length)]


@pytest.mark.parametrize("child", [flat_tree.left_child, flat_tree.right_child])
def test_a_leaf_has_no_children(child: Any) -> None:
    with pytest.raises(ValueError, match="tree index 6 is a leaf"):
        child(6)


@given(TREE_INDEX)
def test_depth_and_offset_name_the_node(tree_index: int) -> None:
    assert flat_tree.index(flat_tree.depth(tree_index), flat_tree.offset(tree_index)) == tree_index


@given(TREE_INDEX)
def test_a_sibling_shares_the_parent(tree_index: int) -> None:
    assert flat_tree.parent(flat_tree.sibling(tree_index)) == flat_tree.parent(tree_index)


@given(TREE_INDEX)
def test_a_node_is_a_child_of_its_parent(tree_index: int) -> None:
    parent = flat_tree.parent(tree_index)
    assert tree_index in (flat_tree.left_child(parent), flat_tree.right_child(parent))


@given(TREE_INDEX)
def test_the_blocks_of_a_node_are_those_of_its_span(tree_index: int) -> None:
    blocks = flat_tree.block_range(tree_index)
    assert (2 * blocks[0], 2 * blocks[-1]) == (flat_tree.left_span(tree_index), flat_tree.right_span(tree_index))


@given(LENGTH)
def test_the_roots_cover_every_block_once(length: int) -> None:
    ranges = [flat_tree.block_range(root) for root in flat_tree.full_roots(length)]
    edges = [0, *(blocks.stop for blocks in ranges)]
    assert [blocks.start for blocks in ranges] == edges[:-1]
    assert edges[-1] == length


@given(LENGTH)
def test_the_roots_shrink_from_left_to_right(length: int) -> None:
    depths = [flat_tree.depth(root) for root in flat_tree.full_roots(length)]
    assert all(left > right for left, right in pairwise(depths))
