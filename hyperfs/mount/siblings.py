"""When to fetch small files ahead: once a folder's files are being read one after the other.

The rule: nothing for who opens a file or two. From the third small file of a folder on that is really read, some of
the files that come after it in the listing, and twice as many each time that they were used up. Who has read on so
in one folder goes through all of them: of the next one everything is fetched with the first file, and what lies behind
it, or before it, since files that came into a drive together lie together. Pure: it says how many, others fetch.
"""

from collections import OrderedDict
from typing import NamedTuple

from hyperfs.core.reader import CoreReader
from hyperfs.drive.snapshot import OpenFile

SMALL_BYTES = 64 * 1024
"""What counts as small. Of what is larger `Readahead` fetches ahead."""
STEP_BYTES = 4 * 1024 * 1024
"""What is fetched ahead at one time, at most."""
FIRST_READ = 3
FIRST_FILES = 32
MOST_FILES = 1024
USED_FILES = 8
"""Who has read as many in a folder reads on in the next."""
WAITS_IN_VAIN = 16
"""Files that are waited for one by one after as much as possible was asked for: it may be on its way."""
_MAX_FOLDERS = 64


class Step(NamedTuple):
    """What to fetch now: so many files of the folder, and what lies behind them when ``reads_on``."""

    files: int
    reads_on: bool = False


class _Folder:
    __slots__ = ("left", "read", "reads_on", "window")

    def __init__(self, *, reads_on: bool) -> None:
        self.reads_on = reads_on
        self.read = 0
        self.left = 0
        self.window = 0


class Siblings:
    """The plan of one mount. Folders are told apart by their paths."""

    def __init__(self) -> None:
        self._folders: OrderedDict[str, _Folder] = OrderedDict()

    def __bool__(self) -> bool:
        """Tell whether anybody had to wait for a small file: nothing else is of interest before."""
        return bool(self._folders)

    def read(self, folder: str, *, here: bool) -> Step | None:
        """Note that a small file of ``folder`` is read; return what to fetch after it now, mostly nothing.

        ``here`` tells that its bytes were; only who had to wait for some is helped by having more fetched.
        """
        known = self._folders.get(folder)
        if known is None:
            if here and not self._reads_on():
                return None
            known = self._begin(folder)
        self._folders.move_to_end(folder)
        known.read += 1
        known.left -= 1
        if not known.window:
            ready = known.reads_on or (known.read >= FIRST_READ and not here)
        elif here:
            ready = known.left <= known.window // 2
        else:
            ready = known.window < MOST_FILES or known.left <= known.window - WAITS_IN_VAIN
        if not ready:
            return None
        known.window = MOST_FILES if known.reads_on else min(2 * known.window or FIRST_FILES, MOST_FILES)
        known.left = known.window
        return Step(known.window, known.reads_on)

    def _reads_on(self) -> bool:
        last = next(reversed(self._folders.values()), None)
        return last is not None and last.window > 0 and last.read >= USED_FILES

    def _begin(self, folder: str) -> _Folder:
        begun = self._folders[folder] = _Folder(reads_on=self._reads_on())
        if len(self._folders) > _MAX_FOLDERS:
            self._folders.popitem(last=False)
        return begun


class Course:
    """Which way a reader goes through a drive's content, from folder to folder: some writers put the last one first."""

    def __init__(self) -> None:
        self._core: CoreReader | None = None
        self._folder = ""
        self._start = 0
        self._backwards = False

    def backwards(self, folder: str, file: OpenFile) -> bool:
        """Note that ``file`` of ``folder`` is read; tell whether it lies before what was read in another folder."""
        if folder != self._folder or self._core is not file.core:
            self._backwards = self._core is file.core and file.run.blocks.start < self._start
            self._core, self._folder, self._start = file.core, folder, file.run.blocks.start
        return self._backwards
