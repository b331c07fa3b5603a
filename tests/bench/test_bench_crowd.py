"""A player sees a film begin, and stand still, when what it shows next has not come."""

import pytest

from bench.network.player import Habits, Playback

HABITS = Habits(rate=100.0, begin=2.0, most=10.0)


def test_a_film_begins_once_enough_of_it_is_here() -> None:
    playback = Playback(HABITS, asked_at=5.0)
    playback.received(199, 6.0)
    assert playback.startup is None
    playback.received(1, 7.5)
    assert playback.startup == 2.5


def test_a_film_that_is_shorter_begins_at_its_end() -> None:
    playback = Playback(HABITS, asked_at=5.0)
    playback.received(50, 6.0)
    playback.received(0, 6.0)
    assert playback.startup == 1.0
    assert playback.stalls == []


def test_what_was_shown_is_not_ahead_any_more() -> None:
    playback = Playback(HABITS, asked_at=0.0)
    playback.received(500, 1.0)
    assert playback.ahead(1.0) == pytest.approx(5.0)
    assert playback.ahead(4.0) == pytest.approx(2.0)


def test_a_stall_lasts_from_the_last_byte_shown_until_enough_is_here_again() -> None:
    playback = Playback(HABITS, asked_at=0.0)
    playback.received(300, 1.0)
    playback.received(100, 6.0)
    playback.received(99, 7.0)
    assert playback.stalls == []
    playback.received(1, 8.0)
    assert playback.stalls == [(pytest.approx(3.0), pytest.approx(4.0))]


def test_a_film_that_was_shown_to_its_end_has_not_stalled() -> None:
    playback = Playback(HABITS, asked_at=0.0)
    playback.received(300, 1.0)
    playback.received(0, 9.0)
    assert playback.stalls == []


def test_the_last_of_a_film_is_shown_however_little_it_is() -> None:
    playback = Playback(HABITS, asked_at=0.0)
    playback.received(300, 1.0)
    playback.received(10, 6.0)
    playback.received(0, 6.5)
    assert playback.stalls == [(pytest.approx(3.0), pytest.approx(2.5))]
