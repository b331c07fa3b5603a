from collections import deque

from hyperfs.replication.window import (
    INITIAL_BYTES,
    INITIAL_REQUESTS,
    MAX_BYTES,
    MAX_INITIAL_REQUESTS,
    MAX_REQUESTS,
    MIN_REQUESTS,
    Window,
)


def transfer(window: Window, *, rate: float, round_trip: float, block_bytes: int, seconds: float) -> None:
    """Answer as a line of ``rate`` blocks a second does, one after another, for as many requests as the window lets."""
    now = 1000.0
    end = now + seconds
    free_at = now
    asked: deque[tuple[float, int, float]] = deque()
    while now < end:
        while len(asked) < window.size:
            free_at = max(free_at, now + round_trip) + 1 / rate
            asked.append((now, window.delivered, free_at))
        window.note_full()
        # what arrives within a millisecond arrives together
        now = max(now, asked[0][2])
        count = 0
        while asked and asked[0][2] <= now + 0.001:
            asked_at, delivered, now = asked.popleft()
            count += 1
        window.answered(count, count * block_bytes, asked_at, delivered, now)


def test_it_begins_as_the_reference_does() -> None:
    assert Window().size == INITIAL_REQUESTS


def test_little_that_was_asked_for_does_not_make_it_small() -> None:
    window = Window()
    for second in range(1, 100):
        window.answered(1, 1000, float(second), window.delivered, second + 0.2)
    assert window.size == INITIAL_REQUESTS


def test_it_fills_a_far_and_fast_line() -> None:
    window = Window()
    transfer(window, rate=5000, round_trip=0.1, block_bytes=1000, seconds=3)
    assert window.size >= 0.1 * 5000


def test_it_does_not_run_far_past_what_the_line_holds() -> None:
    window = Window()
    transfer(window, rate=1000, round_trip=0.1, block_bytes=1000, seconds=5)
    assert window.size <= 4 * 0.1 * 1000


def test_it_stays_small_on_a_slow_line() -> None:
    window = Window()
    transfer(window, rate=2, round_trip=0.05, block_bytes=1 << 20, seconds=300)
    assert MIN_REQUESTS <= window.size <= 8


def test_it_is_bounded_in_requests() -> None:
    window = Window()
    transfer(window, rate=20_000, round_trip=0.5, block_bytes=10, seconds=7)
    assert window.size == MAX_REQUESTS


def test_it_is_bounded_in_bytes() -> None:
    window = Window()
    transfer(window, rate=1000, round_trip=0.5, block_bytes=1 << 20, seconds=5)
    assert window.size <= MAX_BYTES >> 20


def test_a_line_that_became_slower_is_noticed() -> None:
    window = Window()
    transfer(window, rate=5000, round_trip=0.02, block_bytes=1000, seconds=3)
    fast = window.size
    transfer(window, rate=100, round_trip=0.02, block_bytes=1000, seconds=30)
    assert window.size < fast / 10


def test_the_first_window_is_of_so_many_bytes_where_blocks_are_small() -> None:
    window = Window()
    window.expect(1024)
    assert window.size == INITIAL_BYTES // 1024
    window.expect(1)
    assert window.size == MAX_INITIAL_REQUESTS
    window.expect(65536)
    assert window.size == INITIAL_REQUESTS


def test_what_blocks_were_expected_to_be_counts_no_more_once_the_line_is_measured() -> None:
    window = Window()
    transfer(window, rate=100, round_trip=0.05, block_bytes=1000, seconds=30)
    measured = window.size
    window.expect(1)
    assert window.size == measured


def test_blocks_that_wait_for_each_other_on_a_slow_line_do_not_make_it_far() -> None:
    window = Window()
    window.longest_trip = 0.25
    transfer(window, rate=3, round_trip=0.1, block_bytes=65536, seconds=120)
    assert window.size <= 3
