"""Drives by other words than their keys, and the list of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.commands import Hyperfs, hyperfs_in


@pytest.fixture(scope="module")
def hyperfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hyperfs]:
    with hyperfs_in(tmp_path_factory.mktemp("listing")) as hyperfs:
        yield hyperfs


@pytest.fixture(scope="module")
def key(hyperfs: Hyperfs, tmp_path_factory: pytest.TempPathFactory) -> str:
    source = tmp_path_factory.mktemp("source")
    (source / "hello").write_text("hello\n")
    return hyperfs.imported(source)


def listed(hyperfs: Hyperfs) -> dict[str, dict[str, object]]:
    return {drive["key"]: drive for drive in map(json.loads, hyperfs("list", "--json").splitlines())}


def test_the_first_digits_of_a_key_stand_for_it(hyperfs: Hyperfs, key: str) -> None:
    assert hyperfs("cat", key[:8], "hello") == "hello\n"
    assert hyperfs("cat", f"hyper://{key[:8]}+2/hello") == "hello\n"


def test_a_name_stands_for_a_drive_until_it_is_taken_away(hyperfs: Hyperfs, key: str) -> None:
    hyperfs("name", key[:8], "photos")
    assert hyperfs("cat", "photos+2", "hello") == "hello\n"
    assert listed(hyperfs)[key]["name"] == "photos"
    hyperfs("stop")
    assert hyperfs("cat", "photos/hello") == "hello\n"
    hyperfs("name", "photos", "--delete")
    words = hyperfs.fails("cat", "photos", "hello", status=2)
    assert "'photos' is not a key: " in words
    assert f"no drive of the store {hyperfs.store} is called or begins so" in words


def test_a_name_of_another_drive_is_refused(hyperfs: Hyperfs, key: str) -> None:
    other = hyperfs("create").strip()
    hyperfs("name", other, "mine")
    assert f"drive {other} is called 'mine'" in hyperfs.fails("name", key, "mine", status=2)


@pytest.mark.parametrize("arguments", [("abcd",), ("a b",), ("photos", "--delete"), ()])
def test_what_is_no_name_is_wrong_usage(arguments: tuple[str, ...], hyperfs: Hyperfs, key: str) -> None:
    hyperfs.fails("name", key, *arguments, status=2)


def test_drives_are_listed_with_what_is_done_with_them(hyperfs: Hyperfs, key: str) -> None:
    hyperfs("serve", key, "--listen", "127.0.0.1:0")
    drive = listed(hyperfs)[key]
    assert (drive["writable"], drive["version"], drive["content_bytes"]) == (True, 2, 6)
    assert (drive["served"], drive["mountpoints"]) == (True, [])
    rows = {row.split("\t")[1]: row.split("\t") for row in hyperfs("list").splitlines()}
    assert rows[key][2:4] == ["2", "6 B"]
    assert rows[key][-1] == "yours, served"
    hyperfs("unserve", key)
    assert not listed(hyperfs)[key]["served"]


def test_listing_makes_no_store(hyperfs: Hyperfs, tmp_path: Path) -> None:
    assert hyperfs("list", "--store", tmp_path / "nowhere") == ""
    assert not (tmp_path / "nowhere").exists()
