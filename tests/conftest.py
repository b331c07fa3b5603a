"""What holds for every test: nothing is skipped or expected to fail, so a green run ran everything."""

import pytest
import trio.testing
from hypothesis import settings

from tests.support import clocks

settings.register_profile("hyperfs", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("hyperfs")

_not_run: list[str] = []


@pytest.fixture
def patient_clock(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """A clock that jumps to the next deadline once there is nothing to do, in no thread either."""
    return clocks.patient_clock(monkeypatch)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each test that was skipped, or failed and was excused."""
    if report.skipped or hasattr(report, "wasxfail"):
        _not_run.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which a test was left out."""
    if _not_run and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was left out."""
    for nodeid in _not_run:
        terminalreporter.write_line(f"SKIPPED OR EXCUSED, which counts as failed: {nodeid}", red=True)
