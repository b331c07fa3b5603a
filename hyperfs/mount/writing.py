"""What makes a mount writable: a workspace, what commits it, and the view of it, put together.

The rule: before the folder can be used everything that an earlier process staged is staged again, and after it was
unmounted everything is committed, or stays for the next process.
"""

import logging
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hyperfs.drive.committer import Committer
from hyperfs.drive.drive import Drive
from hyperfs.drive.snapshot import Snapshot
from hyperfs.errors import HyperfsError, short
from hyperfs.mount.inodes import InodeTable
from hyperfs.mount.options import DEFAULT_FLUSH_SECONDS
from hyperfs.mount.staging.flushing import Flusher
from hyperfs.mount.staging.nodes import MILLISECOND_NS, mtime_of
from hyperfs.mount.staging.recovery import recover
from hyperfs.mount.staging.workspace import Workspace
from hyperfs.mount.workspace_view import WorkspaceView

logger = logging.getLogger(__name__)


class InnerWriting(Protocol):
    """Whoever says how drives of ours are written that are mounted in the one that is."""

    def staged(self) -> Set[bytes]:
        """Return of which drives something was written that is not in them yet."""
        ...

    async def open(self, key: bytes) -> "Writing":
        """Return how to write to drive ``key``. Raises `PathError` (EROFS) when somebody else does, and OSError."""
        ...


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How a mount writes: commits go to ``committer``; ``directory`` holds what is staged, and is this drive's alone.

    All that is staged is committed ``flush_seconds`` after the first change, or sooner.
    """

    committer: Committer
    directory: Path
    flush_seconds: float = DEFAULT_FLUSH_SECONDS
    inner: "InnerWriting | None" = None
    """How drives that are mounted in it are written; None: they are not."""
    let_go: Callable[[], None] = _nothing
    """Called when the directory is not needed any more."""


class Staged:
    """The writable side of one mount. Made by `open`; `close` commits and lets go of the files."""

    def __init__(self, drive: Drive, workspace: Workspace, writing: Writing, *, confines_links: bool) -> None:
        self.workspace = workspace
        self.view = WorkspaceView(drive, workspace, writing.committer, confines_links=confines_links)
        self.flusher = Flusher(self.view.maker, interval_seconds=writing.flush_seconds)
        self._drive = drive
        self._closed = False
        self._let_go = writing.let_go
        self.failure: Exception | None = None
        """Why something stays staged after `close`; None when nothing does."""

    @classmethod
    async def open(
        cls,
        drive: Drive,
        writing: Writing,
        *,
        confines_links: bool,
        snapshot: Snapshot | None = None,
        inodes: InodeTable | None = None,
        place: int = 0,
    ) -> "Staged":
        """Take up what is staged in the directory. Raises OSError, and what reading the drive raises.

        It lies over ``snapshot``, the newest one when None; ``inodes`` are those that were given out at this ``place``
        before, and are given out by the workspace from now on.
        """
        snapshot = snapshot or drive.snapshot()
        newest = (await snapshot.stat("")).stat  # the root has no entry: it is as old as what it holds
        workspace = Workspace(snapshot, writing.directory, place=place)
        if inodes is not None:
            workspace.inodes.take_over(inodes)
        root = workspace.tree.root
        root.mtime = mtime_of(newest) or time.time_ns()
        root.ctime = newest.ctime * MILLISECOND_NS or root.mtime
        try:
            count = await recover(workspace, writing.committer)
        except BaseException:  # failed or cancelled, everything stays for the next process
            workspace.close()
            raise
        if count:
            logger.info("drive %s: %d changes of an earlier mount are staged again", short(drive.key), count)
        return cls(drive, workspace, writing, confines_links=confines_links)

    async def close(self) -> None:
        """Commit what is staged, once; what cannot be committed now stays staged."""
        if self._closed:
            return
        self._closed = True
        try:
            await self.flusher.flush()
        except (HyperfsError, OSError) as error:
            self.failure = error
            logger.warning(
                "drive %s: what was written stays staged for the next mount: %s", short(self._drive.key), error
            )
        finally:
            self.workspace.close()
            self._let_go()
