"""What it takes to bring a drive up to date with a local folder: looking at both, and changing nothing.

The rules: what could not be imported is told, never dropped in silence, and never deleted from the drive for it. Drives
mounted in the drive are left alone.
"""

import errno
import hashlib
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import islice
from pathlib import Path

import trio

from hyperfs.drive import names
from hyperfs.drive.entry import Entry
from hyperfs.drive.ignoring import Ignoring
from hyperfs.drive.scan import Found, Ignored, Skipped, scan, what_secret
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import Stat, encode_stat, stat_or_none
from hyperfs.errors import BlockNotAvailable, InvalidRun, PathError

_COMPARED_BYTES = 4 * 1024 * 1024
_SCANNED_AT_ONCE = 1000


class Compare(Enum):
    """How it is found out whether a file changed."""

    SIZE_AND_TIME = "size and time"
    CHECKSUM = "checksum"


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import will do: files whose bytes are appended, nodes that are put without any bytes, deletions.

    ``deletions`` are keys as the trie has them. ``skipped`` is what will not be imported, and why; ``ignored`` is how
    many things are left out, and left alone in the drive, because the user says so.
    """

    source: Path
    into: str
    version: int
    files: tuple[Found, ...]
    nodes: tuple[tuple[str, Stat], ...]
    deletions: tuple[str, ...]
    unchanged: int
    skipped: tuple[Skipped, ...]
    with_secrets: bool = False
    ignored: int = 0

    def without_secrets(self) -> "ImportPlan":
        """Return the plan less the files that will be skipped because they hold secrets, as doing it finds out.

        Reads small files: for a worker thread.
        """
        if self.with_secrets:
            return self
        secrets = {found.path: why for found in self.files if (why := what_secret(self.source, found))}
        files = tuple(found for found in self.files if found.path not in secrets)
        return replace(self, files=files, skipped=self.skipped + tuple(map(Skipped, secrets, secrets.values())))

    @property
    def total_bytes(self) -> int:
        """The size of all files to be read."""
        return sum(found.stat.size for found in self.files)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.files or self.nodes or self.deletions)


async def plan_import(
    snapshot: Snapshot,
    source: Path,
    *,
    into: str = "",
    delete: bool = False,
    compare: Compare = Compare.SIZE_AND_TIME,
    excluded: Collection[Path] = (),
    ignore: Sequence[str] = (),
    with_secrets: bool = False,
) -> ImportPlan:
    """Compare the folder ``source`` with directory ``into`` of a drive of ours; change nothing.

    With ``delete``, what is not in the folder is to be deleted. ``excluded`` are directories to leave out: the store.
    Other stores, secret keys and key files that are not sealed are skipped, too, unless ``with_secrets``: who reads the
    drive could write to the drives that they belong to. What the patterns ``ignore`` match, or those in files called
    `.hyperfsignore`, both as in gitignore(5), is left out, and in the drive it is left as it is.

    Raises:
        UsageError: a pattern is none.
        PathError: ``into`` is no path of a drive, or what is put there could not be reached: it is a file, or below
            one, or in a drive that is mounted in this one.
        OSError: ``source`` cannot be listed.
    """
    into = await _directory_to_fill(snapshot, into)
    planner = _Planner(snapshot, source, into)
    await planner.read_drive()
    for path in names.ancestors(names.join(into, ".")):
        planner.keep(path)
    skip = [(status.st_dev, status.st_ino) for status in [path.stat() for path in excluded if path.is_dir()]]
    found = scan(source, excluded=skip, ignoring=Ignoring(ignore), with_secrets=with_secrets)
    async with aclosing(_scanned(found)) as items:
        async for item in items:
            await planner.add(item, compare)
    return planner.plan(delete=delete, with_secrets=with_secrets)


async def _directory_to_fill(snapshot: Snapshot, path: str) -> str:
    """Return ``path`` normalised, if it is a directory of this drive, or can become one. Raises `PathError`."""
    if not names.normalise(path):
        return ""
    path = names.checked(path)
    table = await snapshot.mounts()
    mounted = path if path in table.targets else table.closest(path)
    if mounted is not None:
        raise PathError(errno.EXDEV, path, f"{mounted!r} is another drive, mounted there; import into that one")
    try:
        entry = await snapshot.stat(path)
    except PathError as error:
        if error.errno == errno.ENOENT:
            return path
        raise
    if not entry.is_directory:
        raise PathError(errno.ENOTDIR, path, "it is not a directory, so nothing can be imported into it")
    return path


async def _scanned(items: Iterator[Found | Skipped | Ignored]) -> AsyncGenerator[Found | Skipped | Ignored, None]:
    while True:
        some = await trio.to_thread.run_sync(lambda: list(islice(items, _SCANNED_AT_ONCE)))
        for item in some:
            yield item
        if len(some) < _SCANNED_AT_ONCE:
            return


@dataclass(slots=True)
class _Planner:
    snapshot: Snapshot
    source: Path
    into: str
    files: list[Found] = field(default_factory=list)
    nodes: list[tuple[str, Stat]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    unchanged: int = 0
    ignored: int = 0
    existing: dict[str, tuple[str, bytes | None]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    mounted: set[str] = field(default_factory=set)
    above_mounted: set[str] = field(default_factory=set)

    async def read_drive(self) -> None:
        """Note the nodes that are in the drive, and where other drives are mounted."""
        self.mounted = set((await self.snapshot.mounts()).targets)
        self.above_mounted = {above for mounted in self.mounted for above in names.ancestors(mounted)}
        async for node in self.snapshot.trie.iterate(self.into):
            path = names.normalise(node.key)
            if path != self.into:
                self.existing[path] = (node.key, node.value)

    def keep(self, path: str) -> None:
        """Never delete ``path``."""
        self.existing.pop(path, None)

    async def add(self, item: Found | Skipped | Ignored, compare: Compare) -> None:
        """Decide what to do about one thing in the folder."""
        path = names.join(self.into, item.path)
        if isinstance(item, Ignored):
            self.ignored += 1
            self.kept.add(path)
            return
        if isinstance(item, Skipped):
            self.skipped.append(item)
            self.kept.add(path)
            return
        if names.is_too_long(path):
            self.skipped.append(Skipped(item.path, f"its path there is longer than {names.MAX_PATH_BYTES} bytes"))
            return
        if path in self.mounted or any(above in self.mounted for above in names.ancestors(path)):
            self.skipped.append(Skipped(item.path, "in the drive, another drive is mounted there"))
            return
        new = item.stat
        if not new.is_directory and path in self.above_mounted:
            self.skipped.append(Skipped(item.path, "in the drive, another drive is mounted below it"))
            return
        _, value = self.existing.pop(path, ("", None))
        old = stat_or_none(value)
        if not new.is_directory:
            self.replaced.add(path)
        same_content = await self._same_content(path, item, old, compare) if new.is_file else False
        if new.is_file and (old is None or not same_content):
            self.files.append(item)
        elif old is not None and _same_node(old, new):
            self.unchanged += 1
        elif new.is_file and old is not None:
            self.nodes.append((path, _with_content_of(new, old)))
        else:
            self.nodes.append((path, new))

    async def _same_content(self, path: str, item: Found, old: Stat | None, compare: Compare) -> bool:
        if old is None or not old.has_content or old.size != item.stat.size:
            return False
        if compare is Compare.SIZE_AND_TIME:
            return old.mtime == item.stat.mtime
        local = await trio.to_thread.run_sync(partial(_digest_of_file, self.source / item.path))
        try:
            return local is not None and local == await _digest_of_entry(self.snapshot, path, old)
        except (BlockNotAvailable, InvalidRun):
            return False  # what the drive has lost it gets again

    def plan(self, *, delete: bool, with_secrets: bool) -> ImportPlan:
        """Return the plan."""
        gone = {path: key for path, (key, _) in self.existing.items()}
        deletions = [
            key
            for path, key in gone.items()
            if (delete and self._may_be_deleted(path)) or not self.replaced.isdisjoint(names.ancestors(path))
        ]
        return ImportPlan(
            self.source,
            self.into,
            self.snapshot.version,
            tuple(self.files),
            tuple(self.nodes),
            tuple(deletions),
            self.unchanged,
            tuple(self.skipped),
            with_secrets,
            self.ignored,
        )

    def _may_be_deleted(self, path: str) -> bool:
        return not (path in self.mounted or path in self.kept or self.kept.intersection(names.ancestors(path)))


def _digest_of_file(path: Path) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None


async def _digest_of_entry(snapshot: Snapshot, path: str, stat: Stat) -> bytes:
    file = await snapshot.open(Entry(path, path, 0, snapshot, encode_stat(stat), mode=stat.mode))
    digest = hashlib.blake2b()
    for position in range(0, file.size, _COMPARED_BYTES):
        digest.update(await file.read(position, _COMPARED_BYTES))
    return digest.digest()


def _same_node(old: Stat, new: Stat) -> bool:
    """Tell whether two Stats of equal content are the same but for their times of change."""
    return (old.mode, old.uid, old.gid, old.mtime, old.linkname, old.present_attributes) == (
        new.mode,
        new.uid,
        new.gid,
        new.mtime,
        new.linkname,
        new.present_attributes,
    )


def _with_content_of(new: Stat, old: Stat) -> Stat:
    return replace(new, size=old.size, blocks=old.blocks, offset=old.offset, byte_offset=old.byte_offset)
