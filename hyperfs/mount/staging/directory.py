"""The staging folder of one drive: its journal, its segments, and the space that they and the next commit need.

The rules: what `StagingDirectory.sync` returned for is durable: first bytes, then names, then the records that speak of
both. A change fails as soon as what is staged could not be committed any more. What could not be read, or not be done
again, is set aside, and nobody but the user deletes that.
"""

import errno
import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import trio

from hyperfs.core.reserve import reserve_bytes
from hyperfs.mount.staging.files import StagedFile, SyncedNames, numbered
from hyperfs.mount.staging.journal import Journal, Mark, ahead_bytes
from hyperfs.mount.staging.segments import Segments

logger = logging.getLogger(__name__)

ENTRY_BYTES = 2048
"""What one changed name takes in a commit: its node, and the hashes and signatures of that and of a block."""
_OVERHEAD = 256
"""One byte in so many is added to what is committed by hashes, and by the disk's file system for itself."""
_CHECK_BYTES = 4 * 1024 * 1024
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class StagingDirectory:
    """Owns one folder, in which nobody else writes. Close it."""

    def __init__(self, path: Path) -> None:
        """Make the folder if it is missing. Raises OSError."""
        self._is_closed = True
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        with suppress(PermissionError):  # there are file systems that know of no permissions
            path.chmod(0o700)  # it may have been made for everybody to look into
        self.path = path
        self.names = SyncedNames(path)
        self._aside = path / "set-aside"
        self._ahead_bytes = ahead_bytes(os.statvfs(path))
        journals_aside = numbered(self._aside.glob("*/*.journal"))
        self.journal = Journal(path, self.names, number=max(journals_aside, default=0), ahead_bytes=self._ahead_bytes)
        self.segments = Segments(path, self.names, number=max(numbered(self._aside.glob("*/*.data")), default=0))
        self.failure: OSError | None = None
        """Why nothing that is written can be made durable any more."""
        self._syncing = trio.Lock()
        self._unchecked_bytes = _CHECK_BYTES
        self._is_closed = False

    def __del__(self) -> None:
        if not self._is_closed:
            warnings.warn(f"the staging folder {self.path} was not closed", ResourceWarning, stacklevel=1, source=self)

    def close(self) -> None:
        """Let go of the files. What is in them stays for the next process. Raises OSError, having done so."""
        try:
            self.journal.close()
        finally:
            self.segments.close()
            self._is_closed = True

    def delete_all(self) -> None:
        """Delete journals and segments: what they say is durable in the drive, or was taken back. Blocks.

        Nothing must refer to a segment. What was set aside stays. Raises OSError.
        """
        self.journal.delete_through(self.journal.number)
        self.names.sync()  # a journal that came back without the segments that it speaks of would look like damage
        self.segments.begin_anew()
        self.segments.delete(self.segments.idle())
        self.segments.delete_strange()

    async def sync(self) -> None:
        """Make durable what was written before the call. Raises OSError, and then it may not be.

        Cancelled, it may or may not be durable; what was not is left to the next call.
        """
        async with self._syncing:
            await self.journal.written()
            mark, segments = self.journal.mark(), self.segments.unsynced()
            if segments or not self.names.is_synced or not self.journal.is_synced:
                await trio.to_thread.run_sync(self._sync_now, mark, segments)

    def _sync_now(self, mark: Mark, segments: Sequence[StagedFile]) -> None:
        try:
            for segment in segments:
                segment.sync()
            self.names.sync()
            self.journal.sync(mark)
        except OSError as error:
            if self.failure is None and any(file.is_lost for file in [*segments, *self.journal.files]):
                self.failure = error
                logger.error(
                    "%s: what is staged cannot be written to this disk any more (%s); nothing more is taken until the "
                    "drive is mounted again",
                    self.path,
                    error,
                )
            raise

    def has_room(self, size: int, uncommitted_bytes: int) -> bool:
        """Tell whether ``size`` more bytes fit on the disk, and what is uncommitted can be committed then.

        The disk is asked once for each few megabytes. Raises OSError.
        """
        self._unchecked_bytes += size
        if self._unchecked_bytes < _CHECK_BYTES:
            return True
        disk = os.statvfs(self.path)
        free = disk.f_bavail * disk.f_frsize
        # A commit needs the reserve, or room to make it, which is twice as much; it begins a journal; and what the one
        # before says of names and attributes is written once more, as nodes of the drive.
        spare = 2 * reserve_bytes(disk) + 2 * self._ahead_bytes + self.journal.current_bytes
        needed = size + uncommitted_bytes + uncommitted_bytes // _OVERHEAD + self.segments.writing_bytes + spare
        if free < needed:
            return False
        if free > 4 * needed:
            self._unchecked_bytes = 0
        return True

    def set_aside(self, reasons: Sequence[str]) -> Path:
        """Keep all that is in the folder now in another, for the user to decide about; return which. Blocks.

        It takes no space: the files have two names then. What they hold must not change any more. Kept again before
        the next commit, they are kept in the same place, with what came since. Raises OSError.
        """
        self._aside.mkdir(mode=0o700, exist_ok=True)
        place = self._aside / str(min(self.journal.numbers(), default=0))
        place.mkdir(mode=0o700, exist_ok=True)
        for path in (*self.path.glob("*.journal"), *self.path.glob("*.data")):
            with suppress(FileExistsError):
                _keep(path, place / path.name)
        why = place / "why.txt"
        with open(os.open(why, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.writelines(f"{reason}\n" for reason in reasons)
            file.flush()
            os.fsync(file.fileno())
        for folder in (place, self._aside, self.path):
            names = SyncedNames(folder)
            names.changed()
            names.sync()
        return place


def _keep(path: Path, kept: Path) -> None:
    try:
        os.link(path, kept)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        kept.touch(0o600, exist_ok=False)
        shutil.copyfile(path, kept)
