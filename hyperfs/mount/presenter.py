"""What a view answers, in the kernel's words: owner, permissions, times, sizes.

The rule: what the drive says is shown as it is, except where the mount's options say otherwise or no file system could
have it. A directory's st_nlink is 1, as where links are not counted (btrfs): counting would list it.
"""

import stat as st
from collections import OrderedDict

import pyfuse3

from hyperfs.mount.options import MountOptions
from hyperfs.mount.staging.nodes import MILLISECOND_NS
from hyperfs.mount.view import Answer

LATEST_NS = ((1 << 64) - 1) // MILLISECOND_NS * MILLISECOND_NS
"""The last time that 64 bits hold, in the year 2554; a drive may claim a later one."""
_NOBODY = 65534
_NO_ID = 0xFFFF_FFFF
_SECTOR_BYTES = 512
_READ_BYTES = 128 * 1024
_LARGEST = (1 << 63) - 1
_KNOWN_KINDS = frozenset((st.S_IFREG, st.S_IFDIR, st.S_IFLNK, st.S_IFIFO, st.S_IFSOCK, st.S_IFCHR, st.S_IFBLK))
_KEPT_ACCESS_TIMES = 4096


class Presenter:
    """Turns an `Answer` into what the kernel takes. Owns one `EntryAttributes`, filled anew for each."""

    def __init__(self, options: MountOptions) -> None:
        self._uid = options.uid
        self._gid = options.gid
        self._permissions = None if options.umask is None else 0o777 & ~options.umask
        self._access_times: OrderedDict[int, int] = OrderedDict()
        self._attributes = pyfuse3.EntryAttributes()
        self._attributes.st_blksize = _READ_BYTES

    def accessed(self, number: int, time_ns: int) -> None:
        """Show a time of access, which no drive keeps, for as long as it is not one of the oldest set."""
        self._access_times[number] = max(0, time_ns)
        while len(self._access_times) > _KEPT_ACCESS_TIMES:
            self._access_times.popitem(last=False)

    def of(self, answer: Answer) -> pyfuse3.EntryAttributes:
        """Return the kernel's form of an answer. It is valid until this presenter fills the next one."""
        number, (mode, uid, gid, size, mtime, ctime, links), seconds = answer
        filled = self._attributes
        filled.st_ino = number
        filled.entry_timeout = seconds
        if not number:
            return filled
        mode &= 0o177777
        kind = st.S_IFMT(mode)
        if kind not in _KNOWN_KINDS:
            kind = st.S_IFREG
            mode = kind | st.S_IMODE(mode)
        filled.st_mode = mode if self._permissions is None else kind | self._permissions
        if self._uid is not None:
            uid = self._uid
        if self._gid is not None:
            gid = self._gid
        filled.st_uid = _NOBODY if uid == _NO_ID else uid
        filled.st_gid = _NOBODY if gid == _NO_ID else gid
        filled.st_nlink = links
        if size > _LARGEST:
            size = _LARGEST
        filled.st_size = size
        filled.st_blocks = -(-size // _SECTOR_BYTES)
        if mtime > LATEST_NS:
            mtime = LATEST_NS
        filled.st_mtime_ns = mtime
        filled.st_atime_ns = self._access_times.get(number, mtime) if self._access_times else mtime
        filled.st_ctime_ns = ctime if ctime < LATEST_NS else LATEST_NS
        filled.attr_timeout = seconds
        return filled
