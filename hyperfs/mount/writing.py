"""What makes a mount writable: a workspace, what commits it, and the view of it, put together.

The rule: before the folder can be used everything that an earlier process staged is staged again, and after it was
unmounted everything is committed, or stays for the next process.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from hyperfs.drive.committer import Committer
from hyperfs.drive.drive import Drive
from hyperfs.errors import HyperfsError, short
from hyperfs.mount.options import DEFAULT_FLUSH_SECONDS
from hyperfs.mount.staging.flushing import Flusher
from hyperfs.mount.staging.nodes import MILLISECOND_NS, mtime_of
from hyperfs.mount.staging.recovery import recover
from hyperfs.mount.staging.workspace import Workspace
from hyperfs.mount.workspace_view import WorkspaceView

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Writing:
    """How a mount writes: commits go to ``committer``; ``directory`` holds what is staged, and is this drive's alone.

    All that is staged is committed ``flush_seconds`` after the first change, or sooner.
    """

    committer: Committer
    directory: Path
    flush_seconds: float = DEFAULT_FLUSH_SECONDS


class Staged:
    """The writable side of one mount. Made by `open`; `close` commits and lets go of the files."""

    def __init__(self, drive: Drive, workspace: Workspace, writing: Writing, *, confines_links: bool) -> None:
        self.workspace = workspace
        self.view = WorkspaceView(drive, workspace, writing.committer, confines_links=confines_links)
        self.flusher = Flusher(self.view.maker, interval_seconds=writing.flush_seconds)
        self._drive = drive
        self._closed = False
        self.failure: Exception | None = None
        """Why something stays staged after `close`; None when nothing does."""

    @classmethod
    async def open(cls, drive: Drive, writing: Writing, *, confines_links: bool) -> "Staged":
        """Take up what is staged in the directory. Raises OSError, and what reading the drive raises."""
        newest = (await drive.snapshot().stat("")).stat  # the root has no entry: it is as old as what it holds
        workspace = Workspace(drive.snapshot(), writing.directory)
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
