"""The log of a daemon that a command started: it and its mounts write to its end, as their standard error.

The rule: it stays short while they run, too. Whoever puts it aside need tell nobody: each looks now and then whether
what it writes to is still the log.
"""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

_log = logging.getLogger(__name__)

LOG_BYTES: Final = 1024 * 1024
"""A longer log is put aside, in place of the one that was put aside before it."""
LOOK_SECONDS: Final = 30.0
_OUTPUTS: Final = (1, 2)


async def follow_log(path: Path, *, keeps_short: bool) -> None:
    """Write to the log at ``path`` as long as this process runs, whoever puts it aside; do nothing if it never did.

    ``keeps_short``: this is the process that puts it aside. Runs until cancelled, which leaves nothing half done.
    """
    outputs = [descriptor for descriptor in _OUTPUTS if is_log(path, descriptor)]
    while outputs:
        await trio.sleep(LOOK_SECONDS)
        try:
            if keeps_short:
                await trio.to_thread.run_sync(put_aside_if_long, path)
            await trio.to_thread.run_sync(partial(reopen, path, outputs))
        except OSError as error:  # no space, or the store is away: what there is to say goes where it went
            _log.warning("%s: cannot be begun anew: %s", path, error)


def put_aside_if_long(path: Path) -> None:
    """Put a long log aside; the next who opens it begins a new one. Raises OSError."""
    try:
        if path.stat().st_size > LOG_BYTES:
            os.replace(path, path.with_suffix(".log.old"))
    except FileNotFoundError:
        return


def open_log(path: Path) -> int:
    """Return a descriptor that writes to the end of the log, which is its user's alone. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def reopen(path: Path, outputs: Sequence[int]) -> None:
    """Have descriptors that wrote to the log before it was put aside write to the one that is there now."""
    if all(is_log(path, descriptor) for descriptor in outputs):
        return
    opened = open_log(path)
    try:
        for descriptor in outputs:
            os.dup2(opened, descriptor)
    finally:
        os.close(opened)


def is_log(path: Path, descriptor: int) -> bool:
    """Tell whether what is written to ``descriptor`` goes into the file that is at ``path`` now."""
    try:
        there, written = path.stat(), os.fstat(descriptor)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (written.st_dev, written.st_ino)
