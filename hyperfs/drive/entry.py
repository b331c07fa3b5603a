"""One path as a snapshot shows it.

The rule: an entry is a value, small, and holds its Stat as the bytes of the trie; decoding waits until somebody asks.
"""

from __future__ import annotations

import stat as st
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hyperfs.drive.stat import DEFAULT_DIRECTORY_MODE, MountTarget, Stat, decode_stat
from hyperfs.errors import EncodingError

if TYPE_CHECKING:
    from hyperfs.drive.snapshot import Snapshot


@dataclass(slots=True)
class Entry:
    """A file, directory or link of a drive. Never changed, as `Stat`.

    ``path`` is where it is in the snapshot that was asked, ``inner_path`` where it is in ``volume``, the snapshot of
    the drive that holds its node (another one than was asked when it lies in a mounted drive). ``seq`` is the block of
    its node; of an ``implied`` directory, which has no node, that of the newest node below it (0: none). ``value`` is
    that node's encoded Stat. ``mount`` is the drive mounted here, if one is. ``core_size`` is the size in bytes of the
    bare core mounted here, if one is. ``mode`` is the mode of its node, None when that holds no Stat.
    """

    path: str
    inner_path: str
    seq: int
    volume: Snapshot = field(repr=False, compare=False)
    value: bytes | None = field(repr=False)
    implied: bool = False
    mount: MountTarget | None = None
    core_size: int | None = None
    mode: int | None = None

    @property
    def name(self) -> str:
        """The last part of the path; empty for the root."""
        return self.path.rpartition("/")[2]

    @property
    def is_directory(self) -> bool:
        """Whether entries can be below it."""
        return self.implied or self.mount is not None or (self.mode is not None and st.S_ISDIR(self.mode))

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return not self.is_directory and self.mode is not None and st.S_ISLNK(self.mode)

    @property
    def drive_root(self) -> str:
        """The path of the root of the drive that holds its node: empty, but in a mounted drive."""
        return self.path[: len(self.path) - len(self.inner_path)].rstrip("/")

    @property
    def stat(self) -> Stat:
        """What the drive says about it, decoded anew each time.

        An implied directory has mode 0755 and the owner and times of the newest node below it. Raises
        `EncodingError` when the node holds no Stat.
        """
        if self.implied:
            return implied_stat(self.value)
        stat = decode_stat(self.value)
        if self.mount is not None and not stat.is_directory:
            return replace(stat, mode=st.S_IFDIR | (stat.mode & 0o7777))
        if self.core_size is not None and self.core_size != stat.size:
            return replace(stat, size=self.core_size)
        return stat


def implied_stat(newest_below: bytes | None) -> Stat:
    """Return the Stat made up for a directory that only paths imply, from the Stat of the newest node below it."""
    try:
        newest = decode_stat(newest_below)
    except EncodingError:
        return Stat(DEFAULT_DIRECTORY_MODE)
    return Stat(DEFAULT_DIRECTORY_MODE, newest.uid, newest.gid, mtime=newest.mtime, ctime=newest.ctime)
