"""One file, directory or link that is staged, open, or on the way to one that is.

The rule: a node stands in two places: where it is now (``parent``, ``name``) and where the drive's version below has
it (``base``). Either may be missing: what is new has no base, what was unlinked has no place. As places are links to
parents, renaming a directory moves everything in it without touching it.
"""

import stat as st
from dataclasses import replace
from enum import Enum, auto
from typing import NamedTuple, Protocol

from hyperfs.drive.entry import Entry
from hyperfs.drive.stat import MountTarget, Stat
from hyperfs.errors import EncodingError
from hyperfs.mount.staging.extents import Content

MILLISECOND_NS = 1_000_000
MTIME_ATTRIBUTE = "hyperfs.mtime_ns"
"""An extended attribute of hyperfs's own: the nanoseconds of a time that a program set, past its millisecond."""

Place = tuple[int, str]
"""The number of a directory, and a name in it."""


class Renaming(Enum):
    """What a rename does with what has the new name."""

    REPLACE = auto()
    NO_REPLACE = auto()
    EXCHANGE = auto()


class Attributes(NamedTuple):
    """What stat(2) tells. Times in nanoseconds, ``size`` in bytes."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    ctime: int
    links: int


class Node:
    """A staged file, directory or link. Owned by the `Workspace`, which alone changes it."""

    __slots__ = (
        "attributes",
        "base",
        "children",
        "content",
        "ctime",
        "generation",
        "gid",
        "hidden",
        "implied",
        "linkname",
        "mode",
        "mount",
        "mtime",
        "name",
        "number",
        "parent",
        "stat",
        "uid",
        "within",
    )

    def __init__(self, number: int, place: Place | None, stat: Stat, *, base: Place | None, implied: bool) -> None:
        self.number = number
        self.parent = place[0] if place is not None else None
        self.name = place[1] if place is not None else ""
        self.base = base
        self.implied = implied
        self.generation = 0
        self.content: Content | None = None
        self.children: dict[str, int] = {}
        """Of a directory: what is in it now and was not in its base under that name."""
        self.hidden: dict[str, int] = {}
        """Of a directory: the names of its base that are not there any more, or are something else; which node it was.
        """
        self.within = 0
        """Of a directory: how many nodes are in it, now or in the version below, one that is both counting twice."""
        self.adopt(stat)

    def adopt(self, stat: Stat) -> None:
        """Take over what the drive says. ``stat`` stays what its version below has."""
        self.stat = stat
        self.mode = stat.mode
        self.uid = stat.uid
        self.gid = stat.gid
        self.mtime = mtime_of(stat)
        self.ctime = stat.ctime * MILLISECOND_NS
        self.linkname = stat.linkname
        self.mount: MountTarget | None = stat.mount
        self.attributes: dict[str, bytes | None] = dict(stat.attributes)

    @property
    def place(self) -> Place | None:
        """Where it is now; None when it was unlinked."""
        return None if self.parent is None else (self.parent, self.name)

    @property
    def is_displaced(self) -> bool:
        """Whether the version below has it where it is not any more."""
        return self.base is not None and self.base != self.place

    @property
    def is_directory(self) -> bool:
        """Whether entries can be below it."""
        return st.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return st.S_ISREG(self.mode)

    @property
    def size(self) -> int:
        """st_size."""
        if self.content is not None:
            return self.content.size
        if self.linkname is not None and st.S_ISLNK(self.mode):
            return len(self.linkname.encode(errors="surrogateescape"))
        return self.stat.size

    def attributes_now(self) -> Attributes:
        """Return what stat(2) tells."""
        links = 0 if self.parent is None and self.name else 1  # the root has no name
        return Attributes(self.mode, self.uid, self.gid, self.size, self.mtime, self.ctime, links)

    def stat_now(self) -> Stat:
        """Return its `Stat` with the content of the version below; whoever commits other content replaces that."""
        attributes = self.attributes
        remainder = self.mtime % MILLISECOND_NS
        if remainder:
            attributes = {**attributes, MTIME_ATTRIBUTE: remainder.to_bytes(3, "big")}
        elif attributes.get(MTIME_ATTRIBUTE) is not None:
            attributes = {name: value for name, value in attributes.items() if name != MTIME_ATTRIBUTE}
        return replace(
            self.stat,
            mode=self.mode,
            uid=self.uid,
            gid=self.gid,
            mtime=max(0, self.mtime // MILLISECOND_NS),
            ctime=max(0, self.ctime // MILLISECOND_NS),
            linkname=self.linkname,
            attributes=attributes,
        )


class Watcher(Protocol):
    """A commit that is under way."""

    def changing(self, node: Node) -> None:
        """Hear that a node is about to be changed."""
        ...

    def leaving(self, node: Node) -> None:
        """Hear that a node is about to leave its place."""
        ...


def mtime_of(stat: Stat) -> int:
    """Return when a file was changed, in nanoseconds."""
    remainder = stat.attributes.get(MTIME_ATTRIBUTE)
    if remainder is None or len(remainder) != 3:
        return stat.mtime * MILLISECOND_NS
    return stat.mtime * MILLISECOND_NS + min(int.from_bytes(remainder, "big"), MILLISECOND_NS - 1)


def attributes_of(stat: Stat) -> Attributes:
    """Return what stat(2) tells of what is in the drive and not staged."""
    size = stat.size
    if stat.linkname is not None and stat.is_link:
        size = len(stat.linkname.encode(errors="surrogateescape"))
    return Attributes(stat.mode, stat.uid, stat.gid, size, mtime_of(stat), stat.ctime * MILLISECOND_NS, 1)


def stat_of(entry: Entry) -> Stat:
    """Return an entry's `Stat`, or what stands for one where the node holds none."""
    try:
        return entry.stat
    except EncodingError:
        return Stat(st.S_IFREG)
