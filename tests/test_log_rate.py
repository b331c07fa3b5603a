"""Whoever causes the same line again and again fills no log."""

import logging

from hyperfs.log_rate import BURST_LINES, SECONDS_A_LINE, LogRate


class Log:
    """What a handler with such a filter writes, at times that a test chooses."""

    def __init__(self) -> None:
        self.now = 0.0
        self._filter = LogRate(lambda: self.now)

    def told(self, message: str, *arguments: object, line: int = 1, level: int = logging.WARNING) -> str | None:
        """Return what is written of one line, None if nothing is."""
        record = logging.LogRecord("hyperfs", level, "module.py", line, message, arguments, None)
        return record.getMessage() if self._filter.filter(record) else None


def test_the_first_lines_are_told_and_of_the_others_how_many_they_were() -> None:
    log = Log()
    told = [log.told("dropped %s", number) for number in range(BURST_LINES + 300)]
    assert told[:BURST_LINES] == [f"dropped {number}" for number in range(BURST_LINES)]
    assert told[BURST_LINES:] == [None] * 300
    log.now = SECONDS_A_LINE
    assert log.told("dropped %s: 100%%", "it") == "dropped it: 100%; and 300 more like it before"
    assert log.told("dropped %s", "it") is None


def test_lines_from_another_place_are_told_all_the_same() -> None:
    log = Log()
    for _ in range(1000):
        log.told("dropped", line=1)
    assert log.told("refused", line=2) == "refused"


def test_a_flood_for_an_hour_is_some_hundred_lines() -> None:
    log = Log()
    lines = 0
    for tick in range(36_000):
        log.now = tick / 10
        lines += log.told("dropped %d", tick) is not None
    assert lines <= BURST_LINES + 3600 / SECONDS_A_LINE


def test_what_is_said_for_debugging_is_all_told() -> None:
    log = Log()
    assert None not in [log.told("details", level=logging.DEBUG) for _ in range(1000)]
