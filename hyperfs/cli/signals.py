"""Being told to end, by ^C or SIGTERM, in the midst of what should be wound up.

The rule: the first signal cancels the work, so that what is shielded comes to its end; the second one ends the process
at once.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from hyperfs.cli.output import tell

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """SIGTERM has ended the work."""


@contextmanager
def cancelling_at_signals() -> Iterator[None]:
    """Cancel the block at the first SIGINT or SIGTERM; signals that are ignored stay so. For trio's main thread.

    Raises `KeyboardInterrupt` or `Terminated` after the block if it was cut short.
    """
    import trio

    token = trio.lowlevel.current_trio_token()
    came: list[int] = []

    def cancel(number: int, _: "FrameType | None") -> None:
        came.append(number)
        signal.signal(number, signal.SIG_DFL)
        token.run_sync_soon(scope.cancel)

    heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    with trio.CancelScope() as scope:
        before = {number: signal.signal(number, cancel) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if scope.cancelled_caught:
        raise KeyboardInterrupt if came[0] == signal.SIGINT else Terminated


@contextmanager
def telling_how_to_go_on(how: str) -> Iterator[None]:
    """Say ``how`` when the block is interrupted by ^C."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"\n{how}")
        raise


def end_by(number: signal.Signals) -> NoReturn:
    """End as a program does that leaves a signal to the system."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
