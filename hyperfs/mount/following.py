"""Following a live drive: the switch to a new version, and telling the kernel what it changes.

The rule: what differs is known before the switch, so that a version nobody can read yet changes nothing; the switch is
one assignment; only then is the kernel told, of exactly what differs. What could not be told is told later: no failure
of ours ends the following, or what the kernel keeps would stay as it is.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

import trio

from hyperfs.drive.changes import Change, Kind, changes
from hyperfs.drive.drive import Drive
from hyperfs.drive.entry import Entry
from hyperfs.drive.snapshot import Snapshot
from hyperfs.errors import HyperfsError
from hyperfs.mount.attributes import content_of
from hyperfs.mount.files import OpenFiles
from hyperfs.mount.inodes import NO_CONTENT, InodeTable
from hyperfs.mount.invalidate import Invalidator
from hyperfs.mount.waiting import NOBODY, Waits

logger = logging.getLogger(__name__)

MAX_GATHERED = 20_000
"""Changes gathered before the switch; of more, the rest is told while it is still being found."""
MAX_GATHERED_TEXT = 4 << 20
"""The same for what their paths take, in characters: a drive's author may make them long."""
RETRY_SECONDS = 2.0
TELLING_SECONDS = 5.0
"""How long what is at a path now may take to be read, before its name is dropped without knowing."""
_SLICE = 256


class Head(Protocol):
    """A view that shows a version of a drive."""

    @property
    def inodes(self) -> InodeTable:
        """The inodes that the kernel knows."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """The version that is shown; of a workspace, the one below what is staged."""
        ...

    def take_untold(self) -> Snapshot | None:
        """Return the version since which the kernel was not told what others changed, once; None: it was told."""
        ...

    async def settled(self) -> None:
        """Return when no version of our own is just being made."""
        ...

    async def switch(self, snapshot: Snapshot) -> Snapshot:
        """Show another version, if it is newer; return the one that was shown before, else ``snapshot`` itself."""
        ...


class Follower:
    """Moves ``head`` from version to version of ``drive``, open files with it."""

    def __init__(self, drive: Drive, head: Head, files: OpenFiles, waits: Waits, invalidator: Invalidator) -> None:
        self._drive = drive
        self._head = head
        self._files = files
        self._waits = waits
        self._invalidator = invalidator
        self._untold: Snapshot | None = None
        """From which version on the kernel has still to be told of what differs, if it has."""

    async def run(self) -> None:
        """Follow for ever. Cancelled or failed, the next call goes on with what has not been told."""
        async with aclosing(self._drive.watch()) as versions:
            async for snapshot in versions:
                await self._follow(snapshot)

    async def _follow(self, snapshot: Snapshot) -> None:
        while self._is_untold() or snapshot is not self._head.snapshot:
            try:
                await self.switch(snapshot)
            except (HyperfsError, OSError) as error:
                logger.info("version %d cannot be shown yet: %s", snapshot.version, error)
                await trio.sleep(RETRY_SECONDS)
                snapshot = self._drive.snapshot()
            else:
                return

    @property
    def _inodes(self) -> InodeTable:
        return self._head.inodes

    def _is_untold(self) -> bool:
        self._untold = self._untold or self._head.take_untold()
        return self._untold is not None

    async def switch(self, snapshot: Snapshot) -> None:
        """Show ``snapshot`` from now on and tell the kernel what it changes.

        Raises `BlockNotAvailable` and OSError: before anything was done, when what differs cannot be read; else with
        `snapshot` shown, and with the kernel told of part of it. The next call tells it of all.
        """
        await self._head.settled()
        shown = self._head.snapshot
        is_first = not self._is_untold()
        if snapshot.version < shown.version:
            return
        base = self._untold or shown
        async with aclosing(changes(snapshot, base)) as found:
            gathered = await _gather(found, MAX_GATHERED)
            logger.debug("version %d: %d changes", snapshot.version, len(gathered))
            older = await self._head.switch(snapshot)
            if is_first and older is snapshot:
                return
            if not is_first or older is base:
                self._untold = base
                await self._tell_all(snapshot, found, gathered, is_first=is_first)
                self._untold = None
                return
        self._untold = older  # a commit of our own came between
        await self.switch(snapshot)

    async def _tell_all(
        self, snapshot: Snapshot, found: AsyncIterator[Change], gathered: list[Change], *, is_first: bool
    ) -> None:
        try:
            while gathered:
                await self._tell(snapshot, gathered)
                gathered = await _gather(found, _SLICE)
        except (HyperfsError, OSError) as error:
            logger.info("what version %d changes cannot be read: %s; looking at all inodes", snapshot.version, error)
            if is_first:
                await self._tell_below(snapshot, [self._inodes.root])
            raise

    async def _tell(self, snapshot: Snapshot, found: list[Change]) -> None:
        """Tell of names that came or went, which takes no reading; then of what the kernel knows and has changed."""
        known, whole_trees = [], []
        for change in found:
            path = change.path.encode(errors="surrogateescape")
            number = self._inodes.find_path(path)
            if number is None or change.kind is Kind.GONE:
                await self._tell_of_name(path)
            elif change.kind is not Kind.LISTING or change.whole_tree:
                known.append(number)
                if change.whole_tree:
                    whole_trees.append(number)
        for number in known:
            await self._tell_of_inode(snapshot, number)
        if whole_trees:
            await self._tell_below(snapshot, whole_trees)

    async def _tell_of_name(self, path: bytes) -> None:
        parent_path, _, name = path.rpartition(b"/")
        parent = self._inodes.find_path(parent_path)
        if parent is not None:
            await self._invalidator.room()
            self._invalidator.add_name(parent, name)

    async def _tell_below(self, snapshot: Snapshot, numbers: list[int]) -> None:
        for found in self._inodes.below(numbers):
            for below in found:
                await self._tell_of_inode(snapshot, below)
            await trio.lowlevel.checkpoint()

    async def _tell_of_inode(self, snapshot: Snapshot, number: int) -> None:
        """Tell of an inode that the kernel knows: what is at its path now decides what has to be dropped."""
        await self._invalidator.room()
        try:
            path = self._inodes.path(number).decode()
            with self._waits.limit(TELLING_SECONDS, path or "/", busy=NOBODY):
                entry = await snapshot.stat(path)
                stat = entry.stat
                if stat.is_file:
                    await self._adopt(snapshot, entry, number)
            inode = self._inodes[number]
        except KeyError:
            return  # forgotten meanwhile
        except (HyperfsError, OSError):
            if number in self._inodes and number != self._inodes.root:
                self._invalidator.add_name(self._inodes[number].parent, self._inodes[number].name)
            return
        if stat.mode >> 12 & 0o17 != inode.kind and number != self._inodes.root:
            self._invalidator.add_name(inode.parent, inode.name)
            return
        if inode.content not in (NO_CONTENT, content_of(entry, stat)):
            self._inodes.set_content(number, NO_CONTENT)
            self._invalidator.add_pages(number)
        self._invalidator.attributes(number)

    async def _adopt(self, snapshot: Snapshot, entry: Entry, number: int) -> None:
        handles = list(self._files.of_inode(number))
        if handles:
            file = await snapshot.open(entry)
            for handle in handles:
                handle.adopt(file)


async def _gather(found: AsyncIterator[Change], limit: int) -> list[Change]:
    gathered = []
    text = 0
    async for change in found:
        gathered.append(change)
        text += len(change.path)
        if len(gathered) == limit or text > MAX_GATHERED_TEXT:
            break
        if len(gathered) % _SLICE == 0:
            await trio.lowlevel.checkpoint()  # what is here comes without yielding
    return gathered
