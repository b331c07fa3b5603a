"""How a mount writes: to the drive that it shows, and to those of ours that are mounted in it.

The rule: whoever writes a drive holds the lock of its staging folder, in whichever mount that is.
"""

import errno
from functools import partial

import trio

from hyperfs.daemon.client import DaemonClient
from hyperfs.daemon.committer import DaemonCommitter
from hyperfs.daemon.locks import LockFile
from hyperfs.errors import PathError, short
from hyperfs.mount.writing import Writing


class DrivesWritten:
    """The drives that one mount writes, and their locks. Implements `InnerWriting`."""

    def __init__(self, client: DaemonClient, flush_seconds: float) -> None:
        self._client = client
        self._flush_seconds = flush_seconds
        self._committers: dict[bytes, DaemonCommitter] = {}
        self._locks: dict[bytes, LockFile] = {}

    @property
    def appended_bytes(self) -> int:
        """How many bytes of content the daemon has appended for this mount so far."""
        return sum(committer.appended_bytes for committer in self._committers.values())

    def staged(self) -> set[bytes]:
        """Return of which drives of the store something is staged."""
        return {bytes.fromhex(drive.key) for drive in self._client.places.staged()}

    async def open(self, key: bytes) -> Writing:
        """Return how to write to drive ``key``, alone. Raises `PathError` (EROFS) when another mount does."""
        directory = self._client.places.staging(key)
        await trio.to_thread.run_sync(partial(directory.mkdir, mode=0o700, parents=True, exist_ok=True))
        lock = LockFile(directory / "lock")
        if not lock.try_take():
            raise PathError(
                errno.EROFS,
                f"drive {short(key)}",
                f"it is written to already, through another place or another mount (process {lock.holder()})",
            )
        self._locks[key] = lock
        committer = self._committers.setdefault(key, DaemonCommitter(self._client, key))
        return Writing(committer, directory, self._flush_seconds, inner=self, let_go=lock.release)
