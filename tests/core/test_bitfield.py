"""The bitfield: ranges of bits over pages, and the summaries that the file carries."""

from hypothesis import given
from hypothesis import strategies as st

from hyperfs import flat_tree
from hyperfs.core import bits
from hyperfs.core.bitfield import INDEX_BYTES, PAGE_BLOCKS, PAGE_BYTES, Bitfield

END = 3 * PAGE_BLOCKS
POSITIONS = st.one_of(
    st.integers(0, END),
    st.builds(lambda page, near: max(0, page * PAGE_BLOCKS + near), st.integers(0, 3), st.integers(-9, 0)),
)
RANGES = st.builds(lambda a, b: (min(a, b), max(a, b)), POSITIONS, POSITIONS)
CHANGES = st.lists(st.tuples(st.booleans(), RANGES), max_size=8)


def changed(changes: list[tuple[bool, tuple[int, int]]]) -> tuple[Bitfield, set[int]]:
    bitfield, model = Bitfield(), set[int]()
    for sets, (start, end) in changes:
        if sets:
            bitfield.set_blocks(start, end)
            model.update(range(start, end))
        elif start < end:
            bitfield.clear_blocks(start, end)
            model.difference_update(range(start, end))
    return bitfield, model


@given(CHANGES, RANGES)
def test_ranges_are_told_as_a_set_would(changes: list[tuple[bool, tuple[int, int]]], asked: tuple[int, int]) -> None:
    bitfield, model = changed(changes)
    start, end = asked
    inside = [index in model for index in range(start, end)]
    assert bitfield.has(start, end) == all(inside)
    assert bitfield.count(start, end) == sum(inside)
    assert bitfield.first_missing(start, end) == next((i for i in range(start, end) if i not in model), end)
    assert bitfield.first_present(start, end) == next((i for i in range(start, end) if i in model), end)


@given(CHANGES)
def test_raw_bits_are_those_set(changes: list[tuple[bool, tuple[int, int]]]) -> None:
    bitfield, model = changed(changes)
    raw = bitfield.raw(0, END)
    assert {index for index in range(END) if raw[index >> 3] & (128 >> (index & 7))} == {i for i in model if i < END}


def expected_index(model: set[int], pages: int) -> bytes:
    """The summaries as docs/formats.md states them, one node at a time."""

    def pair(values: list[int]) -> int:
        return 3 if all(value == 3 for value in values) else 0 if not any(values) else 1

    def node(tree_index: int) -> int:
        if tree_index & 1 == 0:
            first = tree_index // 2 * 32
            byte = 0
            for eight in range(first, first + 32, 8):
                here = sum(index in model for index in range(eight, eight + 8))
                byte = byte << 2 | (3 if here == 8 else 1 if here else 0)
            return byte
        byte = 0
        for child in (flat_tree.left_child(tree_index), flat_tree.right_child(tree_index)):
            below = node(child)
            for shift in (4, 0):
                byte = byte << 2 | pair([below >> shift >> 2 & 3, below >> shift & 3])
        return byte

    return bytes(node(tree_index) for tree_index in range(pages * INDEX_BYTES))


def test_the_index_sums_up_every_level() -> None:
    bitfield = Bitfield()
    model = {*range(8192), *range(8192 + 64, 8192 + 128), 8192 + 200, *range(3 * 8192, 3 * 8192 + 40)}
    for index in model:
        bitfield.set_blocks(index, index + 1)
    bitfield.set_blocks(2 * 8192, 2 * 8192 + 8)
    bitfield.clear_blocks(2 * 8192, 2 * 8192 + 8)
    pages = dict(bitfield.take_dirty())
    assert b"".join(pages[number][-INDEX_BYTES:] for number in range(4)) == expected_index(model, 4)


def test_the_index_of_a_clean_page_follows_a_change_in_another() -> None:
    bitfield = Bitfield()
    bitfield.set_blocks(0, 2 * PAGE_BLOCKS)
    saved = dict(bitfield.take_dirty())
    bitfield.clear_blocks(PAGE_BLOCKS + 5, PAGE_BLOCKS + 6)
    saved.update(bitfield.take_dirty())
    model = set(range(2 * PAGE_BLOCKS)) - {PAGE_BLOCKS + 5}
    assert b"".join(saved[number][-INDEX_BYTES:] for number in range(2)) == expected_index(model, 2)


def test_a_page_of_an_older_size_keeps_its_bits_and_an_empty_index() -> None:
    bitfield = Bitfield()
    bitfield.set_blocks(0, 9)
    ((number, page),) = bitfield.take_dirty(3328)
    assert (number, page[:2], page[3072:]) == (0, b"\xff\x80", bytes(256))


def test_a_loaded_page_is_written_back_the_same() -> None:
    bitfield = Bitfield()
    bitfield.set_blocks(5, 6000)
    bitfield.set_node_range(0, 9999)
    (page,) = bitfield.take_dirty()
    again = Bitfield()
    again.load(*page)
    again.mark_dirty([0])
    assert again.take_dirty() == [page]


def test_a_far_bit_takes_few_pages() -> None:
    bitfield = Bitfield()
    bitfield.set_blocks(1 << 39, (1 << 39) + 1)
    assert len(bitfield.take_dirty()) < 40
    assert bitfield.count(0, 1 << 40) == 1


@given(st.integers(0, 2000), st.sets(st.integers(0, 1999)), st.sets(st.integers(0, 3999)))
def test_cutting_leaves_nothing_beyond(length: int, blocks: set[int], nodes: set[int]) -> None:
    bitfield = Bitfield()
    for index in blocks:
        bitfield.set_blocks(index, index + 1)
    bitfield.set_nodes(nodes)
    found = bitfield.cut(length)
    assert found == any(index >= length for index in blocks) or any(node >= 2 * length for node in nodes)
    assert bitfield.count(0, 4000) == sum(index < length for index in blocks)
    assert bitfield.tree_end() <= 2 * length + 7


@given(st.binary(min_size=1, max_size=40), st.data())
def test_bits_outside_a_range_stay(content: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, 8 * len(content)))
    end = data.draw(st.integers(start, 8 * len(content)))
    for change, bit in ((bits.set_range, "1"), (bits.clear_range, "0")):
        buffer = bytearray(content)
        change(buffer, start, end)
        before = "".join(f"{byte:08b}" for byte in content)
        assert "".join(f"{byte:08b}" for byte in buffer) == before[:start] + bit * (end - start) + before[end:]


def test_a_page_has_the_size_the_format_states() -> None:
    assert PAGE_BYTES == 3584
