"""Copying a drive, or a part of it, into a local folder.

The rules: nothing is written outside of the target (see `folder`). What stands there already, equal in size and time,
is not copied again, so an export that was interrupted goes on where it was. Owners and set-id bits are not taken from a
drive, whose author may be anybody. Links are copied, or followed inside the drive, and never out of it.
"""

import errno
import hashlib
import os
import stat as st
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass, replace

import trio

from hyperfs.drive import folder, names
from hyperfs.drive.entry import Entry
from hyperfs.drive.fetching import Fetcher, is_here
from hyperfs.drive.folder import Part, TargetFolder
from hyperfs.drive.import_plan import Compare
from hyperfs.drive.importer import Progress, ProgressCallback
from hyperfs.drive.links import follow
from hyperfs.drive.scan import Skipped
from hyperfs.drive.snapshot import PIECE_BYTES, OpenFile, Snapshot
from hyperfs.drive.stat import Stat
from hyperfs.errors import BlockNotAvailable, HyperfsError, InvalidRun, NotADrive, PathError, UnknownVersion, short

ENTRIES_AT_ONCE = 256
SMALL_BYTES = 512 * 1024
BATCH_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 64
"""How many small files are open at a time, written and on their way to the disk."""
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export did: files and links written, bytes of them, files that stood there already."""

    files: int
    byte_count: int
    unchanged: int
    skipped: tuple[Skipped, ...]


async def export(
    snapshot: Snapshot,
    target: str | os.PathLike[str],
    *,
    path: str = "",
    compare: Compare = Compare.SIZE_AND_TIME,
    follow_links: bool = False,
    on_progress: ProgressCallback | None = None,
) -> ExportResult:
    """Copy what is below ``path`` (or the file at it) into the folder ``target``, which is made if need be.

    With ``follow_links``, what a symbolic link leads to inside the drive is copied in its place, also for links on the
    way to ``path``. Nothing in the target is deleted. What cannot be written, because something else is in the way, the
    file system does not take it, no peer has it, or the drive names blocks that it does not have, is in the result's
    ``skipped``; so is what only an attribute, the mode or the time of could not be set.

    Raises OSError for what concerns all (no space, no permission for the target itself), `PathError` for ``path``, and
    `BlockNotAvailable` when ``path`` itself cannot be looked at. Cancelled, whatever stands under its name in the
    target is whole; what was written of a large file stays beside it, to go on with.
    """
    path = names.normalise(path)
    start = await (follow(snapshot, path) if follow_links else snapshot.stat(path))
    below = await trio.to_thread.run_sync(TargetFolder, target)
    try:
        run = _Exporting(snapshot, below, compare, on_progress, follow_links=follow_links)
        if start.is_directory:
            await run.tree(start.path)
        else:
            await run.batch("", [_Wanted(names.split(path)[1], start, start.stat)])
        return ExportResult(run.files, run.byte_count, run.unchanged, tuple(run.skipped))
    finally:
        below.close()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be at ``name``: an entry with its Stat, and the content of a small file once it has been read."""

    name: str
    entry: Entry
    stat: Stat
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory to be copied, and where to. ``above`` are the paths of those that it was reached through."""

    path: str
    local: str
    above: tuple[str, ...] = ()


class _Exporting:
    """One export under way."""

    def __init__(
        self,
        snapshot: Snapshot,
        below: TargetFolder,
        compare: Compare,
        on_progress: ProgressCallback | None,
        *,
        follow_links: bool,
    ) -> None:
        self._snapshot = snapshot
        self._below = below
        self._compare = compare
        self._on_progress = on_progress
        self._follow_links = follow_links
        self._seen_files = 0
        self._seen_bytes = 0
        self._fetcher = Fetcher()
        self.files = 0
        self.byte_count = 0
        self.unchanged = 0
        self.skipped: list[Skipped] = []

    async def tree(self, top: str) -> None:
        """Copy everything below ``top``. Directories get their modes and times last, the deepest first."""
        made: list[tuple[str, Stat]] = []
        waiting = [_Directory(top, "")]
        while waiting:
            directory = waiting.pop()
            path = directory.path
            try:
                async with aclosing(_in_batches(self._snapshot.list(path), ENTRIES_AT_ONCE)) as batches:
                    async for entries in batches:
                        waiting += await self._copy_entries(directory, entries, made)
            except (PathError, NotADrive, UnknownVersion) as error:
                if path == top or (isinstance(error, PathError) and error.errno != errno.ELOOP):
                    raise
                self.skipped.append(Skipped(path, f"what is mounted there cannot be exported: {error}"))
            except BlockNotAvailable as error:
                if path == top:
                    raise
                self.skipped.append(Skipped(path, f"what is in it is not known here: {error}"))
        for position in range(len(made), 0, -ENTRIES_AT_ONCE):
            some = made[max(0, position - ENTRIES_AT_ONCE) : position]
            await trio.to_thread.run_sync(self._finish_directories, some[::-1])

    async def _copy_entries(
        self, directory: _Directory, entries: list[Entry], made: list[tuple[str, Stat]]
    ) -> list[_Directory]:
        """Copy some entries of a directory; return the directories among them, once they are made."""
        wanted = [item for entry in entries if (item := await self._wanted(directory, entry)) is not None]
        directories = [item for item in wanted if item.entry.is_directory]
        usable = await trio.to_thread.run_sync(self._make_directories, directory.local, directories)
        made += [(names.join(directory.local, item.name), item.stat) for item in usable]
        await self.batch(directory.local, [item for item in wanted if not item.entry.is_directory])
        above = (*directory.above, directory.path) if self._follow_links else ()
        return [_Directory(item.entry.path, names.join(directory.local, item.name), above) for item in usable]

    async def _wanted(self, directory: _Directory, entry: Entry) -> _Wanted | None:
        """Return what is to be at an entry's name: of a link that is followed, what it leads to. None: it is told."""
        name = entry.name
        if name.startswith(names.PART_PREFIX):
            self.skipped.append(Skipped(entry.path, "its name is one that an export gives to unfinished files"))
            return None
        if self._follow_links and entry.is_link:
            link = entry
            try:
                entry = await follow(self._snapshot, link.path)
            except HyperfsError as error:
                self.skipped.append(Skipped(link.path, f"the symbolic link leads nowhere: {error}"))
                return None
            if entry.is_directory and (entry.path == directory.path or entry.path in directory.above):
                self.skipped.append(Skipped(link.path, "the symbolic link leads to a directory that it is in"))
                return None
            if names.is_too_long(names.join(directory.local, name)):
                self.skipped.append(Skipped(link.path, f"its path is longer than {names.MAX_PATH_BYTES} bytes"))
                return None
        return _Wanted(name, entry, entry.stat)

    async def batch(self, directory: str, wanted: list[_Wanted]) -> None:
        """Copy files and links into one local directory."""
        self._seen_files += len(wanted)
        self._seen_bytes += sum(item.stat.size for item in wanted)
        missing = await trio.to_thread.run_sync(self._survey, directory, wanted)
        small: list[_Wanted] = []
        size = 0
        for item in missing:
            if item.stat.is_file and item.stat.size > SMALL_BYTES:
                await self._large(directory, item)
                continue
            small.append(item)
            size += item.stat.size
            if size >= BATCH_BYTES:
                await self._small(directory, small)
                small, size = [], 0
        await self._small(directory, small)

    async def _small(self, directory: str, items: list[_Wanted]) -> None:
        if not items:
            return
        opened: list[tuple[_Wanted, OpenFile]] = []
        for item in items:
            if item.stat.is_file:
                file = await self._open(item)
                if file is not None:
                    opened.append((item, file))
        why_not = await self._fetcher.bring([file for _, file in opened])
        filled = [item for item in items if not item.stat.is_file]
        for item, file in opened:
            try:
                if why_not is not None and not is_here(file):
                    raise BlockNotAvailable(f"not all of it is here: {why_not}")
                filled.append(replace(item, content=await file.read(0, file.size)))
            except (InvalidRun, BlockNotAvailable) as error:
                self._skip(item.entry.path, error)
        if self._compare is Compare.CHECKSUM:
            filled = await trio.to_thread.run_sync(self._unequal, directory, filled)
        for start in range(0, len(filled), PARTS_AT_ONCE):
            await trio.to_thread.run_sync(self._write_small, directory, filled[start : start + PARTS_AT_ONCE])
        self._tell()

    async def _large(self, directory: str, item: _Wanted) -> None:
        file = await self._open(item)
        if file is None:
            return
        try:
            if self._fetcher.in_vain and (why_not := await self._fetcher.bring([file])) is not None:
                raise why_not
            await self._copy_large(directory, item, file)
        except BlockNotAvailable as error:
            self._fetcher.in_vain = True
            self._skip(item.entry.path, error)
        self._tell()

    async def _copy_large(self, directory: str, item: _Wanted, file: OpenFile) -> None:
        """Copy one file, of which a part may stand there already. Raises `BlockNotAvailable`; the part stays."""
        if self._compare is Compare.CHECKSUM and await self._equal_large(directory, item, file):
            await trio.to_thread.run_sync(self._keep, directory, item)
            return
        entry, stat = item.entry, item.stat
        identity = entry.volume.key + entry.seq.to_bytes(8, "big") + stat.size.to_bytes(8, "big")
        try:
            part = await trio.to_thread.run_sync(self._open_part, directory, item.name, identity)
        except OSError as error:
            self._skip(entry.path, error)
            return
        try:

            async def write(data: bytes) -> None:
                await trio.to_thread.run_sync(part.write, data)
                self.byte_count += len(data)
                self._tell()

            start = await self._equal_start(part, file)
            await trio.to_thread.run_sync(part.go_on_from, start)
            await file.copy_to(write, start=start)
            await trio.to_thread.run_sync(self._finish_part, directory, part, item)
        except InvalidRun as error:
            self._skip(entry.path, error)
            await trio.to_thread.run_sync(self._drop_part, directory, part)
        finally:
            part.close()

    async def _equal_start(self, part: Part, file: OpenFile) -> int:
        """Return how much of a file its part holds: after a power cut its bytes need not be what was written."""
        size = min(await trio.to_thread.run_sync(lambda: part.size), file.size)
        position = 0
        while position < size:
            data = await file.read(position, min(PIECE_BYTES, size - position))
            if not await trio.to_thread.run_sync(part.holds, position, data):
                break
            position += len(data)
        return position

    async def _open(self, item: _Wanted) -> OpenFile | None:
        """Return what reads a file; skip it when it names blocks past the end: one lie must not hold up all the rest.

        Of a content core of which nothing is known yet, the end is not known either.
        """
        try:
            file = await self._snapshot.open(item.entry)
            length = await self._fetcher.length_of(file)
        except HyperfsError as error:
            self._skip(item.entry.path, error)
            return None
        if file.run.blocks.stop <= length or not length:
            return file
        last = file.run.blocks.stop - 1
        reason = f"its last block is {last}, where core {short(file.core.key)} has {length} blocks"
        self.skipped.append(Skipped(item.entry.path, reason))
        return None

    async def _equal_large(self, directory: str, item: _Wanted, file: OpenFile) -> bool:
        local = await trio.to_thread.run_sync(self._digest, directory, item)
        if local is None:
            return False
        digest = hashlib.blake2b()

        async def update(data: bytes) -> None:
            await trio.to_thread.run_sync(digest.update, data)

        await file.copy_to(update)
        return digest.digest() == local

    def _make_directories(self, directory: str, items: list[_Wanted]) -> list[_Wanted]:
        usable = []
        for item in items:
            try:
                with self._below.directory(names.join(directory, item.name), make=True):
                    usable.append(item)
            except (OSError, PathError) as error:
                self._skip(item.entry.path, error)
        return usable

    def _finish_directories(self, made: list[tuple[str, Stat]]) -> None:
        for path, stat in made:
            try:
                with self._below.directory(path) as descriptor:
                    self._tell_unset(path, folder.set_metadata(descriptor, stat))
            except (OSError, PathError) as error:
                self._skip(path, error)

    def _survey(self, directory: str, items: list[_Wanted]) -> list[_Wanted]:
        """Return what has to be written; give what has its content already the rest."""
        missing = []
        with self._below.directory(directory, make=True) as descriptor:
            for item in items:
                try:
                    if not (item.stat.is_file or item.stat.is_link):
                        self.skipped.append(Skipped(item.entry.path, "it is a device, a FIFO or a socket"))
                    elif self._stands(descriptor, item):
                        self.unchanged += 1
                    else:
                        missing.append(item)
                except (OSError, PathError) as error:
                    self._skip(item.entry.path, error)
        return missing

    def _stands(self, descriptor: int, item: _Wanted) -> bool:
        name, stat = item.name, item.stat
        status = folder.status_of(descriptor, name)
        if status is None or st.S_IFMT(status.st_mode) != st.S_IFMT(stat.mode):
            return False
        if stat.is_link:
            return folder.link_target(descriptor, name) == stat.linkname
        same = status.st_size == stat.size and status.st_mtime_ns // 1_000_000 == stat.mtime
        if not same or self._compare is Compare.CHECKSUM:
            return False
        if st.S_IMODE(status.st_mode) != stat.mode & 0o777:
            self._tell_unset(item.entry.path, folder.set_metadata_at(descriptor, name, stat))
        return True

    def _unequal(self, directory: str, items: list[_Wanted]) -> list[_Wanted]:
        """Return the small files whose content is not what stands there; give the others their metadata."""
        unequal = []
        for item in items:
            local = self._digest(directory, item)
            if item.content is None or local is None or local != hashlib.blake2b(item.content).digest():
                unequal.append(item)
                continue
            self._keep(directory, item)
        return unequal

    def _keep(self, directory: str, item: _Wanted) -> None:
        """Give a file whose content stands there already its metadata."""
        try:
            with self._below.directory(directory) as descriptor:
                self._tell_unset(item.entry.path, folder.set_metadata_at(descriptor, item.name, item.stat))
        except OSError as error:
            self._skip(item.entry.path, error)
        else:
            self.unchanged += 1

    def _digest(self, directory: str, item: _Wanted) -> bytes | None:
        """Return the digest of the file that stands where ``item`` goes, or None when there is none of its size."""
        try:
            with self._below.directory(directory) as descriptor:
                status = folder.status_of(descriptor, item.name)
                if status is None or not st.S_ISREG(status.st_mode) or status.st_size != item.stat.size:
                    return None
                return folder.digest_at(descriptor, item.name)
        except OSError:
            return None

    def _write_small(self, directory: str, items: list[_Wanted]) -> None:
        """Write small files and links: all files are on their way to the disk before the first is waited for."""
        with self._below.directory(directory, make=True) as descriptor, ExitStack() as parts:
            written: list[tuple[_Wanted, Part | None]] = []
            for item in items:
                part = None
                try:
                    if item.content is not None:
                        part = Part(descriptor, item.name)
                        parts.callback(part.close)
                        part.go_on_from(0)
                        part.write(item.content)
                        part.begin_writeback()
                    written.append((item, part))
                except (OSError, PathError) as error:
                    self._give_up(item, part, descriptor, error)
            for item, part in written:
                try:
                    if part is None:
                        unset = folder.make_link(descriptor, item.name, item.stat.linkname or "", item.stat)
                    else:
                        unset = part.finish(descriptor, item.stat)
                except (OSError, PathError) as error:
                    self._give_up(item, part, descriptor, error)
                else:
                    self.files += 1
                    self.byte_count += len(item.content or b"")
                    self._tell_unset(item.entry.path, unset)

    def _give_up(self, item: _Wanted, part: Part | None, directory: int, error: OSError | PathError) -> None:
        if part is not None:
            with suppress(OSError):
                part.drop(directory)
        self._skip(item.entry.path, error)

    def _open_part(self, directory: str, name: str, identity: bytes) -> Part:
        with self._below.directory(directory, make=True) as descriptor:
            return Part(descriptor, name, identity)

    def _drop_part(self, directory: str, part: Part) -> None:
        with self._below.directory(directory) as descriptor:
            part.drop(descriptor)

    def _finish_part(self, directory: str, part: Part, item: _Wanted) -> None:
        with self._below.directory(directory) as descriptor:
            try:
                unset = part.finish(descriptor, item.stat)
            except (OSError, PathError) as error:
                # What the disk refused once may count as written the next time it is asked: nothing is gone on with.
                self._give_up(item, part, descriptor, error)
            else:
                self.files += 1
                self._tell_unset(item.entry.path, unset)

    def _tell_unset(self, path: str, unset: list[str]) -> None:
        """Tell that only some of what belongs to a file that stands there could not be set."""
        if unset:
            self.skipped.append(Skipped(path, "only its " + ", its ".join(unset)))

    def _skip(self, path: str, error: OSError | HyperfsError) -> None:
        if isinstance(error, OSError) and error.errno in _FATAL:
            raise error
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        self.skipped.append(Skipped(path, reason))

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(
                Progress(self.files + self.unchanged, self._seen_files, self.byte_count, self._seen_bytes)
            )


async def _in_batches(entries: AsyncGenerator[Entry, None], size: int) -> AsyncGenerator[list[Entry], None]:
    async with aclosing(entries):
        batch: list[Entry] = []
        async for entry in entries:
            batch.append(entry)
            if len(batch) == size:
                yield batch
                batch = []
        yield batch
