"""Copying a drive, or a part of it, into a local folder.

The rules: nothing is written outside of the target (see `folder`). What stands there already, equal in size and time,
is not copied again, so an export that was interrupted goes on where it was. Owners and set-id bits are not taken from a
drive, whose author may be anybody.
"""

import errno
import hashlib
import math
import os
import stat as st
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import trio

from hyperfs.core.reader import CoreReader, Priority
from hyperfs.drive import folder, names
from hyperfs.drive.entry import Entry
from hyperfs.drive.folder import TargetFolder
from hyperfs.drive.importer import Compare, Progress, ProgressCallback
from hyperfs.drive.scan import Skipped
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.stat import Stat
from hyperfs.errors import BlockNotAvailable, HyperfsError, InvalidRun, NotADrive, PathError, UnknownVersion, short

ENTRIES_AT_ONCE = 256
SMALL_BYTES = 512 * 1024
BATCH_BYTES = 8 * 1024 * 1024
PIECE_BYTES = 4 * 1024 * 1024
IN_VAIN_SECONDS = 3.0
"""How long to wait for what is missing after a wait that brought nothing, until something comes again."""
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
    on_progress: ProgressCallback | None = None,
) -> ExportResult:
    """Copy what is below ``path`` (or the file at it) into the folder ``target``, which is made if need be.

    Nothing in the target is deleted. What cannot be written, because something else is in the way, the file system does
    not take it, no peer has it, or the drive names blocks that it does not have, is in the result's ``skipped``.
    Raises OSError for what concerns all (no space, no permission for the target itself), `PathError` for ``path``, and
    `BlockNotAvailable` when ``path`` itself cannot be looked at.
    """
    path = names.normalise(path)
    start = await snapshot.stat(path)
    below = await trio.to_thread.run_sync(TargetFolder, target)
    try:
        run = _Exporting(snapshot, below, compare, on_progress)
        if start.is_directory:
            await run.tree(path)
        else:
            await run.batch("", [start])
        return ExportResult(run.files, run.byte_count, run.unchanged, tuple(run.skipped))
    finally:
        below.close()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One entry with its Stat, and the content of a small file once it has been read."""

    entry: Entry
    stat: Stat
    content: bytes | None = None


class _Exporting:
    """One export under way."""

    def __init__(
        self, snapshot: Snapshot, below: TargetFolder, compare: Compare, on_progress: ProgressCallback | None
    ) -> None:
        self._snapshot = snapshot
        self._below = below
        self._compare = compare
        self._on_progress = on_progress
        self._seen_files = 0
        self._seen_bytes = 0
        self._updated: set[bytes] = set()
        self._in_vain = False
        self.files = 0
        self.byte_count = 0
        self.unchanged = 0
        self.skipped: list[Skipped] = []

    async def tree(self, top: str) -> None:
        """Copy everything below ``top``. Directories get their modes and times last, the deepest first."""
        made: list[tuple[str, Stat]] = []
        waiting = [top]
        while waiting:
            path = waiting.pop()
            local = path[len(top) + 1 :] if top else path
            try:
                async with aclosing(_in_batches(self._snapshot.list(path), ENTRIES_AT_ONCE)) as batches:
                    async for entries in batches:
                        waiting += await self._copy_entries(local, entries, made)
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

    async def _copy_entries(self, local: str, entries: list[Entry], made: list[tuple[str, Stat]]) -> list[str]:
        """Copy some entries of a directory; return the paths of the directories among them, once they are made."""
        directories = [entry for entry in entries if entry.is_directory]
        usable = await trio.to_thread.run_sync(self._make_directories, local, directories)
        made += [(names.join(local, entry.name), entry.stat) for entry in usable]
        await self.batch(local, [entry for entry in entries if not entry.is_directory])
        return [entry.path for entry in usable]

    async def batch(self, directory: str, entries: list[Entry]) -> None:
        """Copy files and links of one drive's directory into one local directory."""
        wanted = [_Wanted(entry, entry.stat) for entry in entries]
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
        why_not = await self._bring([file for _, file in opened])
        filled = [item for item in items if not item.stat.is_file]
        for item, file in opened:
            try:
                if why_not is not None and not _is_here(file):
                    raise BlockNotAvailable(f"not all of it is here: {why_not}")
                filled.append(_Wanted(item.entry, item.stat, await file.read(0, file.size)))
            except (InvalidRun, BlockNotAvailable) as error:
                self._skip(item.entry.path, error)
        if self._compare is Compare.CHECKSUM:
            filled = await trio.to_thread.run_sync(self._unequal, directory, filled)
        await trio.to_thread.run_sync(self._write_small, directory, filled)
        self._tell()

    async def _large(self, directory: str, item: _Wanted) -> None:
        file = await self._open(item)
        if file is None:
            return
        try:
            if self._in_vain and (why_not := await self._bring([file])) is not None:
                raise why_not
            await self._copy_large(directory, item, file)
        except BlockNotAvailable as error:
            self._in_vain = True
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
            part, start = await trio.to_thread.run_sync(self._open_part, directory, entry.name, identity, file.size)
        except OSError as error:
            self._skip(entry.path, error)
            return
        try:

            async def write(data: bytes) -> None:
                await trio.to_thread.run_sync(folder.write_all, part, data)
                self.byte_count += len(data)
                self._tell()

            await file.copy_to(write, start=start)
            await trio.to_thread.run_sync(self._finish_part, directory, part, item, identity)
        except InvalidRun as error:
            self._skip(entry.path, error)
            await trio.to_thread.run_sync(self._drop_part, directory, entry.name, identity)
        finally:
            os.close(part)

    async def _bring(self, files: list[OpenFile]) -> BlockNotAvailable | None:
        """Bring all blocks of many files here, in one question for each core; return why, when not all have come.

        Asks again as long as something comes.
        """
        why_not: BlockNotAvailable | None = None
        for core in {file.core.key: file.core for file in files}.values():
            blocks = [file.run.blocks for file in files if file.core is core and file.run.blocks]
            while absent := [run for run in blocks if not core.has(run.start, run.stop)]:
                before = _count(core, absent)
                try:
                    await self._fetch(core, absent)
                except BlockNotAvailable as error:
                    self._in_vain = _count(core, absent) == before
                    if self._in_vain:
                        why_not = error
                        break
                else:
                    self._in_vain = False
        return why_not

    async def _fetch(self, core: CoreReader, blocks: list[range]) -> None:
        with trio.move_on_after(IN_VAIN_SECONDS if self._in_vain else math.inf) as scope:
            await core.fetch(blocks, priority=Priority.URGENT)
        if scope.cancelled_caught:
            raise BlockNotAvailable(f"block {blocks[0].start} of core {short(core.key)}: no peer sends it")

    async def _open(self, item: _Wanted) -> OpenFile | None:
        """Return what reads a file; skip it when it names blocks past the end: one lie must not hold up all the rest.

        Of a content core of which nothing is known yet, the end is not known either.
        """
        file = await self._snapshot.open(item.entry)
        core = file.core
        if file.run.blocks.stop <= core.length:
            return file
        if core.key not in self._updated:
            self._updated.add(core.key)
            await core.update()
        if file.run.blocks.stop <= core.length or core.length == 0:
            return file
        reason = f"its last block is {file.run.blocks.stop - 1}, where core {short(core.key)} has {core.length} blocks"
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

    def _make_directories(self, directory: str, entries: list[Entry]) -> list[Entry]:
        usable = []
        for entry in entries:
            try:
                with self._below.directory(names.join(directory, entry.name), make=True):
                    usable.append(entry)
            except (OSError, PathError) as error:
                self._skip(entry.path, error)
        return usable

    def _finish_directories(self, made: list[tuple[str, Stat]]) -> None:
        for path, stat in made:
            try:
                with self._below.directory(path) as descriptor:
                    folder.set_metadata(descriptor, stat)
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
        name, stat = item.entry.name, item.stat
        status = folder.status_of(descriptor, name)
        if status is None or st.S_IFMT(status.st_mode) != st.S_IFMT(stat.mode):
            return False
        if stat.is_link:
            return folder.link_target(descriptor, name) == stat.linkname
        same = status.st_size == stat.size and status.st_mtime_ns // 1_000_000 == stat.mtime
        if not same or self._compare is Compare.CHECKSUM:
            return False
        if st.S_IMODE(status.st_mode) != stat.mode & 0o777:
            folder.set_metadata_at(descriptor, name, stat)
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
                folder.set_metadata_at(descriptor, item.entry.name, item.stat)
        except OSError as error:
            self._skip(item.entry.path, error)
        else:
            self.unchanged += 1

    def _digest(self, directory: str, item: _Wanted) -> bytes | None:
        """Return the digest of the file that stands where ``item`` goes, or None when there is none of its size."""
        try:
            with self._below.directory(directory) as descriptor:
                status = folder.status_of(descriptor, item.entry.name)
                if status is None or not st.S_ISREG(status.st_mode) or status.st_size != item.stat.size:
                    return None
                return folder.digest_at(descriptor, item.entry.name)
        except OSError:
            return None

    def _write_small(self, directory: str, items: list[_Wanted]) -> None:
        with self._below.directory(directory, make=True) as descriptor:
            for item in items:
                name, stat = item.entry.name, item.stat
                try:
                    if item.content is None:
                        folder.make_link(descriptor, name, stat.linkname or "", stat)
                    else:
                        folder.write_file(descriptor, name, item.content, stat)
                        self.byte_count += len(item.content)
                except (OSError, PathError) as error:
                    self._skip(item.entry.path, error)
                else:
                    self.files += 1

    def _open_part(self, directory: str, name: str, identity: bytes, size: int) -> tuple[int, int]:
        """Open a large file's part; return it and how much of the file it holds."""
        with self._below.directory(directory, make=True) as descriptor:
            part = folder.open_part(descriptor, name, identity)
            start = os.fstat(part).st_size
            if start > size:
                os.ftruncate(part, 0)
                start = 0
            os.lseek(part, start, os.SEEK_SET)
            return part, start

    def _drop_part(self, directory: str, name: str, identity: bytes) -> None:
        with self._below.directory(directory) as descriptor:
            os.unlink(folder.part_name(name, identity), dir_fd=descriptor)

    def _finish_part(self, directory: str, part: int, item: _Wanted, identity: bytes) -> None:
        try:
            with self._below.directory(directory) as descriptor:
                folder.finish_part(descriptor, part, item.entry.name, identity, item.stat)
        except (OSError, PathError) as error:
            self._skip(item.entry.path, error)
        else:
            self.files += 1

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


def _is_here(file: OpenFile) -> bool:
    blocks = file.run.blocks
    return not blocks or file.core.has(blocks.start, blocks.stop)


def _count(core: CoreReader, blocks: list[range]) -> int:
    return sum(core.count(run.start, run.stop) for run in blocks)


async def _in_batches(entries: AsyncGenerator[Entry, None], size: int) -> AsyncGenerator[list[Entry], None]:
    async with aclosing(entries):
        batch: list[Entry] = []
        async for entry in entries:
            batch.append(entry)
            if len(batch) == size:
                yield batch
                batch = []
        yield batch
