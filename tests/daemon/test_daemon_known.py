"""A drive that is given by its name in a store, or by the first digits of its key."""

import json
from pathlib import Path

import pytest

from hyperfs.daemon.known import find_drive
from hyperfs.daemon.places import Places
from hyperfs.daemon.state import Served, State, with_name
from hyperfs.errors import UsageError

FIRST = "aaaa" + "1" * 60
SECOND = "aaab" + "2" * 60
SERVED = "5e4f" + "3" * 60
NAMED = "4a3e" + "4" * 60


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A store with two cores, a drive that is served of which nothing is here, and one that only has a name."""
    places = Places(tmp_path / "store")
    for key in (FIRST, SECOND):
        folder = places.store / key[-2:] / key[-2:] / key
        folder.mkdir(parents=True)
        (folder / "key").write_bytes(bytes.fromhex(key))
    places.own.mkdir()
    state = {"format": 1, "served": [{"key": SERVED}], "names": {"photos": NAMED, "first": FIRST}}
    places.state.write_text(json.dumps(state))
    return places


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("aaaa", FIRST),
        ("AAAA1", FIRST),
        ("aaab", SECOND),
        (SECOND[:63], SECOND),
        ("5e4f", SERVED),
        ("4a3e", NAMED),
        ("photos", NAMED),
        ("first", FIRST),
        ("Photos", None),
        ("phot", None),
        ("aaac", None),
    ],
)
def test_a_name_or_the_only_beginning_stands_for_a_drive(word: str, key: str | None, places: Places) -> None:
    assert find_drive(places, word) == (key and bytes.fromhex(key))


def test_several_that_begin_so_are_shown(places: Places) -> None:
    with pytest.raises(UsageError, match=r"2 keys begin with aaa: write more of it \(aaaa1111111…, aaab2222222…\)"):
        find_drive(places, "aaa")


def test_a_store_that_is_not_there_has_no_drives_and_is_not_made(tmp_path: Path) -> None:
    assert find_drive(Places(tmp_path / "store"), "aaaa") is None
    assert not (tmp_path / "store").exists()


def test_a_drive_has_one_name_and_a_name_one_drive() -> None:
    state = with_name(State(), FIRST, "first")
    state = with_name(state, FIRST, "one")
    assert state.names == {"one": FIRST}
    assert with_name(state, FIRST, "one") == state
    with pytest.raises(UsageError, match=f"drive {FIRST} is called 'one'"):
        with_name(state, SECOND, "one")
    assert with_name(state, FIRST, None).names == {}


def test_a_name_outlives_what_else_is_known_of_a_drive() -> None:
    state = with_name(State(served=(Served(FIRST),)), FIRST, "one")
    assert with_name(state, SECOND, "two").names == {"one": FIRST, "two": SECOND}
