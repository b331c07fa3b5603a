"""Whether more connections to one peer pay, where each brings so much and all together no more than the line holds."""

from hyperfs.replication.widening import AT_ONCE, IDLE_SECONDS, MAX_LINKS, Widening


def download(
    widening: Widening, *, rate: float, most: float, round_trip: float, seconds: float, start: float = 1000.0
) -> float:
    """Have so many connections as are wanted bring ``rate`` bytes a second each, at most ``most``; return the end."""
    now = start
    while now < start + seconds:
        now += 0.01
        brought = int(min(widening.wanted * rate, most) * 0.01)
        widening.note_full(now, round_trip=round_trip)
        widening.brought(brought, now, round_trip=round_trip)
    return now


def test_a_near_peer_has_one() -> None:
    widening = Widening()
    download(widening, rate=1e6, most=1e9, round_trip=0.001, seconds=60)
    assert widening.wanted == 1


def test_they_become_more_as_long_as_that_makes_it_faster() -> None:
    widening = Widening()
    download(widening, rate=1e6, most=1e9, round_trip=0.02, seconds=60)
    assert widening.wanted == MAX_LINKS


def test_a_line_that_one_fills_gets_one_more_to_find_that_out() -> None:
    widening = Widening()
    download(widening, rate=1e6, most=1e6, round_trip=0.02, seconds=60)
    assert widening.wanted == 2


def test_to_a_peer_that_is_very_far_there_are_several_at_once() -> None:
    widening = Widening()
    assert widening.note_full(1000.0, round_trip=0.3)
    assert widening.wanted == AT_ONCE


def test_there_is_one_where_no_more_is_wanted_than_it_brings() -> None:
    widening = Widening()
    for tick in range(6000):
        widening.brought(10_000, 1000.0 + tick / 100, round_trip=0.3)
    assert widening.wanted == 1


def test_where_no_more_can_be_there_are_no_more() -> None:
    widening = Widening()
    now = download(widening, rate=1e6, most=1e9, round_trip=0.02, seconds=2)
    widening.settle(2)
    download(widening, rate=1e6, most=1e9, round_trip=0.02, seconds=60, start=now)
    assert widening.wanted == 2


def test_after_a_while_without_use_it_begins_anew() -> None:
    widening = Widening()
    now = download(widening, rate=1e6, most=1e9, round_trip=0.02, seconds=60)
    assert not widening.is_idle(now + IDLE_SECONDS / 2)
    assert widening.is_idle(now + IDLE_SECONDS)
    assert widening.wanted == 1
    download(widening, rate=1e6, most=1e6, round_trip=0.02, seconds=60, start=now + IDLE_SECONDS)
    assert widening.wanted == 2


def test_a_line_that_begins_to_lose_packets_gets_more() -> None:
    widening = Widening()
    now = download(widening, rate=1e6, most=1e6, round_trip=0.02, seconds=20)
    download(widening, rate=1e5, most=1e6, round_trip=0.02, seconds=20, start=now)
    assert widening.wanted == MAX_LINKS
