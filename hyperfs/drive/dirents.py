"""The names in a directory as the trie has them, and those of listed directories, kept.

The rule: an entry here is a small value; what is decoded of its node is what a listing needs.
"""

from collections import OrderedDict
from typing import NamedTuple

from hyperfs.drive import names
from hyperfs.drive.stat import DEFAULT_DIRECTORY_MODE, decode_stat
from hyperfs.errors import EncodingError
from hyperfs.trie import Node

MAX_CACHED_DIRENTS = 32_768
_LONG_DIRECTORY = 512
_MOUNT_FIELD = b"\x5a"
"""The tag byte of ``Stat.mount``: a value without it has no mount, so that most need no decoding."""


class Dirent(NamedTuple):
    """One child in a directory, as the trie has it; ``value`` is its node's, or the newest node's below it.

    ``mode`` is None when its node holds no Stat.
    """

    name: str
    seq: int
    implied: bool
    value: bytes | None
    mode: int | None

    @property
    def may_be_core(self) -> bool:
        """Whether a bare core may be mounted there; only decoding tells for sure."""
        return self.value is not None and _MOUNT_FIELD in self.value and not self.implied


def dirent_of(name: str, newest: Node, own: Node | None) -> Dirent:
    """Return the child of which ``newest`` is the newest node at or below it and ``own`` its own, if it has one."""
    if own is None:
        return Dirent(name, newest.seq, True, newest.value, DEFAULT_DIRECTORY_MODE)
    try:
        mode: int | None = decode_stat(own.value).mode
    except EncodingError:
        mode = None
    return Dirent(name, own.seq, False, own.value, mode)


def why_left_out(dirent: Dirent, directory: str) -> str | None:
    """Return what keeps a child out of the listing of ``directory``, or None."""
    reason = names.why_not_presentable(dirent.name)
    if reason is None and dirent.mode is None:
        return "its node holds no Stat"
    if reason is None and len(directory) > _LONG_DIRECTORY and names.is_too_long(names.join(directory, dirent.name)):
        return f"its path is longer than {names.MAX_PATH_BYTES} bytes"
    return reason


class DirectoryCache:
    """The dirents of listed directories, least recently used ones dropped beyond `MAX_CACHED_DIRENTS` dirents in all.

    A directory is the same in every version in which the newest node below it is the same, so that is the key.
    """

    def __init__(self) -> None:
        self._dirents: OrderedDict[tuple[bytes, str, int], tuple[Dirent, ...]] = OrderedDict()
        self._count = 0

    def get(self, key: bytes, path: str, newest_seq: int) -> tuple[Dirent, ...] | None:
        """Return the dirents of a directory, or None."""
        dirents = self._dirents.get((key, path, newest_seq))
        if dirents is not None:
            self._dirents.move_to_end((key, path, newest_seq))
        return dirents

    def put(self, key: bytes, path: str, newest_seq: int, dirents: tuple[Dirent, ...]) -> None:
        """Remember the dirents of a directory, unless they alone exceed the bound."""
        if len(dirents) > MAX_CACHED_DIRENTS or (key, path, newest_seq) in self._dirents:
            return
        self._dirents[key, path, newest_seq] = dirents
        self._count += len(dirents)
        while self._count > MAX_CACHED_DIRENTS:
            self._count -= len(self._dirents.popitem(last=False)[1])
