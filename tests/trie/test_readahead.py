"""What is asked for ahead of a trie's reader, and that it is no more than was agreed."""

import pytest

from hyperfs.trie.readahead import (
    CHUNK_BLOCKS,
    FEW_LOOKUPS,
    FIRST_LISTING_BYTES,
    LISTING_BYTES,
    LOOKUP_BYTES,
    LOOKUPS_BYTES,
    NEWEST_BYTES,
    SMALL_BYTES,
    WALK_BYTES,
    WALK_FACTOR,
    Readahead,
)

BLOCK = 100
LENGTH = 100_000
BYTES = BLOCK * LENGTH
CHUNK_BYTES = CHUNK_BLOCKS * BLOCK


def byte_size(planned: list[range]) -> int:
    return BLOCK * sum(map(len, planned))


def test_with_the_first_missing_node_its_neighbours_and_the_newest_are_asked_for() -> None:
    planned = Readahead().plan(5000, LENGTH, BYTES)
    assert [5000 in blocks for blocks in planned] == [True, False]
    assert planned[0] == range(4992, 5024)
    assert planned[1].stop == LENGTH
    assert byte_size(planned[1:]) == pytest.approx(NEWEST_BYTES, abs=2 * CHUNK_BYTES)


def test_no_block_is_planned_for_twice() -> None:
    readahead = Readahead()
    readahead.plan(5000, LENGTH, BYTES)
    assert readahead.plan(5001, LENGTH, BYTES) == []
    assert readahead.plan(LENGTH - 1, LENGTH, BYTES) == []


def test_of_blocks_that_were_added_since_the_new_ones_are_planned_for() -> None:
    readahead = Readahead()
    readahead.plan(LENGTH - 1, LENGTH, BYTES)
    grown = LENGTH + 10
    assert any(LENGTH in blocks for blocks in readahead.plan(LENGTH, grown, BYTES + 10 * BLOCK))


def test_a_small_trie_is_asked_for_as_a_whole_but_for_its_header() -> None:
    length = SMALL_BYTES // BLOCK
    assert Readahead().plan(3, length, length * BLOCK) == [range(1, length)]


def test_looking_a_few_paths_up_has_a_bound() -> None:
    readahead = Readahead()
    asked = sum(byte_size(readahead.plan(seq, LENGTH, BYTES)) for seq in range(1, FEW_LOOKUPS * 1000, 1000))
    assert asked <= LOOKUPS_BYTES + CHUNK_BYTES


def test_looking_path_after_path_up_has_more_asked_for_with_each_that_is_missing() -> None:
    readahead = Readahead()
    for seq in range(1, FEW_LOOKUPS * 1000, 1000):
        readahead.plan(seq, LENGTH, BYTES)
    room = LOOKUPS_BYTES + LOOKUP_BYTES
    before = byte_size(readahead.plan(50_000, LENGTH, BYTES))
    assert before <= room
    assert byte_size(readahead.plan(70_000, LENGTH, BYTES)) == pytest.approx(LOOKUP_BYTES, abs=CHUNK_BYTES)


def test_of_a_directory_that_is_listed_the_nodes_before_its_newest_are_asked_for() -> None:
    readahead = Readahead()
    readahead.listing()
    (planned,) = readahead.plan(50_000, LENGTH, BYTES)
    assert planned.stop - CHUNK_BLOCKS <= 50_000 < planned.stop


def test_one_listing_asks_for_twice_as_much_each_time_and_has_a_bound() -> None:
    readahead = Readahead()
    readahead.listing()
    sizes = [byte_size(readahead.plan(seq, LENGTH, BYTES)) for seq in range(90_000, 1, -9000)]
    wanted = [FIRST_LISTING_BYTES, 2 * FIRST_LISTING_BYTES, 4 * FIRST_LISTING_BYTES]
    assert sizes[:3] == pytest.approx(wanted, abs=CHUNK_BYTES)
    assert sum(sizes) <= LISTING_BYTES + CHUNK_BYTES


def test_a_walk_asks_for_everything_when_that_is_little() -> None:
    length = WALK_BYTES // BLOCK
    readahead = Readahead()
    for _ in range(2):
        readahead.listing()
    assert readahead.plan(3, length, length * BLOCK) == [range(1, length)]


def test_a_walk_over_much_asks_for_more_the_more_was_listed() -> None:
    readahead = Readahead()
    for _ in range(2):
        readahead.listing()
    asked = byte_size(readahead.plan(50_000, LENGTH, BYTES))
    assert asked == pytest.approx(WALK_BYTES, abs=2 * CHUNK_BYTES)
    assert readahead.plan(1, LENGTH, BYTES) == []
    readahead.listed(100)
    more = byte_size(readahead.plan(50_000, LENGTH, BYTES))
    assert more == pytest.approx(WALK_FACTOR * 100 * BLOCK, abs=2 * CHUNK_BYTES)


def test_a_walk_to_the_end_has_everything_asked_for_and_then_plans_nothing() -> None:
    readahead = Readahead()
    for _ in range(2):
        readahead.listing()
    readahead.listed(LENGTH)
    planned = [blocks for seq in (70_000, 3) for blocks in readahead.plan(seq, LENGTH, BYTES)]
    assert sum(map(len, planned)) == LENGTH - 1
    assert readahead.plan(LENGTH - 1, LENGTH, BYTES) == []


@pytest.mark.parametrize("seq", [0, -1, LENGTH, 1 << 60])
def test_what_is_no_node_plans_nothing(seq: int) -> None:
    assert Readahead().plan(seq, LENGTH, BYTES) == []
