"""What was found out lasts as long as it may, over processes, and a bad file is as good as none."""

from pathlib import Path

import pytest

from hyperfs.swarm.names import cache as cache_module
from hyperfs.swarm.names.answers import NameAnswer
from hyperfs.swarm.names.cache import Kept, NameCache

KEY = bytes(range(32))
NAME = "example.com"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_kept_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "names.json"
    clock = Clock()
    NameCache(path, now=clock).keep(NAME, NameAnswer(KEY, 60))
    later = NameCache(path, now=clock)
    kept = later.find(NAME)
    assert kept == Kept(KEY, 1060.0)
    assert later.is_fresh(kept)
    clock.now = 1060.0
    assert not later.is_fresh(kept)


def test_what_is_not_to_be_kept_replaces_what_was(tmp_path: Path) -> None:
    names = NameCache(tmp_path / "names.json")
    names.keep(NAME, NameAnswer(KEY, 60))
    names.keep(NAME, NameAnswer(KEY, 0))
    assert names.find(NAME) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "nonsense", '{"example.com": 1}', '{"example.com": {"key": "00", "until": 1}}', "\0\0"]
)
def test_a_file_that_says_something_else_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(content)
    names = NameCache(path)
    assert names.find(NAME) is None
    names.keep(NAME, NameAnswer(KEY, 60))
    assert names.find(NAME) is not None


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_NAMES", 2)
    names = NameCache(tmp_path / "names.json")
    for name in ("a.com", "b.com", "a.com", "c.com"):
        names.keep(name, NameAnswer(KEY, 60))
    assert [names.find(name) is not None for name in ("a.com", "b.com", "c.com")] == [True, False, True]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    NameCache(tmp_path / "file" / "names.json").keep(NAME, NameAnswer(KEY, 60))
    assert "cannot keep the key of example.com" in caplog.text
