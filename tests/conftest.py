"""What holds for every test: nothing is skipped or expected to fail, so a green run ran everything; nothing is left.

What a test leaves behind (see `tests.support.leaks`) fails it. Where fixtures of its module hold something it is the
module's last test that fails.
"""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import trio.testing
from hypothesis import settings

from tests.support import clocks
from tests.support.leaks import Held

# The same examples each time, so that what fails is what was changed; --hypothesis-profile=explore looks for others.
settings.register_profile("explore", deadline=None, max_examples=60, print_blob=True)
settings.register_profile("hyperfs", settings.get_profile("explore"), derandomize=True)
settings.load_profile("hyperfs")

# No test speaks with the public network, or with neighbours: those that find peers say by which.
os.environ["HYPERFS_NO_DHT"] = os.environ["HYPERFS_NO_MDNS"] = "1"

# A shell starts in the background with ^C ignored, what it starts starts others so, and tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

_not_run: list[str] = []
_before_test = pytest.StashKey[Held]()
_before_module: dict[str, Held] = {}


@pytest.fixture
def patient_clock(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """A clock that jumps to the next deadline once there is nothing to do, in no thread either."""
    return clocks.patient_clock(monkeypatch)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: Any) -> Iterator[None]:
    """Note what there is before a test, and before the first of its module."""
    item.stash[_before_test] = Held.now(item.config._tmp_path_factory.getbasetemp())
    _before_module.setdefault(_module_of(item), item.stash[_before_test])
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Fail a test that left something behind."""
    yield
    module = _module_of(item)
    if nextitem is None or _module_of(nextitem) != module:
        left = _before_module.pop(module).left_since()
    elif _has_lasting_fixtures(item):
        return
    else:
        left = item.stash[_before_test].left_since()
        _before_module[module] = _before_module[module].and_also(left)
    if left:
        pytest.fail("it leaves behind: " + "; ".join(left), pytrace=False)


def _module_of(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _has_lasting_fixtures(item: Any) -> bool:
    """Tell whether fixtures of ours that a test uses outlive it."""
    definitions = item._fixtureinfo.name2fixturedefs.values()
    return any(one.scope != "function" and one.baseid for several in definitions for one in several)


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
