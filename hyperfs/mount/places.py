"""The places of a mount that is written to: where drives are mounted in one another, and what each is shown by.

The rules: at each place is a drive with a view, inode numbers, and staging of its own, as a kernel has it of file
systems; the drive around it knows only where it is. A place is opened when somebody first goes in. It is read as any
drive is until somebody changes something in it; then it is staged and committed to its own drive, until nobody has for
a while. A drive is written at one place at a time, whoever mounts it. Only what a chain of drives of ours leads to is
written: where somebody else's drive leads is up to him.
"""

import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from hyperfs.drive.drive import Drive
from hyperfs.drive.snapshot import Snapshot, known_version
from hyperfs.drive.stat import MountTarget
from hyperfs.errors import HyperfsError, PathError, short
from hyperfs.mount.edge import keep_going
from hyperfs.mount.following import Follower, Head
from hyperfs.mount.inodes import MAX_PLACES, InodeTable, place_of
from hyperfs.mount.reading_view import ReadingView
from hyperfs.mount.workspace_view import WorkspaceView
from hyperfs.mount.writing import Staged, Writing

logger = logging.getLogger(__name__)

IDLE_SECONDS = 30.0
"""How often one looks for places that nobody has used, or changed, since one looked before."""
_MOST_SEARCHED = 256
"""In how many drives one looks at the start for those of which something is staged."""

Follow = Callable[[Drive, Head], Follower]


class Place:
    """One place: place 0 is the mount, any other is ``path`` of the drive at the place ``around`` it.

    It is the head that a `Follower` moves, whichever view shows it. Of a version that is shown the mount table is read.
    """

    def __init__(self, index: int, around: "Place | None", path: str, target: MountTarget) -> None:
        self.index = index
        self.around = around
        self.path = path
        self.target = target
        self.inodes = InodeTable(target.key, place=index)
        self.drive: Drive | None = None
        self.view: ReadingView | WorkspaceView | None = None
        """What shows it; None while nobody has gone in."""
        self.staged: Staged | None = None
        """What is behind the view while it is written."""
        self.is_own = False
        """Whether it may be written, as far as that is up to the drives and not to who writes them."""
        self.handles = 0
        self.changing = 0
        self.changes = -1
        self.opening = trio.Lock()
        self.following = trio.CancelScope()
        self.flushing = trio.CancelScope()

    @property
    def root(self) -> int:
        """The inode number of the drive's root."""
        return self.inodes.root

    @property
    def snapshot(self) -> Snapshot:
        """The version that is shown, or lies below what is staged."""
        return self._shown().snapshot

    def take_untold(self) -> Snapshot | None:
        """See `Head`."""
        view = self._shown()
        return view.take_untold() if isinstance(view, WorkspaceView) else None

    async def settled(self) -> None:
        """See `Head`."""
        await self._shown().settled()

    async def switch(self, snapshot: Snapshot) -> Snapshot:
        """See `Head`. While another view is being made of the place nothing is switched."""
        await snapshot.mounts()
        async with self.opening:
            return await self._shown().switch(snapshot)

    def path_below(self, parent: int, name: bytes) -> str | None:
        """Return where the drive has a name in a directory; None when it has not, or cannot have."""
        try:
            return self._shown().path_below(parent, name.decode())
        except UnicodeDecodeError:
            return None

    def chain(self) -> Iterator[tuple[bytes, int | None]]:
        """Yield the drives that one is in here."""
        place: Place | None = self
        while place is not None:
            yield place.target.key, place.target.version
            place = place.around

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """Keep what is staged open, for a change that is being made."""
        self.changing += 1
        try:
            yield
        finally:
            self.changing -= 1

    def _shown(self) -> ReadingView | WorkspaceView:
        assert self.view is not None  # only who has gone in asks
        return self.view


class Places:
    """Owns all places of one mount. Made by `open`; `close` commits what is staged in any of them."""

    def __init__(self, drive: Drive, staged: Staged, writing: Writing, *, confines_links: bool) -> None:
        outer = Place(0, None, "", MountTarget(drive.key))
        outer.drive, outer.view, outer.staged, outer.is_own = drive, staged.view, staged, True
        outer.inodes = staged.view.inodes
        self.outer = staged
        self._all: list[Place | None] = [outer]
        self._at: dict[tuple[int, str], Place] = {}
        self._inner = writing.inner
        self._pool = drive.volume.pool
        self._key = drive.key
        self._confines_links = confines_links
        self._nursery: trio.Nursery | None = None
        self._follow: Follow | None = None
        self._failures: list[Exception] = []
        staged.workspace.elsewhere = partial(self._uncommitted_beside, outer)

    @classmethod
    async def open(cls, drive: Drive, writing: Writing, *, confines_links: bool) -> "Places":
        """Take up what is staged of the drive, and of those of ours that are mounted in it.

        Raises as `Staged.open`, for the drive itself; what an inner one fails of is logged, and stays staged.
        """
        staged = await Staged.open(drive, writing, confines_links=confines_links)
        places = cls(drive, staged, writing, confines_links=confines_links)
        try:
            await places._take_up_all()
        except BaseException:  # cancelled, everything stays for the next process
            for place in places:
                if place.staged is not None:
                    place.staged.workspace.close()
            raise
        return places

    def begin(self, nursery: trio.Nursery, follow: Follow) -> None:
        """Commit what is staged by and by, and follow the drives, in ``nursery``; ``follow`` makes what does that."""
        self._nursery, self._follow = nursery, follow
        for place in self:
            self._begin_following(place)
            self._begin_flushing(place)
        nursery.start_soon(keep_going, self._look_for_idle)

    async def close(self) -> None:
        """Commit what is staged, once; what cannot be committed now stays staged."""
        for place in reversed(list(self)):
            if place.staged is not None:
                await place.staged.close()
                place.flushing.cancel()  # what could not be committed is the next mount's
                place.following.cancel()
                if place.staged.failure is not None:
                    self._failures.append(place.staged.failure)

    @property
    def failure(self) -> Exception | None:
        """Why something stays staged after `close`; None when nothing does."""
        return self._failures[0] if self._failures else None

    @property
    def uncommitted_bytes(self) -> int:
        """How many bytes of files are staged."""
        return sum(place.staged.workspace.uncommitted_bytes for place in self if place.staged is not None)

    def __iter__(self) -> Iterator[Place]:
        return iter([place for place in self._all if place is not None])

    def of(self, number: int) -> Place:
        """Return the place of an inode. Raises `PathError` (ESTALE) for one that is gone."""
        place = self._all[place_of(number)]
        if place is None:
            raise PathError(errno.ESTALE, f"inode {number}", "it is gone")
        return place

    def cores(self) -> Iterator[bytes]:
        """Yield the keys of the cores of all drives that somebody has gone into and the kernel still knows."""
        for place in self:
            if place.drive is not None:
                yield place.drive.key
                yield place.drive.volume.content_key

    def view_now(self, number: int) -> ReadingView | WorkspaceView | None:
        """Return the view of an inode, None when nobody has gone into its drive."""
        place = self._all[place_of(number)]
        return None if place is None else place.view

    def leads_on(self, around: Place, parent: int, name: bytes) -> bool:
        """Tell whether a drive is mounted at a name in a directory."""
        return _mounted_at(around, parent, name) is not None

    def mounted(self, around: Place, parent: int, name: bytes) -> Place | None:
        """Return the place at a name in a directory, made if need be, for a lookup to count; None: no drive is there.

        None as well when there are too many, and what is there is read as a folder of the drive around it.
        """
        found = _mounted_at(around, parent, name)
        if found is None:
            return None
        path, target = found
        place = self._at.get((around.index, path))
        return place if place is not None and place.target == target else self._add(around, path, target)

    def _add(self, around: Place, path: str, target: MountTarget) -> Place | None:
        """Make a place; None when there are too many."""
        index = self._all.index(None) if None in self._all else len(self._all)
        if index >= MAX_PLACES:
            return None
        place = Place(index, around, path, target)
        self._all[index : index + 1] = [place]
        self._at[around.index, path] = place
        return place

    def forgotten(self, number: int) -> None:
        """Drop a place into which nobody has gone, once the kernel does not know of it any more."""
        place = self._all[place_of(number)]
        if place is not None and place.view is None and not place.opening.locked():
            self._drop_unknown(place)

    async def entered(self, number: int) -> Place:
        """Return the place of an inode, opened. Raises `PathError` (ELOOP, EMFILE), and what opening a drive does."""
        place = self.of(number)
        if place.view is None:
            await self._enter(place)
        return place

    async def written(self, number: int) -> Place:
        """Return the place of an inode, with a view that takes changes, or that refuses them since it has to.

        Raises as `entered`, `InnerWriting.open` and `Staged.open`. Cancelled, it may be open to be written.
        """
        place = await self.entered(number)
        if place.staged is None and place.is_own:
            async with place.opening:
                if place.staged is None:
                    await self._write(place)
        return place

    # Inside

    async def _enter(self, place: Place) -> None:
        async with place.opening:
            if place.view is not None:
                return
            around, key = place.around, place.target.key
            assert around is not None  # the mount itself is open from its beginning
            if (key, place.target.version) in around.chain():
                raise PathError(errno.ELOOP, place.path, f"drive {short(key)} is mounted inside itself")
            volume = await self._pool.beside().open(key)
            version = place.target.version
            drive = Drive(volume, None if version is None else await known_version(volume, version))
            snapshot = drive.snapshot()
            await snapshot.mounts()
            place.drive = drive
            place.is_own = self._inner is not None and drive.writable and around.is_own
            place.view = ReadingView(drive, confines_links=self._confines_links, inodes=place.inodes, snapshot=snapshot)
            if place.is_own and self._inner is not None and key in self._inner.staged():
                try:
                    await self._write(place)
                except (HyperfsError, OSError) as error:
                    logger.warning("drive %s: what is staged of it is not taken up: %s", short(key), error)
        self._begin_following(place)

    async def _write(self, place: Place) -> None:
        assert self._inner is not None
        assert place.drive is not None
        assert place.view is not None
        key = place.target.key
        try:
            writing = await self._inner.open(key)
        except PathError as error:
            logger.warning("%s", error)
            raise
        try:
            if len(place.inodes) > 1 and key in self._inner.staged():  # the kernel knows it without what that changes
                told = f"something is staged of drive {short(key)}: unmount the folder and mount it again"
                raise PathError(errno.EBUSY, place.path, told)
            staged = await Staged.open(
                place.drive,
                writing,
                confines_links=self._confines_links,
                snapshot=place.view.snapshot,
                inodes=place.inodes,
                place=place.index,
            )
        except BaseException:  # failed or cancelled, it stays as it is
            writing.let_go()
            raise
        staged.workspace.elsewhere = partial(self._uncommitted_beside, place)
        place.staged, place.view, place.inodes = staged, staged.view, staged.view.inodes
        place.changes = -1
        self._begin_flushing(place)

    def _begin_following(self, place: Place) -> None:
        if self._nursery is not None and self._follow is not None and place.drive is not None and place.drive.live:
            place.following = trio.CancelScope()
            self._nursery.start_soon(_run, place.following, self._follow(place.drive, place).run)

    def _begin_flushing(self, place: Place) -> None:
        if self._nursery is not None and place.staged is not None:
            place.flushing = trio.CancelScope()
            self._nursery.start_soon(_run, place.flushing, place.staged.flusher.run)

    def _uncommitted_beside(self, place: Place) -> int:
        own = 0 if place.staged is None else place.staged.workspace.uncommitted_bytes
        return self.uncommitted_bytes - own

    async def _take_up_all(self) -> None:
        """Go to where something is staged, through drives of ours that are here."""
        wanted = set() if self._inner is None else {*self._inner.staged()} - {self._key}
        waiting = list(self)
        for place in waiting:
            if not wanted or len(waiting) > _MOST_SEARCHED:
                return
            table = await place.snapshot.mounts()
            for path, target in table.targets.items():
                if target.version is not None or target.is_core or (target.key, None) in place.chain():
                    continue
                try:
                    core = await self._pool.open_core(target.key)
                    inner = self._add(place, path, target) if core.writable and core.length else None
                    if inner is not None:
                        await self._enter(inner)
                        waiting.append(inner)
                        wanted.discard(target.key)
                except (HyperfsError, OSError) as error:
                    logger.info("drive %s: what is mounted at %s is not here: %s", short(place.target.key), path, error)

    async def _look_for_idle(self) -> None:
        while True:
            await trio.sleep(IDLE_SECONDS)
            for place in reversed(list(self)):  # those inside others first
                if place.index and not place.opening.locked():  # or somebody is just going in
                    await self._rest(place)

    async def _rest(self, place: Place) -> None:
        """Have a place only be read that nobody changed for a while, and be closed that the kernel does not know."""
        async with place.opening:
            staged = place.staged
            if place.handles or place.changing:
                return
            if staged is None:
                self._drop_unknown(place)
                return
            workspace = staged.workspace
            before, place.changes = place.changes, workspace.tree.changes
            if before != place.changes or not workspace.is_clean or workspace.is_settling or staged.view.maker.is_busy:
                return
            assert place.drive is not None
            place.flushing.cancel()
            inodes = InodeTable(place.target.key, place=place.index)
            inodes.take_over(workspace.inodes)
            place.view = ReadingView(
                place.drive, confines_links=self._confines_links, inodes=inodes, snapshot=workspace.tree.snapshot
            )
            place.inodes, place.staged = inodes, None
            await staged.close()

    def _drop_unknown(self, place: Place) -> None:
        is_known = len(place.inodes) > 1 or place.inodes[place.root].lookups
        if not is_known and not any(other.around is place for other in self):
            place.following.cancel()
            self._all[place.index] = None
            around = place.around
            if around is not None and self._at.get((around.index, place.path)) is place:
                del self._at[around.index, place.path]


def _mounted_at(around: Place, parent: int, name: bytes) -> tuple[str, MountTarget] | None:
    """Return what is mounted at a name in a directory, and the path of that in the drive that it is in."""
    table = around.snapshot.mounts_now
    assert table is not None  # see `Place`
    path = around.path_below(parent, name) if table.targets else None
    target = None if path is None else table.targets.get(path)
    return None if path is None or target is None else (path, target)


async def _run(scope: trio.CancelScope, task: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await keep_going(task)
