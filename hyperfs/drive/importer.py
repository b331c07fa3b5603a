"""Bringing a drive up to date with a local folder: first a plan, then the work.

The rules: nothing is appended when nothing changed. A file goes into the drive as it was at one instant, or not at all;
what could not be imported is told, never dropped in silence, and never deleted from the drive for it. Drives mounted in
the drive are left alone.
"""

import errno
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import islice
from pathlib import Path

import trio

from hyperfs.core.reader import Run
from hyperfs.drive import names
from hyperfs.drive.batch import Clock, milliseconds_now
from hyperfs.drive.committer import CHUNK_BYTES, PIECE_BYTES, Committer, ContentLease
from hyperfs.drive.entry import Entry
from hyperfs.drive.keyfile import what_secret_in
from hyperfs.drive.nursery import open_work
from hyperfs.drive.scan import Found, ReadFile, Skipped, read_small, scan, what_secret
from hyperfs.drive.snapshot import Snapshot
from hyperfs.drive.stat import Stat, encode_stat, stat_or_none
from hyperfs.errors import BlockNotAvailable, HyperfsError, InvalidRun, PathError
from hyperfs.trie import Delete, Operation, Put

OPERATIONS_IN_A_COMMIT = 2048
BYTES_IN_A_COMMIT = 256 * 1024 * 1024
SMALL_BYTES = CHUNK_BYTES
LOAD_BYTES = 4 * 1024 * 1024
LOAD_FILES = 256
_LOADS_UNDER_WAY = 2
_SCANNED_AT_ONCE = 1000
_LARGE_ATTEMPTS = 3
WIND_UP_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Compare(Enum):
    """How it is found out whether a file changed."""

    SIZE_AND_TIME = "size and time"
    CHECKSUM = "checksum"


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import will do: files whose bytes are appended, nodes that are put without any bytes, deletions.

    ``deletions`` are keys as the trie has them. ``skipped`` is what will not be imported, and why.
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


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import or export is."""

    files: int
    total_files: int
    byte_count: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did. ``version`` is the drive's after it."""

    version: int
    files: int
    byte_count: int
    nodes: int
    deleted: int
    unchanged: int
    skipped: tuple[Skipped, ...]


ProgressCallback = Callable[[Progress], None]


async def plan_import(
    snapshot: Snapshot,
    source: Path,
    *,
    into: str = "",
    delete: bool = False,
    compare: Compare = Compare.SIZE_AND_TIME,
    excluded: Collection[Path] = (),
    with_secrets: bool = False,
) -> ImportPlan:
    """Compare the folder ``source`` with directory ``into`` of a drive of ours; change nothing.

    With ``delete``, what is not in the folder is to be deleted. ``excluded`` are directories to leave out: the store.
    Other stores, secret keys and key files that are not sealed are skipped, too, unless ``with_secrets``: who reads the
    drive could write to the drives that they belong to.

    Raises:
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
    async with aclosing(_scanned(scan(source, excluded=skip, with_secrets=with_secrets))) as items:
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


async def _scanned(items: Iterator[Found | Skipped]) -> AsyncGenerator[Found | Skipped, None]:
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

    async def add(self, item: Found | Skipped, compare: Compare) -> None:
        """Decide what to do about one thing in the folder."""
        path = names.join(self.into, item.path)
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
        )

    def _may_be_deleted(self, path: str) -> bool:
        return not (path in self.mounted or path in self.kept or self.kept.intersection(names.ancestors(path)))


async def run_import(
    plan: ImportPlan,
    committer: Committer,
    *,
    on_progress: ProgressCallback | None = None,
    clock: Clock = milliseconds_now,
) -> ImportResult:
    """Do what ``plan`` says, in commits of `OPERATIONS_IN_A_COMMIT` nodes or of whole files of `BYTES_IN_A_COMMIT`.

    Cancelled, or interrupted by an error, what was appended is committed, whole files each, for which it takes
    `WIND_UP_SECONDS` at most, and the next import goes on after it; the rest is given back. Only if that fails, as when
    the daemon is gone, bytes appended since the last commit stay in the content core, named by nothing.

    Raises `ConflictingLength` when somebody else wrote to the drive since the plan was made; what was committed stays.
    Like its commits it does not wait for the disk: `Committer.sync` does.
    """
    run = _Importing(plan, committer, on_progress, clock)
    if plan.is_empty:
        return run.result()
    async with committer.content() as lease:
        try:
            for path, stat in plan.nodes:
                await run.put(path, replace(stat, ctime=run.now))
            if plan.files:
                await run.append_files(lease)
            for key in plan.deletions:
                await run.add(Delete(key))
            await run.commit()
        except BaseException:  # whatever ends it, the next import need not do again what is done
            with trio.move_on_after(WIND_UP_SECONDS) as scope:
                scope.shield = True
                await run.wind_up(lease)
            raise
    return run.result()


@dataclass(frozen=True, slots=True)
class _Load:
    """Blocks to be appended at once, and the small files that they are, each with its number of them."""

    blocks: list[bytes]
    files: list[tuple[Found, int]]
    skipped: list[Skipped]


class _Importing:
    """One import under way."""

    def __init__(
        self, plan: ImportPlan, committer: Committer, on_progress: ProgressCallback | None, clock: Clock
    ) -> None:
        self.now = clock()
        self._plan = plan
        self._committer = committer
        self._on_progress = on_progress
        self._version = plan.version
        self._operations: list[Operation] = []
        self._uncommitted_bytes = 0
        self._skipped = list(plan.skipped)
        self._files = 0
        self._bytes = 0
        self._total_bytes = plan.total_bytes
        self._named_end = 0
        """Behind which block of the content nothing was put, or will be by what waits for a commit."""

    async def wind_up(self, lease: ContentLease) -> None:
        """Commit the files that are whole, and give back what is left over of others. Raises nothing of either."""
        try:
            await self.commit()  # again, if it was interrupted in one: at most one of both finds the version it expects
        except (HyperfsError, OSError) as error:
            _log.debug("what was not committed is imported again: %s", error)
        try:
            await lease.give_back(self._named_end)
        except (HyperfsError, OSError) as error:
            _log.debug("what was appended of unfinished files stays, named by nothing: %s", error)

    async def append_files(self, lease: ContentLease) -> None:
        """Append all files: a task reads small ones ahead in worker threads while this one appends."""
        async with open_work() as nursery:
            sender, receiver = trio.open_memory_channel[_Load | Found](_LOADS_UNDER_WAY)
            nursery.start_soon(_read_all, self._plan, sender)
            async with receiver:
                async for item in receiver:
                    if isinstance(item, _Load):
                        await self._take_load(item, await lease.append(item.blocks))
                        self._tell()
                    else:
                        await self._append_large(lease, item)

    async def _take_load(self, load: _Load, run: Run) -> None:
        block, byte_offset = run.blocks.start, run.byte_offset
        for found, count in load.files:
            size = found.stat.size
            await self._put_file(found, range(block, block + count), byte_offset, size)
            block += count
            byte_offset += size
        self._skipped += load.skipped

    async def _append_large(self, lease: ContentLease, found: Found) -> None:
        """Append a file in pieces. If it changes meanwhile it is appended again; what went before is wasted."""
        reason = "it changed each time it was read"
        for _ in range(_LARGE_ATTEMPTS):
            try:
                file = await trio.to_thread.run_sync(ReadFile, self._plan.source, found)
            except OSError as error:
                reason = error.strerror or str(error)
                break
            try:
                run = await self._append_all_of(file, lease)
                if file.failure is None and file.stayed():
                    await self._put_file(file.found, run.blocks, run.byte_offset, run.size)
                    self._tell()
                    return
                if file.failure is not None:
                    reason = file.failure.strerror or str(file.failure)
                    break
            finally:
                file.close()
        self._skipped.append(Skipped(found.path, reason))

    async def _append_all_of(self, file: ReadFile, lease: ContentLease) -> Run:
        file.read_ahead()
        before = self._bytes
        piece = whole = await lease.append_piece(file.read_into)
        while piece.size == PIECE_BYTES:
            self._bytes += piece.size
            self._tell()
            piece = await lease.append_piece(file.read_into)
            blocks = range(whole.blocks.start, piece.blocks.stop)
            whole = Run(blocks, whole.byte_offset, whole.size + piece.size)
        self._bytes = before
        return whole

    async def _put_file(self, found: Found, blocks: range, byte_offset: int, size: int) -> None:
        stat = replace(
            found.stat, size=size, blocks=len(blocks), offset=blocks.start, byte_offset=byte_offset, ctime=self.now
        )
        self._named_end = max(self._named_end, blocks.stop)
        self._files += 1
        self._bytes += size
        self._uncommitted_bytes += size
        await self.put(names.join(self._plan.into, found.path), stat)

    async def put(self, path: str, stat: Stat) -> None:
        """Have a node put."""
        await self.add(Put(path, encode_stat(stat)))

    async def add(self, operation: Operation) -> None:
        """Have an operation done, with the next commit."""
        self._operations.append(operation)
        if len(self._operations) >= OPERATIONS_IN_A_COMMIT or self._uncommitted_bytes >= BYTES_IN_A_COMMIT:
            await self.commit()

    async def commit(self) -> None:
        """Commit what is waiting."""
        if self._operations:
            self._version = await self._committer.commit(self._operations, expected_version=self._version)
            self._operations = []
            self._uncommitted_bytes = 0

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress(self._files, len(self._plan.files), self._bytes, self._total_bytes))

    def result(self) -> ImportResult:
        """Return what was done."""
        plan = self._plan
        return ImportResult(
            self._version,
            self._files,
            self._bytes,
            len(plan.nodes),
            len(plan.deletions),
            plan.unchanged,
            tuple(self._skipped),
        )


async def _read_all(plan: ImportPlan, sender: trio.MemorySendChannel[_Load | Found]) -> None:
    """Read small files in worker threads and send what they hold, many at a time; send large ones as they are."""
    async with sender:
        gathered: list[Found] = []
        size = 0
        for found in plan.files:
            if found.stat.size > SMALL_BYTES:
                await sender.send(found)
                continue
            gathered.append(found)
            size += found.stat.size
            if size >= LOAD_BYTES or len(gathered) == LOAD_FILES:
                await sender.send(await trio.to_thread.run_sync(_load, plan, gathered))
                gathered, size = [], 0
        if gathered:
            await sender.send(await trio.to_thread.run_sync(_load, plan, gathered))


def _load(plan: ImportPlan, files: list[Found]) -> _Load:
    load = _Load([], [], [])
    for found in files:
        contents = read_small(plan.source, found)
        if isinstance(contents, Skipped):
            load.skipped.append(contents)
        elif not plan.with_secrets and contents.blocks and (why := what_secret_in(contents.blocks[0])):
            load.skipped.append(Skipped(found.path, why))
        else:
            load.blocks.extend(contents.blocks)
            load.files.append((contents.found, len(contents.blocks)))
    return load


def _digest_of_file(path: Path) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None


async def _digest_of_entry(snapshot: Snapshot, path: str, stat: Stat) -> bytes:
    file = await snapshot.open(Entry(path, path, 0, snapshot, encode_stat(stat), mode=stat.mode))
    digest = hashlib.blake2b()
    for position in range(0, file.size, LOAD_BYTES):
        digest.update(await file.read(position, LOAD_BYTES))
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
