"""Readahead grows while a reader reads on, and stops when he does not."""

from hyperfs.mount.readahead import FIRST_WINDOW, LARGEST_WINDOW, Readahead

KIB = 1024
MIB = 1024 * KIB
LARGE = 1 << 40


def test_the_first_read_fetches_nothing_ahead() -> None:
    assert Readahead().plan(0, 128 * KIB, LARGE) is None


def test_reading_on_fetches_ahead_from_where_the_read_ends() -> None:
    readahead = Readahead()
    readahead.plan(0, 128 * KIB, LARGE)
    assert readahead.plan(128 * KIB, 128 * KIB, LARGE) == (256 * KIB, FIRST_WINDOW)


def test_the_window_grows_up_to_its_bound() -> None:
    readahead = Readahead()
    position, furthest = 0, 0
    for _ in range(40):
        planned = readahead.plan(position, MIB, LARGE)
        position += MIB
        if planned:
            furthest = sum(planned) - position
    assert LARGEST_WINDOW * 3 // 4 <= furthest <= LARGEST_WINDOW


def test_a_few_reads_on_it_is_largest() -> None:
    readahead = Readahead()
    readahead.plan(0, 128 * KIB, LARGE)
    planned = [readahead.plan(step * 128 * KIB, 128 * KIB, LARGE) for step in range(1, 6)]
    assert planned[-1] is not None
    assert sum(planned[-1]) == 6 * 128 * KIB + LARGEST_WINDOW


def test_nothing_is_planned_twice_and_nothing_left_out() -> None:
    readahead = Readahead()
    covered = 0
    for step in range(1000):
        planned = readahead.plan(step * MIB, MIB, LARGE)
        covered = max(covered, (step + 1) * MIB)
        if planned:
            assert planned[0] == covered
            covered = sum(planned)
    assert covered > 1000 * MIB


def test_jumping_about_fetches_nothing_ahead() -> None:
    readahead = Readahead()
    assert [readahead.plan(position * MIB, 4 * KIB, LARGE) for position in (500, 20, 900, 100)] == [None] * 4


def test_jumping_makes_the_window_small_again() -> None:
    readahead = Readahead()
    for step in range(20):
        readahead.plan(step * MIB, MIB, LARGE)
    readahead.plan(500 * MIB, MIB, LARGE)
    assert readahead.plan(501 * MIB, MIB, LARGE) == (502 * MIB, FIRST_WINDOW)


def test_requests_a_little_out_of_order_are_reading_on() -> None:
    readahead = Readahead()
    order = [0, 128, 384, 256, 640, 512]
    planned = [readahead.plan(position * KIB, 128 * KIB, LARGE) for position in order]
    assert sum(plan is not None for plan in planned) >= 2


def test_it_ends_with_the_file() -> None:
    readahead = Readahead()
    readahead.plan(0, 128 * KIB, 300 * KIB)
    assert readahead.plan(128 * KIB, 128 * KIB, 300 * KIB) == (256 * KIB, 44 * KIB)
    assert readahead.plan(256 * KIB, 44 * KIB, 300 * KIB) is None


def test_demoting_begins_small_again() -> None:
    readahead = Readahead()
    for step in range(20):
        readahead.plan(step * MIB, MIB, LARGE)
    readahead.demote()
    assert readahead.plan(20 * MIB, MIB, LARGE) == (21 * MIB, FIRST_WINDOW)
