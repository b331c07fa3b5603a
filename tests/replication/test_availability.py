import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperfs.core.proofs import MAX_LENGTH
from hyperfs.replication.availability import LONG_RUN, MAX_MIXED_PAGES, MAX_PAGES, PAGE_BITS, Availability, PageBudget
from tests.support.steps import steps_of


def blocks_of(availability: Availability, end: int) -> set[int]:
    found: set[int] = set()
    position = 0
    while (run := availability.next_run(position, end)) is not None:
        found.update(run)
        position = run.stop
    return found


def test_nothing_is_announced_at_first() -> None:
    availability = Availability()
    assert not availability.has(0)
    assert availability.next_run(0, 100) is None
    assert availability.claimed_length == 0


def test_the_claimed_length_is_the_highest_block_and_one() -> None:
    availability = Availability()
    availability.add(5, 9)
    availability.add(2, 3)
    assert availability.claimed_length == 9


def test_taking_back_the_last_blocks_shortens_the_claim() -> None:
    availability = Availability()
    availability.add(0, 20_000)
    availability.remove(10, 30_000)
    assert availability.claimed_length == 10


def test_a_bitfield_replaces_what_was_known_of_its_range() -> None:
    availability = Availability()
    availability.add(0, 16)
    availability.set_bits(0, b"\x80\x01", PAGE_BITS)
    assert blocks_of(availability, PAGE_BITS) == {0, 15}


def test_an_empty_bitfield_means_none_of_the_range() -> None:
    availability = Availability()
    availability.add(0, PAGE_BITS + 1)
    availability.set_bits(0, b"", PAGE_BITS)
    assert blocks_of(availability, 2 * PAGE_BITS) == {PAGE_BITS}


def test_an_absurdly_long_run_costs_one_entry() -> None:
    availability = Availability()
    availability.add(3, 1 << 52)
    assert availability.has(1 << 30)
    assert availability.next_run(0, 1 << 52) == range(3, MAX_LENGTH)
    availability.remove(100, 1 << 31)
    assert not availability.has(100)
    assert availability.has(99)
    assert availability.has(MAX_LENGTH - 1)


def test_blocks_that_no_core_can_have_are_not_claimed() -> None:
    availability = Availability()
    availability.add(MAX_LENGTH, 1 << 52)
    availability.set_bits(1 << 44, b"\xff" * 1024, PAGE_BITS)
    assert availability.claimed_length == 0
    availability.add(1 << 20, 1 << 52)
    assert availability.claimed_length == MAX_LENGTH


def test_taking_back_the_last_of_very_many_pages_looks_at_few() -> None:
    availability = Availability()
    for page in range(0, MAX_PAGES, 32):
        availability.add(page * PAGE_BITS, (page + 32) * PAGE_BITS)
    end = MAX_PAGES * PAGE_BITS
    for taken in range(1, 200):
        steps = steps_of(lambda taken=taken: availability.remove(end - taken, end - taken + 1))
        assert availability.claimed_length == end - taken
        assert steps < 1000


def test_cores_of_one_connection_share_their_pages() -> None:
    budget = PageBudget()
    one, other = Availability(budget), Availability(budget)
    for page in range(MAX_MIXED_PAGES):
        one.add(2 * page * PAGE_BITS, 2 * page * PAGE_BITS + 1)
    other.add(0, 1)
    assert not other.has(0)
    one.clear()
    other.add(0, 1)
    assert other.has(0)
    assert (budget.pages, budget.mixed) == (MAX_PAGES - 1, MAX_MIXED_PAGES - 1)


def test_mixed_pages_past_the_bound_are_ignored() -> None:
    availability = Availability()
    for page in range(MAX_MIXED_PAGES + 10):
        availability.add(page * PAGE_BITS, page * PAGE_BITS + 1)
    assert availability.has((MAX_MIXED_PAGES - 1) * PAGE_BITS)
    assert not availability.has((MAX_MIXED_PAGES + 1) * PAGE_BITS)


def test_whole_pages_past_the_bound_are_ignored() -> None:
    availability = Availability()
    for page in range(0, MAX_PAGES + 64, 64):
        availability.add(page * PAGE_BITS, (page + 64) * PAGE_BITS)
    assert availability.has((MAX_PAGES - 1) * PAGE_BITS)
    assert not availability.has((MAX_PAGES + 1) * PAGE_BITS)


@pytest.mark.parametrize("page_count", [1, 3])
def test_runs_are_found_across_pages(page_count: int) -> None:
    availability = Availability()
    availability.add(10, page_count * PAGE_BITS + 10)
    assert blocks_of(availability, 10 * PAGE_BITS) == set(range(10, page_count * PAGE_BITS + 10))


EDGES = [0, 1, 7, 8, PAGE_BITS - 1, PAGE_BITS, PAGE_BITS + 1, 2 * PAGE_BITS, 3 * PAGE_BITS, LONG_RUN, LONG_RUN + 5]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(EDGES), st.sampled_from(EDGES)), max_size=8))
def test_it_says_what_a_set_would_say(changes: list[tuple[bool, int, int]]) -> None:
    availability = Availability()
    expected: set[int] = set()
    for added, first, second in changes:
        start, end = min(first, second), max(first, second)
        if added:
            availability.add(start, end)
            expected |= set(range(start, end))
        else:
            availability.remove(start, end)
            expected -= set(range(start, end))
    assert blocks_of(availability, 2 * LONG_RUN) == expected
    assert availability.claimed_length == max(expected, default=-1) + 1
