"""What a command does that is told to end."""

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from hyperfs.cli.signals import Terminated, cancelling_at_signals, telling_how_to_go_on

SIGNALS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]


async def told_to_end(number: signal.Signals, work: Callable[[], Awaitable[object]]) -> None:
    with cancelling_at_signals():
        os.kill(os.getpid(), number)
        await work()


@pytest.mark.parametrize(("number", "error"), SIGNALS)
async def test_a_signal_cancels_the_work(number: signal.Signals, error: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(error):
        await told_to_end(number, trio.sleep_forever)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "error"), SIGNALS)
async def test_what_is_shielded_comes_to_its_end_and_a_second_signal_is_the_systems(
    number: signal.Signals, error: type[BaseException]
) -> None:
    is_done = False

    async def work() -> None:
        nonlocal is_done
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            is_done = signal.getsignal(number) is signal.SIG_DFL
        await trio.sleep_forever()

    with pytest.raises(error):
        await told_to_end(number, work)
    assert is_done


async def test_work_that_is_done_all_the_same_has_succeeded() -> None:
    with cancelling_at_signals():
        os.kill(os.getpid(), signal.SIGTERM)


async def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with cancelling_at_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.testing.wait_all_tasks_blocked()
    finally:
        signal.signal(signal.SIGTERM, before)


WHILE_IT_IS_LOADED = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "hyperfs.cli.common":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["hyperfs", "--version"]
from hyperfs.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("before", "status", "output"),
    [("", -signal.SIGINT, ""), ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)", 0, "hyperfs ")],
)
def test_an_interrupt_in_the_first_instant_ends_it_without_a_word_unless_it_is_ignored(
    before: str, status: int, output: str
) -> None:
    script = f"{before}\n{WHILE_IT_IS_LOADED}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[: len("hyperfs ")], done.stderr) == (status, output, "")


def test_whoever_interrupts_is_told_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), telling_how_to_go_on("again"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "\nagain\n"
