"""Sets of blocks as ranges say what sets say."""

from hypothesis import given
from hypothesis import strategies as st

from hyperfs.replication.ranges import Ranges

CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 6)), max_size=30)


@given(CHANGES)
def test_they_say_what_a_set_says(changes: list[tuple[bool, int, int]]) -> None:
    ranges = Ranges()
    expected: set[int] = set()
    for added, start, size in changes:
        if added:
            ranges.add(start, start + size)
            expected |= set(range(start, start + size))
        else:
            ranges.remove(start, start + size)
            expected -= set(range(start, start + size))
    assert [block for blocks in ranges for block in blocks] == sorted(expected)
    assert all(one.stop < other.start for one, other in zip(list(ranges), list(ranges)[1:], strict=False))
    assert bool(ranges) == bool(expected)
    for position in range(30):
        first = ranges.first_from(position)
        assert (first.start if first else None) == min((block for block in expected if block >= position), default=None)
        assert ranges.meets(position, position + 3) == bool(expected & set(range(position, position + 3)))


def test_neighbours_are_one_range() -> None:
    assert list(Ranges([range(5, 7), range(2), range(2, 5)])) == [range(7)]


@given(st.lists(st.integers(0, 30)))
def test_numbers_in_any_order_make_ranges(numbers: list[int]) -> None:
    assert list(Ranges.of(numbers)) == list(Ranges(range(number, number + 1) for number in numbers))
