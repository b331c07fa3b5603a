"""Lock files that name their holder.

The rule: the kernel's flock decides who holds a lock, and lets go when the holder dies, however it dies; the pid inside
is only told to people.
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from hyperfs.storage.disk import lock_holder


class LockFile:
    """An exclusive flock on a file of its own, held from `try_take` until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def try_take(self) -> bool:
        """Take the lock if it is free, and write our pid into it; return whether it is ours now. Never waits.

        Raises:
            OSError: the file cannot be opened.
        """
        if self._descriptor is not None:
            return True
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        self._descriptor = descriptor
        with suppress(OSError):  # a full disk: the kernel knows the holder, too
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return True

    def release(self) -> None:
        """Let go of the lock, if it is ours. The file stays: removing it would race with the next taker."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holding_process(self) -> int | None:
        """Return the pid of whoever holds the lock, as the kernel says; None when nobody does, or that is not told."""
        try:
            with self.path.open("rb") as file:
                return lock_holder(file.fileno())
        except OSError:
            return None

    def holder(self) -> int | None:
        """Return the pid that the holder wrote, or whom the kernel names; None when neither tells."""
        try:
            with self.path.open("rb") as file:
                text = file.read()
                return int(text) if text.strip() else lock_holder(file.fileno())
        except (OSError, ValueError):
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
