"""A view of a drive as others write it: one snapshot after the other, read-only.

The rule: an answer is of one snapshot from start to end, the head's when it was asked.
"""

import errno
import stat as st
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing

from hyperfs.core.reader import CoreReader
from hyperfs.drive.drive import Drive
from hyperfs.drive.entry import Entry
from hyperfs.drive.fetching import is_here
from hyperfs.drive.links import confined_target
from hyperfs.drive.snapshot import OpenFile, Snapshot
from hyperfs.drive.usage import content_end
from hyperfs.errors import PathError
from hyperfs.mount.attributes import LIVE_SECONDS, content_of, lasting_seconds, presented
from hyperfs.mount.files import Handle, Readable
from hyperfs.mount.inodes import InodeTable
from hyperfs.mount.rows import row_of, unlasting
from hyperfs.mount.siblings import SMALL_BYTES, STEP_BYTES, Course, Step
from hyperfs.mount.staging.nodes import attributes_of, stat_of
from hyperfs.mount.view import Answer, Space, View, absent

_BLOCK_BYTES = 4096
_MOST_BLOCKS = (1 << 63) // _BLOCK_BYTES
_MOST_LISTED = 16384
_MAX_RECENT = 64
_LARGEST_RECENT_BYTES = 4096
_BESIDE_AT_ONCE = 128
"""Blocks that are asked for in their order: of what lies before a file the last ones are wanted first."""


class SnapshotView(View):
    """The inodes of one drive. ``snapshot`` is the head; `Follower` has it switched."""

    inodes: InodeTable

    def __init__(
        self,
        drive: Drive,
        *,
        confines_links: bool = True,
        inodes: InodeTable | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Show ``snapshot``, the newest one when None; go on with ``inodes`` where they were given out before."""
        self.inodes = inodes or InodeTable(drive.key)
        self.snapshot: Snapshot = snapshot or drive.snapshot()
        self._drive = drive
        self._confines_links = confines_links
        self._recent: dict[tuple[int, bytes], Entry] = {}
        self._course = Course()

    @property
    def generation(self) -> object:
        return self.snapshot

    async def switch(self, snapshot: Snapshot) -> Snapshot:
        """Show ``snapshot`` from now on; return what was shown before."""
        older, self.snapshot = self.snapshot, snapshot
        self._recent.clear()
        return older

    def take_untold(self) -> None:
        """There is only one who changes what is shown, and he tells."""

    async def settled(self) -> None:
        """Others make the versions."""

    # Looking

    def lookup_now(self, parent: int, name: bytes) -> Answer | None:
        path = self._path(parent, name)
        if path is None:
            return absent(LIVE_SECONDS)
        is_known, entry = self.snapshot.look_now(path)
        if not is_known:
            return None
        return absent(LIVE_SECONDS) if entry is None else self._found(parent, name, entry, self.snapshot)

    async def lookup(self, parent: int, name: bytes) -> Answer:
        path = self._path(parent, name)
        if path is None:
            return absent(LIVE_SECONDS)
        snapshot = self.snapshot
        try:
            entry = await snapshot.stat(path)
        except PathError as error:
            if error.errno != errno.ENOENT:
                raise
            return absent(LIVE_SECONDS)
        return self._found(parent, name, entry, snapshot)

    def attributes_now(self, number: int) -> Answer | None:
        entry = self._entry_now(number)
        return None if entry is None else _answer(number, entry)

    async def attributes(self, number: int) -> Answer:
        return _answer(number, await self._entry(number))

    async def link_target(self, number: int) -> str:
        snapshot = self.snapshot
        return await link_target(snapshot, await self._entry(number), confined=self._confines_links)

    async def user_attributes(self, number: int) -> dict[str, bytes]:
        return presented((await self._entry(number)).stat.present_attributes)

    async def list(self, number: int, on_entries: Callable[[], None]) -> list[bytes]:
        rows: list[bytes] = []
        async with aclosing(self.snapshot.list_batches(self._path_of(number))) as batches:
            async for entries in batches:
                if entries:
                    on_entries()
                rows += [entry_row(entry) for entry in entries]
        return rows

    def row_now(self, number: int, row: bytes) -> bytes:
        return unlasting(row)

    async def space(self) -> Space:
        """Tell of a file system that is full: as large as the drive's content, with nothing free.

        As long as no content was read, nothing is known of it but what the newest files say.
        """
        content = await self._drive.content()
        size = max(content.byte_length, content_end(self.snapshot))
        blocks = min(-(-size // _BLOCK_BYTES), _MOST_BLOCKS)
        return Space(_BLOCK_BYTES, _BLOCK_BYTES, blocks, 0, 0, self.snapshot.version, 0, 0)

    # Open files

    def open_now(self, number: int, *, writing: bool) -> Handle | None:
        entry = None if writing else self._entry_now(number)
        return None if entry is None else handle_now(number, entry, self.snapshot)

    async def open(self, number: int, *, writing: bool, truncating: bool, keeps_set_id: bool) -> Handle:
        """Open a file as the newest version has it."""
        if writing:
            raise PathError(errno.EROFS, self._path_of(number), "the mount is read-only")
        while True:
            snapshot = self.snapshot
            entry = await self._entry(number)
            file = await snapshot.open(entry)
            if snapshot is self.snapshot:  # handles that are open when it is switched are moved, this one is none yet
                return Handle(number, file, entry.path, content_of(entry, stat_of(entry)))

    def source_now(self, handle: Handle) -> Readable | None:
        return handle.file

    async def fetch_siblings(self, handle: Handle, step: Step) -> None:
        snapshot = self.snapshot
        ranges: dict[CoreReader, list[range]] = {}
        count, room = step.files, STEP_BYTES
        for entry in await _files_after(snapshot, handle.name):
            file = snapshot.open_now(entry, stat_of(entry))
            if file is None or not 0 < file.size <= SMALL_BYTES or is_here(file):
                continue
            ranges.setdefault(file.core, []).append(file.run.blocks)
            room -= file.size
            count -= 1
            if count <= 0 or room <= 0:
                break
        for core, blocks in ranges.items():
            core.prefetch(blocks)
        if handle.file is None:
            return
        backwards = self._course.backwards(handle.name.rpartition("/")[0], handle.file)
        if step.reads_on:
            for blocks_beside in _beside(handle.file, count, room, backwards=backwards):
                handle.file.core.prefetch([blocks_beside])

    async def released(self, handle: Handle) -> None:
        """A handle holds nothing."""

    async def sync(self, number: int | None) -> None:
        """Nothing here is ever dirty."""

    def blocks_in_use(self, key: bytes, handles: Iterable[Handle]) -> Iterator[range]:
        """Yield the blocks that open files lie in, also those that the drive has no more."""
        for handle in handles:
            if handle.file is not None and handle.file.core.key == key:
                yield handle.file.run.blocks

    # Inside

    def _found(self, parent: int, name: bytes, entry: Entry, snapshot: Snapshot) -> Answer:
        answer = _answer(0, entry)
        number = self.inodes.remember(parent, name, answer.attributes.mode >> 12 & 0o17)
        value = entry.value
        is_small = value is None or len(value) <= _LARGEST_RECENT_BYTES
        if is_small and entry.core_size is None and snapshot is self.snapshot:
            if len(self._recent) >= _MAX_RECENT:
                self._recent.clear()
            self._recent[parent, name] = entry
        return answer._replace(number=number)

    def _entry_now(self, number: int) -> Entry | None:
        """Return what is at an inode's path; a lookup is mostly followed by an open, so the last ones are kept."""
        try:
            inode = self.inodes[number]
        except KeyError:
            raise _stale(number) from None
        recent = self._recent.get((inode.parent, inode.name))
        return recent or self.snapshot.stat_now(self._path_of(number))

    async def _entry(self, number: int) -> Entry:
        return self._entry_now(number) or await self.snapshot.stat(self._path_of(number))

    def _path_of(self, number: int) -> str:
        try:
            return self.inodes.path(number).decode()
        except KeyError:
            raise _stale(number) from None

    def _path(self, parent: int, name: bytes) -> str | None:
        """Return the path of a name in a directory; None for a name that no drive can hold."""
        above = self._path_of(parent)
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return None
        if "\\" in text:
            return None
        return f"{above}/{text}" if above else text


def _beside(file: OpenFile, count: int, room: int, *, backwards: bool) -> Iterator[range]:
    """Yield at most ``count`` blocks before or behind those of a file, of about ``room`` bytes, the nearest first."""
    core, blocks = file.core, file.run.blocks
    count = min(count, max(0, room) * core.length // max(1, core.byte_length))
    if backwards:
        for stop in range(blocks.start, max(0, blocks.start - count), -_BESIDE_AT_ONCE):
            yield range(max(0, blocks.start - count, stop - _BESIDE_AT_ONCE), stop)
    elif blocks.stop < core.length:
        yield range(blocks.stop, min(blocks.stop + count, core.length))


async def _files_after(snapshot: Snapshot, path: str) -> list[Entry]:
    """Return the files in the folder of ``path``, those after it in the listing first; of a long folder some."""
    found: list[Entry] = []
    place = 0
    async with aclosing(snapshot.list_batches(path.rpartition("/")[0])) as batches:
        async for entries in batches:
            for entry in entries:
                if entry.path == path:
                    place = len(found)
                elif entry.mode is not None and st.S_ISREG(entry.mode):
                    found.append(entry)
            if len(found) >= _MOST_LISTED:
                break
    return found[place:] + found[:place]


def entry_row(entry: Entry) -> bytes:
    """Return the row of what lies in a drive."""
    return row_of(entry.name, attributes_of(stat_of(entry)), lasting_seconds(entry))


async def link_target(snapshot: Snapshot, entry: Entry, *, confined: bool) -> str:
    """Return where a symbolic link of a drive leads; ``confined``: as its author cannot lead anybody out of the drive.

    The holder of a drive's key is not guarded from himself. Raises `PathError`: EINVAL when it is none, and as
    `confined_target` does.
    """
    if confined and not entry.volume.volume.metadata.writable:
        return await confined_target(snapshot, entry)
    stat = stat_of(entry)
    if not stat.is_link or stat.linkname is None:
        raise PathError(errno.EINVAL, entry.path, "it is not a symbolic link")
    return stat.linkname


def handle_now(number: int, entry: Entry, snapshot: Snapshot) -> Handle | None:
    """Return a handle on a file of a drive, or None when that takes waiting."""
    stat = stat_of(entry)
    file = snapshot.open_now(entry, stat)
    return None if file is None else Handle(number, file, entry.path, content_of(entry, stat))


def _answer(number: int, entry: Entry) -> Answer:
    return Answer(number, attributes_of(stat_of(entry)), lasting_seconds(entry))


def _stale(number: int) -> PathError:
    return PathError(errno.ESTALE, f"inode {number}", "it is gone")
