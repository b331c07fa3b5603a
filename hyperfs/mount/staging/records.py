"""What a journal says: a dataclass for each kind of record, its form on the disk, and how its change is made again.

The rules: a record names paths, as they were when it was written, and holds all that the change needs. A form never
changes its meaning: what has to be said differently is another kind. What is read is checked field by field, so that
nothing unexpected gets further than `decode`. What one cannot do any more raises `PathError`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, Self

import msgpack

from hyperfs.core.reader import Run
from hyperfs.drive.snapshot import OpenFile
from hyperfs.errors import EncodingError, PathError
from hyperfs.mount.staging.nodes import Node, Renaming

if TYPE_CHECKING:
    from hyperfs.mount.staging.workspace import Workspace

Fields = list[object]
"""What msgpack keeps of one record behind its kind and its time."""

_MAX_NUMBER = (1 << 64) - 1
_PACKER = msgpack.Packer(use_bin_type=True, unicode_errors="surrogateescape")


class Record(Protocol):
    """One change. ``kind`` says on the disk which it is."""

    kind: ClassVar[str]

    def fields(self) -> Fields:
        """Return its form on the disk."""
        ...

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """Return the record that `fields` was called of. Raises ValueError for anything else."""
        ...

    async def replay(self, workspace: Workspace) -> None:
        """Make the change. Raises `PathError` when the drive does not allow it, and what reading the drive raises."""
        ...


class Place(NamedTuple):
    """Bytes ``start`` to ``end`` of a file lie from byte ``place`` of a segment on."""

    start: int
    end: int
    segment: int
    place: int


@dataclass(frozen=True, slots=True)
class Made:
    """A file, directory, link, FIFO or socket was made. ``mode`` tells which, as stat(2) does."""

    kind: ClassVar[str] = "n"
    path: str
    mode: int
    uid: int
    gid: int
    linkname: str | None

    def fields(self) -> Fields:
        """See `Record.fields`."""
        return [self.path, self.mode, self.uid, self.gid, self.linkname]

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        path, mode, uid, gid, linkname = fields
        return cls(
            _text(path), _number(mode), _number(uid), _number(gid), None if linkname is None else _text(linkname)
        )

    async def replay(self, workspace: Workspace) -> None:
        """Make it, instead of what the drive may have there."""
        parent, name = await _place_of(workspace, self.path)
        there = await workspace.find(parent, name)
        if there is not None and not there.is_directory:
            await workspace.names.unlink(parent, name)
        await workspace.names.make(parent, name, self.mode, uid=self.uid, gid=self.gid, linkname=self.linkname)


@dataclass(frozen=True, slots=True)
class Removed:
    """Something was unlinked, or an empty directory removed."""

    kind: ClassVar[str] = "u"
    path: str

    def fields(self) -> Fields:
        """See `Record.fields`."""
        return [self.path]

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        (path,) = fields
        return cls(_text(path))

    async def replay(self, workspace: Workspace) -> None:
        """Remove what is there."""
        parent, name = await _place_of(workspace, self.path)
        found = await workspace.find(parent, name)
        if found is not None and found.is_directory:
            await workspace.names.remove_directory(parent, name)
        else:
            await workspace.names.unlink(parent, name)


@dataclass(frozen=True, slots=True)
class Renamed:
    """What was at ``old`` is at ``new``, and what was there is gone."""

    kind: ClassVar[str] = "r"
    old: str
    new: str

    def fields(self) -> Fields:
        """See `Record.fields`."""
        return [self.old, self.new]

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        old, new = fields
        return cls(_text(old), _text(new))

    async def replay(self, workspace: Workspace) -> None:
        """Rename it."""
        old, new = await _place_of(workspace, self.old), await _place_of(workspace, self.new)
        await workspace.names.rename(*old, *new, Renaming.REPLACE)


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What was at ``old`` and what was at ``new`` are each where the other was."""

    kind: ClassVar[str] = "x"
    old: str
    new: str

    def fields(self) -> Fields:
        """See `Record.fields`."""
        return [self.old, self.new]

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        old, new = fields
        return cls(_text(old), _text(new))

    async def replay(self, workspace: Workspace) -> None:
        """Exchange them."""
        old, new = await _place_of(workspace, self.old), await _place_of(workspace, self.new)
        await workspace.names.rename(*old, *new, Renaming.EXCHANGE)


@dataclass(frozen=True, slots=True)
class AttributesSet:
    """The permissions, the owner or the time (in ns) of something were set; all of them are told."""

    kind: ClassVar[str] = "a"
    path: str
    mode: int
    uid: int
    gid: int
    mtime: int

    def fields(self) -> Fields:
        """See `Record.fields`."""
        return [self.path, self.mode, self.uid, self.gid, self.mtime]

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        path, mode, uid, gid, mtime = fields
        return cls(_text(path), _number(mode), _number(uid), _number(gid), _number(mtime))

    async def replay(self, workspace: Workspace) -> None:
        """Set them."""
        number = await _number_of(workspace, self.path)
        await workspace.set_attributes(number, mode=self.mode, uid=self.uid, gid=self.gid, mtime=self.mtime)


@dataclass(frozen=True, slots=True)
class UserAttributeSet:
    """An extended attribute, by its name in the drive, was set, or with None removed."""

    kind: ClassVar[str] = "m"
    path: str
    name: str
    value: bytes | None

    def fields(self) -> Fields:
        """See `Record.fields`."""
        return [self.path, self.name, self.value]

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        path, name, value = fields
        return cls(_text(path), _text(name), _bytes_or_none(value))

    async def replay(self, workspace: Workspace) -> None:
        """Set or remove it."""
        await workspace.set_user_attribute(await _number_of(workspace, self.path), self.name, self.value)


@dataclass(frozen=True, slots=True)
class Written:
    """A file's content: its ``size``, and what was written to it since the last record of it.

    ``limit`` bytes of it are those of the drive's ``base`` where nothing was written; ``low`` is the smallest size that
    it had meanwhile. ``mtime`` is in ns.
    """

    kind: ClassVar[str] = "c"
    path: str
    size: int
    limit: int
    low: int
    base: Run | None
    places: list[Place]
    mtime: int

    def fields(self) -> Fields:
        """See `Record.fields`."""
        base = self.base
        run = None if base is None else [base.blocks.start, len(base.blocks), base.byte_offset, base.size]
        return [self.path, self.size, self.limit, self.low, run, [list(place) for place in self.places], self.mtime]

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        path, size, limit, low, base, places, mtime = fields
        run = None
        if base is not None:
            offset, blocks, byte_offset, run_size = map(_number, _list(base))
            run = Run(range(offset, offset + blocks), byte_offset, run_size)
        found = [Place(*map(_number, _list(place))) for place in _list(places)]
        if any(place.start >= place.end for place in found):
            raise ValueError("a range that ends before it begins")
        return cls(_text(path), _number(size), _number(limit), _number(low), run, found, _number(mtime))

    async def replay(self, workspace: Workspace) -> None:
        """Have the file's content be what it was."""
        node = await workspace.tree.touch(await _number_of(workspace, self.path))
        if not node.is_file:
            raise PathError(errno.EISDIR, self.path, "it is not a file")
        await workspace.tree.content_of(node)
        below = None
        if self.base is not None:
            below = OpenFile(await workspace.tree.snapshot.volume.content(), self.base)
        workspace.restore_content(node, below, self)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """All of something that a commit left out, but its content: the first record of it in a journal that begins then.

    ``attributes`` are the extended ones that were set, or with None removed.
    """

    kind: ClassVar[str] = "s"
    path: str
    mode: int
    uid: int
    gid: int
    linkname: str | None
    attributes: list[tuple[str, bytes | None]]

    def fields(self) -> Fields:
        """See `Record.fields`."""
        attributes = [list(attribute) for attribute in self.attributes]
        return [self.path, self.mode, self.uid, self.gid, self.linkname, attributes]

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        *made, attributes = fields
        pairs = []
        for attribute in _list(attributes):
            name, value = _list(attribute)
            pairs.append((_text(name), _bytes_or_none(value)))
        node = Made.of_fields(made)
        return cls(node.path, node.mode, node.uid, node.gid, node.linkname, pairs)

    async def replay(self, workspace: Workspace) -> None:
        """Make it if the drive has it not, and give it its attributes."""
        parent, name = await _place_of(workspace, self.path)
        if await workspace.find(parent, name) is None:
            await Made(self.path, self.mode, self.uid, self.gid, self.linkname).replay(workspace)
        number = await _number_of(workspace, self.path)
        there = await workspace.user_attributes(number)
        for attribute, value in self.attributes:
            if there.get(attribute) != value:
                await workspace.set_user_attribute(number, attribute, value)


@dataclass(frozen=True, slots=True)
class CommitSent:
    """What is in the journals up to ``journal`` was sent to be committed behind ``version`` of the drive.

    It stands if the drive says of ``path`` what this says: ``value`` is what was put there, None that it was deleted.
    """

    kind: ClassVar[str] = "p"
    journal: int
    version: int
    path: str
    value: bytes | None

    def fields(self) -> Fields:
        """See `Record.fields`."""
        return [self.journal, self.version, self.path, self.value]

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        journal, version, path, value = fields
        return cls(_number(journal), _number(version), _text(path), _bytes_or_none(value))

    async def replay(self, workspace: Workspace) -> None:
        """Do nothing: what was sent is in the records before, and left alone if it stands."""


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything before is durable. It is said, and made durable, before a segment goes of which it may speak."""

    kind: ClassVar[str] = "k"

    def fields(self) -> Fields:
        """See `Record.fields`."""
        return []

    @classmethod
    def of_fields(cls, fields: Sequence[object]) -> Self:
        """See `Record.of_fields`."""
        () = fields
        return cls()

    async def replay(self, workspace: Workspace) -> None:
        """Do nothing: the frame said it."""


_KINDS: dict[str, type[Record]] = {
    record.kind: record
    for record in (
        Made,
        Removed,
        Renamed,
        Exchanged,
        AttributesSet,
        UserAttributeSet,
        Written,
        LeftOut,
        CommitSent,
        Synced,
    )
}


def encode(record: Record, time: int) -> bytes:
    """Return what a journal keeps of a change that was made at ``time``, in ns."""
    packed: bytes = _PACKER.pack([record.kind, time, *record.fields()])
    return packed


def decode(packed: bytes) -> tuple[Record, int]:
    """Return a change and its time. Raises `EncodingError` for what `encode` never returned."""
    try:
        body = msgpack.unpackb(packed, strict_map_key=False, unicode_errors="surrogateescape")
        kind, time, *fields = _list(body)
        return _KINDS[_text(kind)].of_fields(fields), _number(time)
    except KeyError as error:
        raise EncodingError(f"a record of kind {error}, which this version of hyperfs does not know") from None
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise EncodingError(f"a record that this version of hyperfs does not understand: {error}") from error


async def _place_of(workspace: Workspace, path: str) -> tuple[int, str]:
    above, _, name = path.rpartition("/")
    return await _number_of(workspace, above), name


async def _number_of(workspace: Workspace, path: str) -> int:
    number = workspace.tree.root.number
    for name in path.split("/") if path else ():
        found = await workspace.find(number, name)
        if found is None:
            raise PathError(errno.ENOENT, path, "it is not there")
        node: Node = await workspace.tree.touch_found(found)
        number = node.number
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} instead of a text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= _MAX_NUMBER:
        raise ValueError(f"{value!r:.40} instead of a number")
    return value


def _bytes_or_none(value: object) -> bytes | None:
    if value is not None and not isinstance(value, bytes):
        raise ValueError(f"{type(value).__name__} instead of bytes")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{type(value).__name__} instead of a list")
    return value
