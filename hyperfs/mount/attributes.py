"""What the kernel is told of an entry: owner, permissions, times, sizes, and for how long it may believe it.

The rule: what the drive says is shown as it is, except where the mount's options say otherwise or no file system could
have it. A directory's st_nlink is 1, as where links are not counted (btrfs): counting would list it.
"""

import stat as st

import pyfuse3

from hyperfs.drive.entry import Entry
from hyperfs.drive.stat import Stat
from hyperfs.mount.options import MountOptions
from hyperfs.mount.staging.nodes import MILLISECOND_NS, Attributes, mtime_of

FOREVER_SECONDS = 10.0 * 365 * 86400
LIVE_SECONDS = 3600.0
"""How long the kernel may keep what a live drive says; it is told of changes, so this is for the worst case."""
CORE_SECONDS = 1.0
"""The same for a bare core that is mounted as a file: it grows without any version of the drive telling."""
_NOBODY = 65534
_NO_ID = 0xFFFF_FFFF
_SECTOR_BYTES = 512
_READ_BYTES = 128 * 1024
LATEST_NS = ((1 << 64) - 1) // MILLISECOND_NS * MILLISECOND_NS
"""The last time that 64 bits hold, in the year 2554; a drive may claim a later one."""
_LARGEST = (1 << 63) - 1
_KNOWN_KINDS = frozenset((st.S_IFREG, st.S_IFDIR, st.S_IFLNK, st.S_IFIFO, st.S_IFSOCK, st.S_IFCHR, st.S_IFBLK))


def kind_of(mode: int) -> int:
    """Return the file type of a mode as the small number that `InodeTable` keeps."""
    return st.S_IFMT(mode) >> 12


def content_of(entry: Entry, stat: Stat) -> int:
    """Return a number, not 0, that differs where two versions of a file hold different bytes."""
    return content_number(entry.volume.key, stat)


def content_number(key: bytes, stat: Stat) -> int:
    """Return `content_of` for a file of the drive of ``key``."""
    place = (key, stat.offset, stat.byte_offset, stat.size, stat.mount is None)
    return (hash(place) & 0xFFFF_FFFF_FFFF_FFFF) or 1


def lasting_seconds(entry: Entry) -> float:
    """Return how long the kernel may keep the name and attributes of an entry."""
    if entry.core_size is not None:
        return CORE_SECONDS
    return FOREVER_SECONDS if entry.volume.is_pinned else LIVE_SECONDS


class Presenter:
    """Turns a `Stat` into what the kernel takes. Owns one `EntryAttributes`, filled anew for each answer."""

    def __init__(self, options: MountOptions) -> None:
        self._uid = options.uid
        self._gid = options.gid
        self._permissions = None if options.umask is None else 0o777 & ~options.umask
        self._attributes = pyfuse3.EntryAttributes()
        self._attributes.st_blksize = _READ_BYTES

    def owner_and_mode(self, stat: Stat | Attributes) -> tuple[int, int, int]:
        """Return st_mode, st_uid and st_gid. A file type that does not exist is shown as a regular file."""
        mode = stat.mode & 0o177777
        if st.S_IFMT(mode) not in _KNOWN_KINDS:
            mode = st.S_IFREG | st.S_IMODE(mode)
        if self._permissions is not None:
            mode = st.S_IFMT(mode) | self._permissions
        uid = stat.uid if self._uid is None else self._uid
        gid = stat.gid if self._gid is None else self._gid
        return mode, _NOBODY if uid == _NO_ID else uid, _NOBODY if gid == _NO_ID else gid

    def of_stat(self, number: int, stat: Stat, seconds: float) -> pyfuse3.EntryAttributes:
        """Return the answer for an inode. It is valid until this presenter fills the next one."""
        mode, uid, gid = self.owner_and_mode(stat)
        mtime, ctime = mtime_of(stat), stat.ctime * MILLISECOND_NS
        return self.of_values(number, mode, uid, gid, size_of(stat), mtime, ctime, seconds)

    def of_attributes(self, number: int, attributes: Attributes, seconds: float) -> pyfuse3.EntryAttributes:
        """Return the answer for an inode of a writable mount, as `of_stat` does."""
        mode, uid, gid = self.owner_and_mode(attributes)
        size = min(attributes.size, _LARGEST)
        answer = self.of_values(number, mode, uid, gid, size, attributes.mtime, attributes.ctime, seconds)
        answer.st_nlink = attributes.links
        return answer

    def of_values(
        self, number: int, mode: int, uid: int, gid: int, size: int, mtime: int, ctime: int, seconds: float
    ) -> pyfuse3.EntryAttributes:
        """Return the answer made of what `owner_and_mode` gave, bytes, and times in ns, as `of_stat` does."""
        mtime_ns = min(mtime, LATEST_NS)
        answer = self._attributes
        answer.st_ino = number
        answer.st_mode = mode
        answer.st_uid = uid
        answer.st_gid = gid
        answer.st_nlink = 1
        answer.st_size = size
        answer.st_blocks = -(-size // _SECTOR_BYTES)
        answer.st_mtime_ns = mtime_ns
        answer.st_atime_ns = mtime_ns
        answer.st_ctime_ns = min(ctime, LATEST_NS)
        answer.attr_timeout = seconds
        answer.entry_timeout = seconds
        return answer

    def absent(self, seconds: float) -> pyfuse3.EntryAttributes:
        """Return the answer for a name that is not there, which the kernel may remember for ``seconds``."""
        answer = self._attributes
        answer.st_ino = 0
        answer.entry_timeout = seconds
        return answer


def size_of(stat: Stat) -> int:
    """Return st_size: a link's is the length of its target, whatever the drive says."""
    if stat.linkname is not None and stat.is_link:
        return len(stat.linkname.encode(errors="surrogateescape"))
    return min(stat.size, _LARGEST)
