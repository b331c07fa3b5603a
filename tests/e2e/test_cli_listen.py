"""Where a daemon accepts peers: said once for all drives, and taken back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.commands import Hyperfs, eventually, hyperfs_in

ANY = "127.0.0.1:0"


@pytest.fixture
def hyperfs(tmp_path: Path) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path) as hyperfs:
        yield hyperfs


def test_an_address_stays_until_it_is_taken_back(hyperfs: Hyperfs) -> None:
    key = hyperfs("create").strip()
    (first,) = hyperfs.json("serve", key, "--listen", ANY)["listening"]
    assert hyperfs("listen").split() == [first]
    first_, second = hyperfs("listen", ANY).split()
    assert first_ == first
    hyperfs("stop")
    # Without a daemon it is told what is to be listened at: one that is started may find a port taken by now.
    assert hyperfs("listen").split() == [first, second]
    assert first not in hyperfs("listen", "--remove", first).split()
    hyperfs("stop")
    assert hyperfs.json("listen")["listening"] == [second]
    hyperfs("listen", "--remove", second)
    hyperfs("stop")
    assert hyperfs.json("listen")["listening"] == []


def test_with_the_last_drive_that_is_served_it_ends(hyperfs: Hyperfs) -> None:
    keys = [hyperfs("create").strip() for _ in range(2)]
    for key in keys:
        hyperfs("serve", key)
    hyperfs("listen", ANY)
    hyperfs("unserve", keys[0])
    assert hyperfs("listen").split()
    hyperfs("unserve", keys[1])
    eventually(lambda: hyperfs("listen") == "")


def test_what_was_not_chosen_cannot_be_taken_back(hyperfs: Hyperfs) -> None:
    words = hyperfs.fails("listen", "--remove", "127.0.0.1:1", status=2)
    assert "127.0.0.1:1 was not chosen to be listened at" in words
    assert "say which address" in hyperfs.fails("listen", "--remove", status=2)


def test_an_address_that_cannot_be_had_changes_nothing(hyperfs: Hyperfs) -> None:
    (first,) = hyperfs("listen", ANY).split()
    assert "cannot listen there" in hyperfs.fails("listen", ANY, "192.0.2.1:1")
    assert hyperfs("listen").split() == [first]
