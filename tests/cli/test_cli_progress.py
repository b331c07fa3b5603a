"""What a terminal shows while a command works, and that nothing else is shown it."""

import io
import sys
import threading

import pytest

from hyperfs.cli.progress import Whole, search_progress, transfer_progress, waiting_progress
from hyperfs.drive.importer import Progress
from tests.support.drives import new_drive

MIB = 1024 * 1024


class Terminal(io.StringIO):
    """A standard error that a person looks at."""

    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Give the running test a terminal; what a fixture put there, capturing would replace."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return terminal


def test_sizes_and_speed_are_in_one_kind_of_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with transfer_progress("importing") as told:
        assert told is not None
        for done in range(1, 4):
            told(Progress(1, 2, done * MIB, 4 * MIB))
    shown = terminal.getvalue()
    assert "3.0 MiB of 4.0 MiB" in shown
    assert "iB/s" in shown
    assert "MB" not in shown


def test_a_search_tells_how_much_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with search_progress("looking", "entries") as told:
        assert told is not None
        told(12_345)
    assert "12,345 entries" in terminal.getvalue()


def test_nothing_is_shown_where_nobody_looks() -> None:
    with transfer_progress("importing") as transfer, search_progress("looking", "entries") as search:
        assert (transfer, search) == (None, None)


def test_nothing_is_shown_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with transfer_progress("importing", wanted=False) as transfer, search_progress("", "", wanted=False) as search:
        assert (transfer, search, terminal.getvalue()) == (None, None, "")


def test_the_thread_that_draws_has_ended_with_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal_of(monkeypatch)
    with search_progress("looking", "entries"):
        drawing = [thread for thread in threading.enumerate() if thread.name == "progress"]
        assert len(drawing) == 1
    assert not drawing[0].is_alive()


async def test_progress_is_a_part_of_the_whole_once_that_is_counted() -> None:
    told: list[Progress] = []
    own = await new_drive()
    for path in ("a/b", "a/c", "d"):
        await own.writer.put_file(path, b"12345")
    whole = Whole(told.append)
    whole(Progress(0, 1, 0, 5))
    await whole.count(own.drive.snapshot(), "a")
    whole(Progress(1, 1, 5, 5))
    whole(Progress(3, 3, 15, 15))  # it grew since
    assert told == [Progress(0, 1, 0, 5), Progress(1, 2, 5, 10), Progress(3, 3, 15, 15)]


async def test_what_cannot_be_counted_is_told_as_it_is_met() -> None:
    told: list[Progress] = []
    whole = Whole(told.append)
    await whole.count((await new_drive()).drive.snapshot(), "nowhere")
    whole(Progress(1, 1, 5, 5))
    assert told == [Progress(1, 1, 5, 5)]


def test_what_is_waited_for_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with waiting_progress("looking for peers"):
        pass
    assert "looking for peers" in terminal.getvalue()
