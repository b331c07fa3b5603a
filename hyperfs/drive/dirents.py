"""The names in a directory as the trie has them, and those of listed directories, kept.

The rule: what is kept is bounded by its bytes, since an author may give a node as many as a block takes.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hyperfs.drive import names
from hyperfs.drive.stat import DEFAULT_DIRECTORY_MODE, stat_or_none
from hyperfs.trie import Node

MAX_CACHED_BYTES = 16 << 20
_DIRENT_BYTES = 340
"""Bytes of a dirent beyond its name and value: the tuple, the objects' headers, its place in a dict."""
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
    def byte_size(self) -> int:
        """How many bytes it takes, as far as they are its own, estimated for CPython."""
        return _DIRENT_BYTES + 2 * len(self.name) + len(self.value or b"")

    @property
    def may_be_core(self) -> bool:
        """Whether a bare core may be mounted there; only decoding tells for sure."""
        return self.value is not None and _MOUNT_FIELD in self.value and not self.implied


def dirent_of(name: str, newest: Node, own: Node | None) -> Dirent:
    """Return the child of which ``newest`` is the newest node at or below it and ``own`` its own, if it has one."""
    if own is None:
        return Dirent(name, newest.seq, True, newest.value, DEFAULT_DIRECTORY_MODE)
    stat = stat_or_none(own.value)
    return Dirent(name, own.seq, False, own.value, None if stat is None else stat.mode)


class LeftOut:
    """What is not shown of a drive: how much, and one example of it."""

    def __init__(self) -> None:
        self.count = 0
        self.example = ""

    def add(self, name: str, reason: str) -> None:
        """Note one more."""
        self.count += 1
        self.example = self.example or f"{names.brief(name)}: {reason}"


def why_left_out(dirent: Dirent, directory: str) -> str | None:
    """Return what keeps a child out of the listing of ``directory``, or None."""
    reason = names.why_not_presentable(dirent.name)
    if reason is None and dirent.mode is None:
        return "its node holds no Stat"
    if reason is None and len(directory) > _LONG_DIRECTORY and names.is_too_long(names.join(directory, dirent.name)):
        return f"its path is longer than {names.MAX_PATH_BYTES} bytes"
    return reason


class DirectoryCache:
    """The dirents of listed directories, least recently used ones dropped beyond `MAX_CACHED_BYTES` in all.

    A directory is the same in every version in which the newest node below it is the same, so that is the key.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, str, int], tuple[dict[str, Dirent], int]] = OrderedDict()
        self._byte_size = 0

    def get(self, key: bytes, path: str, newest_seq: int) -> Mapping[str, Dirent] | None:
        """Return all dirents of a directory, by name and in the trie's order, or None."""
        kept = self._kept.get((key, path, newest_seq))
        if kept is None:
            return None
        self._kept.move_to_end((key, path, newest_seq))
        return kept[0]

    def put(self, key: bytes, path: str, newest_seq: int, gathered: "Gathered") -> None:
        """Remember the dirents of a directory, if all of them were gathered."""
        if gathered.is_too_large or (key, path, newest_seq) in self._kept:
            return
        byte_size = gathered.byte_size + _DIRENT_BYTES + 2 * len(path)
        self._kept[key, path, newest_seq] = ({dirent.name: dirent for dirent in gathered.dirents}, byte_size)
        self._byte_size += byte_size
        while self._byte_size > MAX_CACHED_BYTES:
            self._byte_size -= self._kept.popitem(last=False)[1][1]


class Gathered:
    """The dirents of a directory that is being listed, to be kept unless they alone take more than a cache may."""

    def __init__(self) -> None:
        self.dirents: list[Dirent] = []
        self.byte_size = 0

    @property
    def is_too_large(self) -> bool:
        """Whether they are given up."""
        return self.byte_size > MAX_CACHED_BYTES

    def add(self, batch: Sequence[Dirent]) -> None:
        """Gather some more."""
        if self.is_too_large:
            return
        self.byte_size += sum(dirent.byte_size for dirent in batch)
        self.dirents += batch
        if self.is_too_large:
            self.dirents.clear()
