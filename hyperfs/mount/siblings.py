"""When to fetch small files ahead: once a folder's files are being read one after the other.

The rule: nothing for who opens a file or two. From the third small file of a folder on that is really read, some of
the files that come after it in the listing, and twice as many each time that they were used up. Who has read on so
in one folder is taken at his word in the next, with the first file. Pure: it says how many, others fetch.
"""

from collections import OrderedDict

SMALL_BYTES = 64 * 1024
"""What counts as small. Of what is larger `Readahead` fetches ahead."""
STEP_BYTES = 4 * 1024 * 1024
"""What is fetched ahead at one time, at most."""
FIRST_READ = 3
FIRST_FILES = 32
MOST_FILES = 1024
USED_FILES = 8
"""Who has read as many in a folder reads on in the next."""
_MAX_FOLDERS = 64


class _Folder:
    __slots__ = ("left", "read", "window")

    def __init__(self, read: int) -> None:
        self.read = read
        self.left = 0
        self.window = 0


class Siblings:
    """The plan of one mount. Folders are told apart by their paths."""

    def __init__(self) -> None:
        self._folders: OrderedDict[str, _Folder] = OrderedDict()

    def __bool__(self) -> bool:
        """Tell whether anybody had to wait for a small file: nothing else is of interest before."""
        return bool(self._folders)

    def read(self, folder: str, *, here: bool) -> int:
        """Note that a small file of ``folder`` is read; return how many files after it to fetch now, mostly none.

        ``here`` tells that its bytes were; only who had to wait for some is helped by having more fetched.
        """
        known = self._folders.get(folder)
        if known is None:
            if here:
                return 0
            known = self._begin(folder)
        self._folders.move_to_end(folder)
        known.read += 1
        known.left -= 1
        if known.read < FIRST_READ or (here and (not known.window or known.left > known.window // 2)):
            return 0
        known.window = min(2 * known.window or FIRST_FILES, MOST_FILES)
        known.left = known.window
        return known.window

    def _begin(self, folder: str) -> _Folder:
        last = next(reversed(self._folders.values()), None)
        reads_on = last is not None and last.window and last.read >= USED_FILES
        begun = self._folders[folder] = _Folder(FIRST_READ - 1 if reads_on else 0)
        if len(self._folders) > _MAX_FOLDERS:
            self._folders.popitem(last=False)
        return begun
