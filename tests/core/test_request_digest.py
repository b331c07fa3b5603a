from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfs import flat_tree
from hyperfs.core.proofs import choose_nodes, request_digest


def whole_tree(length: int) -> set[int]:
    """All nodes of a tree of ``length`` blocks."""
    return {
        node
        for node in range(2 * length)
        if flat_tree.right_span(node) < 2 * length - 1 or flat_tree.right_span(node) == 2 * length - 2
    }


def test_what_is_here_needs_no_proof() -> None:
    assert request_digest(4, 16, {8}.__contains__) == (1, [])


def test_an_answer_brings_the_nodes_up_to_the_first_known_ancestor() -> None:
    # the root of 8 blocks is 7: block 0 needs its siblings 2, 5 and 11, and makes 1 and 3 known
    digest, brings = request_digest(0, 8, {7}.__contains__)
    assert digest == 0b10001
    assert brings == [0, 2, 1, 5, 3, 11]


def test_nothing_is_promised_when_no_ancestor_is_known() -> None:
    assert request_digest(0, 0, set[int]().__contains__) == (0, None)


def test_a_block_beside_one_under_way_asks_for_no_nodes() -> None:
    _, brings = request_digest(0, 8, {7}.__contains__)
    assert brings is not None
    assert request_digest(1, 8, {7, *brings}.__contains__) == (1, [])


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 40), st.data())
def test_an_answer_has_every_node_that_was_counted_on(length: int, data: st.DataObject) -> None:
    nodes = whole_tree(length)
    known = set(flat_tree.full_roots(length))
    for index in data.draw(st.lists(st.integers(0, length - 1), max_size=8)):
        digest, brings = request_digest(index, length, known.__contains__)
        chosen = choose_nodes(nodes.__contains__, index, digest=digest, hash_only=False)
        assert brings is not None
        assert chosen is not None
        uncles = {node for node in brings if not flat_tree.left_span(node) <= 2 * index <= flat_tree.right_span(node)}
        assert set(chosen[0]) == uncles
        known |= set(brings)


@given(st.integers(0, 100), st.integers(0, 300))
def test_of_a_block_past_the_end_the_roots_beside_its_way_up_are_known(length: int, past_the_end: int) -> None:
    index, known = length + past_the_end, whole_tree(length)
    digest, brings = request_digest(index, length, known.__contains__)
    assert brings is None
    node, beside = 2 * index, 0
    for level in range(1, 12):
        beside |= (flat_tree.sibling(node) in known) << level
        node = flat_tree.parent(node)
    assert digest == beside


def test_a_block_far_past_the_end_is_not_looked_for_on_all_its_way_up() -> None:
    asked: list[int] = []
    for index in (700, 1 << 20, (1 << 32) - 1):
        asked.clear()
        request_digest(index, 600, lambda tree_index: bool(asked.append(tree_index)))
        assert len(asked) < 30
