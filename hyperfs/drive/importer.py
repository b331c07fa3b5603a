"""Bringing a drive up to date with a local folder, as a plan says.

The rules: nothing is appended when nothing changed. A file goes into the drive as it was at one instant, or not at all.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import trio

from hyperfs.core.reader import Run
from hyperfs.drive import names
from hyperfs.drive.batch import Clock, milliseconds_now
from hyperfs.drive.committer import CHUNK_BYTES, PIECE_BYTES, Committer, ContentLease
from hyperfs.drive.drive import Drive
from hyperfs.drive.import_plan import ImportPlan
from hyperfs.drive.keyfile import what_secret_in
from hyperfs.drive.nursery import open_work
from hyperfs.drive.scan import Found, ReadFile, Skipped, read_small
from hyperfs.drive.stat import Stat, encode_stat
from hyperfs.errors import ConflictingLength, HyperfsError, short
from hyperfs.trie import Delete, Operation, Put

OPERATIONS_IN_A_COMMIT = 2048
BYTES_IN_A_COMMIT = 256 * 1024 * 1024
SMALL_BYTES = CHUNK_BYTES
LOAD_BYTES = 4 * 1024 * 1024
LOAD_FILES = 256
_LOADS_UNDER_WAY = 2
_LARGE_ATTEMPTS = 3
_PLANS = 10
"""So often a plan is made anew because somebody else wrote to the drive."""
WIND_UP_SECONDS = 5.0

_log = logging.getLogger(__name__)


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


async def import_folder(
    drive: Drive,
    make_plan: Callable[[], Awaitable[ImportPlan]],
    committer: Committer,
    *,
    on_progress: ProgressCallback | None = None,
) -> ImportResult:
    """Do what a plan for ``drive`` says, and make it anew whenever somebody else wrote to the drive meanwhile.

    Cancelled, it leaves what `run_import` does. Raises `ConflictingLength` when somebody writes to it all the time.
    """
    before: list[ImportResult] = []
    for _ in range(_PLANS):
        run = _Importing(await make_plan(), committer, on_progress, milliseconds_now)
        try:
            await run.carry_out()
        except ConflictingLength as error:
            _log.info("%s; comparing it with the folder again", error)
            before.append(run.result())
            await drive.metadata.wait_longer(run.version)
        else:
            return _total([*before, run.result()])
    raise ConflictingLength(f"others write to drive {short(drive.key)} all the time")


def _total(results: Sequence[ImportResult]) -> ImportResult:
    """Return what several imports did, each of which went on where the one before had ended."""
    last = results[-1]
    done_before = sum(result.files + result.nodes for result in results[:-1])
    return ImportResult(
        last.version,
        sum(result.files for result in results),
        sum(result.byte_count for result in results),
        sum(result.nodes for result in results),
        sum(result.deleted for result in results),
        max(0, last.unchanged - done_before),
        last.skipped,
    )


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
    await run.carry_out()
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
        self.version = plan.version
        """The drive's after the last commit."""
        self._committed_files = self._committed_bytes = self._committed_puts = self._committed_deletions = 0
        self._operations: list[Operation] = []
        self._uncommitted_bytes = 0
        self._skipped = list(plan.skipped)
        self._files = 0
        self._bytes = 0
        self._total_bytes = plan.total_bytes
        self._named_end = 0
        """Behind which block of the content nothing was put, or will be by what waits for a commit."""

    async def carry_out(self) -> None:
        """Do all of it. See `run_import`."""
        plan = self._plan
        if plan.is_empty:
            return
        async with self._committer.content() as lease:
            try:
                for path, stat in plan.nodes:
                    await self.put(path, replace(stat, ctime=self.now))
                if plan.files:
                    await self.append_files(lease)
                for key in plan.deletions:
                    await self.add(Delete(key))
                await self.commit()
            except BaseException:  # whatever ends it, the next import need not do again what is done
                with trio.move_on_after(WIND_UP_SECONDS) as scope:
                    scope.shield = True
                    await self.wind_up(lease)
                raise

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
            self.version = await self._committer.commit(self._operations, expected_version=self.version)
            self._committed_files, self._committed_bytes = self._files, self._bytes
            deletions = sum(isinstance(operation, Delete) for operation in self._operations)
            self._committed_deletions += deletions
            self._committed_puts += len(self._operations) - deletions
            self._operations = []
            self._uncommitted_bytes = 0

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress(self._files, len(self._plan.files), self._bytes, self._total_bytes))

    def result(self) -> ImportResult:
        """Return what has been done, and is committed."""
        return ImportResult(
            self.version,
            self._committed_files,
            self._committed_bytes,
            self._committed_puts - self._committed_files,
            self._committed_deletions,
            self._plan.unchanged,
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
