"""Programs on a writable mount, its commits, and the power that fails, in every order that tasks and threads allow.

Two programs work on files of their own in folders that a third one renames and a fourth lists, while what is staged is
committed, and somebody else commits to the same drive. They speak to the mount as the kernel does (`Kernel`). What has
to hold:

- a program sees what it did: of its own files the names, sizes and bytes are never anything else;
- each commit is of one instant: the version is what all programs had done at one moment of it;
- a kill loses nothing but what was not yet flushed, a power failure nothing that was synced;
- a name that is gone is not believed, one that is there is listed; and in the end everything is in the drive.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import trio

from hyperfs.errors import ConflictingLength, DaemonError
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.operations import Operations
from hyperfs.mount.options import MountOptions
from hyperfs.mount.staging import journal
from hyperfs.mount.writing import Staged, Writing
from tests.support.drives import OwnDrive
from tests.support.kernel import Kernel, StandingIn
from tests.support.promises import File, Program, Promises
from tests.support.recorded_disk import RecordedFolder
from tests.support.scheduling import Schedule
from tests.support.slow_drives import DAEMON_AWAY, SlowCommitter, cut, slow_drive
from tests.support.workspaces import Paths

SEEDS = 200
_MEMORY = Path("/dev/shm")
_FOREIGN = "foreign"
_MAX_IMAGES = 5


def run(seed: int) -> str:
    """Make one run, and return what was done."""
    schedule = Schedule(seed)
    with _folder() as folder, StandingIn(), _warnings() as warnings:
        staging = Staging(schedule, folder, warnings)
        schedule.run(staging.run)
    return "\n".join(schedule.told)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hyperfs-staging-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what hyperfs warns of."""

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(self.format(record))

    found: list[str] = []
    handler = Collecting(logging.WARNING)
    logger = logging.getLogger("hyperfs")
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


@dataclass(frozen=True)
class Image:
    """What was left by a failure, and what of it is promised."""

    what: str
    folder: Path
    metadata_length: int
    content_length: int
    since: float
    at: float
    lowest: dict[File, int]


class Staging:
    """One run."""

    def __init__(self, schedule: Schedule, folder: Path, warnings: list[str]) -> None:
        self.schedule = schedule
        self.chance = schedule.chance
        self.folder = folder
        self.warnings = warnings
        self.promises = Promises(ROOT)
        self.disk = RecordedFolder(folder / "staging", schedule.point)
        self.images: list[Image] = []
        self.own: OwnDrive
        self.staged: Staged
        self.kernel: Kernel
        self._working = 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await self._run(nursery)
            nursery.cancel_scope.cancel()

    async def _run(self, background: trio.Nursery) -> None:
        with self.disk.installed(), patch.object(journal, "boot_id", lambda: b"the same boot..."):
            await self.begin(background)
            workers = [Worker(self, name) for name in "ab"]
            with self.schedule.quiet():
                for worker in workers:
                    await worker.prepare()
                await self.commit()
            async with trio.open_nursery() as nursery:
                for work in (*(worker.run for worker in workers), self.move_folders):
                    self._working += 1
                    nursery.start_soon(self._work, work)
                for other in (self.list_folders, self.commit_all_along, self.commit_elsewhere, self.fail):
                    nursery.start_soon(other)
            with self.schedule.quiet():
                await self.check_end(workers)
                self.staged.workspace.close()
        for image in self.images:
            with self.schedule.quiet():
                await self.check_image(image)

    async def begin(self, background: trio.Nursery) -> None:
        self.own = await slow_drive(self.schedule)
        away_chance = self.chance.choice((0.0, 0.0, 0.05))
        committer = SlowCommitter(self.own.committer, self.schedule, away_chance=away_chance)
        self.staged = await Staged.open(
            self.own.drive, Writing(committer, self.folder / "staging"), confines_links=True
        )
        self.kernel = Kernel(Operations(self.staged.view, MountOptions(), background))
        with self.schedule.quiet():
            for name in "de":
                number = await self.kernel.mkdir(ROOT, name.encode())
                self.promises.folders.set({**self.promises.folders.newest, number: (ROOT, name)})

    # Tasks beside the programs

    async def _work(self, work: Callable[[], object]) -> None:
        await work()  # type: ignore[misc]
        self._working -= 1

    async def pause(self) -> None:
        """Let others do several things."""
        for _ in range(self.chance.randrange(4)):
            await trio.lowlevel.checkpoint()
        await self.schedule.turns()

    async def move_folders(self) -> None:
        folders = self.promises.folders
        for _ in range(self.chance.randrange(6)):
            await self.pause()
            number = self.chance.choice(sorted(folders.newest, key=lambda number: folders.newest[number]))
            parent, name = folders.newest[number]
            new_parent = self.chance.choice([ROOT, ROOT, *sorted(folders.newest.keys() - {number})])
            new_name = self.chance.choice("defg")
            if self._is_below(new_parent, number) or (new_parent, new_name) in folders.newest.values():
                continue
            folders.begin({**folders.newest, number: (new_parent, new_name)})
            self.tell(f"mv {name} -> {new_name} in {self.folder_name(new_parent)}")
            await self.kernel.rename(parent, name.encode(), new_parent, new_name.encode())
            folders.end()

    def _is_below(self, number: int, above: int) -> bool:
        while number != ROOT:
            if number == above:
                return True
            number = self.promises.folders.newest[number][0]
        return False

    async def list_folders(self) -> None:
        while self._working:
            await self.pause()
            number = self.chance.choice(sorted(self.promises.folders.newest))
            begins = self.promises.ticks.next()
            names: list[str] = []
            async for some in self.kernel.listing(number, room=self.chance.choice((3, 4, 10))):
                names += [name.decode() for name in some]
                self.tell(f"listed of {self.folder_name(number)}: {[name.decode() for name in some]}")
                await self.pause()
            ends = self.promises.ticks.next()
            for program in self.promises.programs:
                seen = program.places.seen(begins, ends)
                always = set.intersection(*({name for above, name in places if above == number} for places in seen))
                missing = always - set(names)
                assert not missing, f"a listing lacks {sorted(missing)}, which were there all along"
            assert len(names) == len(set(names)), f"listed more than once: {names}"

    async def commit_all_along(self) -> None:
        while self._working:
            await self.pause()
            if self.chance.random() < 0.1:
                await self.cancel_a_commit()
            else:
                await self.try_to_commit()

    async def try_to_commit(self) -> None:
        try:
            await self.commit()
        except DaemonError as error:
            self.tell(f"commit fails: {error}")

    async def cancel_a_commit(self) -> None:
        """Begin a commit and give it up, as a mount does that is being unmounted."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.try_to_commit)
            for _ in range(self.chance.randrange(20)):
                await trio.lowlevel.checkpoint()
            self.tell("the commit is cancelled, unless it is over")
            nursery.cancel_scope.cancel()

    async def commit(self) -> None:
        first = self.promises.ticks.next()
        known = {file: file.last for file in self.promises.files()}
        self.tell("commit begins")
        outcome = await self.staged.view.maker.commit()
        last = self.promises.ticks.next()
        if self.own.metadata.synced >= outcome.version:  # else the daemon went away before it said so
            for file, index in known.items():
                file.flushed = max(file.flushed, index)
                file.synced = max(file.synced, index)
            self.promises.durable_since = max(self.promises.durable_since, first)
        self.tell(f"commit ends, version {outcome.version}")
        with self.schedule.quiet():
            tree = await tree_of(self.own)
        self.promises.check_version(tree, first, last)

    async def commit_elsewhere(self) -> None:
        for number in range(self.chance.choice((0, 0, 1, 2))):
            await self.pause()
            with suppress(ConflictingLength):  # the mount committed meanwhile, and they would try again
                await self.own.writer.put_file(f"{_FOREIGN}{number}", b"theirs")
                self.tell("somebody else committed")
            await self.pause()
            await self.staged.view.maker.rebase(self.own.drive.snapshot())

    async def fail(self) -> None:
        for _ in range(self.chance.randrange(3)):
            for _ in range(self.chance.randrange(30)):
                await trio.lowlevel.checkpoint()
            self.fail_now()

    def fail_now(self) -> None:
        """Keep what a kill or a power failure would leave now."""
        if len(self.images) < _MAX_IMAGES:
            target = self.folder / f"left-{len(self.images)}"
            metadata, content = self.own.metadata, self.own.content
            at = self.promises.ticks.next()
            if self.chance.random() < 0.3:
                what = "kill"
                self.disk.after_kill(target)
                length, since = metadata.length, float(at)
                lowest = {file: file.flushed for file in self.promises.files()}
            else:
                what = "power failure"
                self.disk.after_power_failure(target, self.chance)
                length = self.chance.choice((metadata.synced, metadata.length))
                since = self.promises.durable_since
                lowest = {file: file.synced for file in self.promises.files()}
            self.tell(f"{what} {len(self.images)}")
            self.images.append(Image(what, target, length, content.length, since, at, lowest))

    # Afterwards

    async def check_end(self, workers: list["Worker"]) -> None:
        for worker in workers:
            await worker.close_all()
        await self.commit()
        await self.commit()
        assert self.staged.workspace.is_clean
        for (parent, name), believed in self.kernel.names.items():
            self.check_name(parent, name.decode(), believed)
        expected = self.promises.newest()
        assert ours(await tree_of(self.own)) == expected
        unexpected = [warning for warning in self.warnings if DAEMON_AWAY not in warning]
        assert not unexpected, unexpected

    def check_name(self, parent: int, name: str, believed: int) -> None:
        """What the kernel believes of a name has to be so."""
        folders = self.promises.folders.newest
        is_there = (parent, name) in folders.values() or any(
            (parent, name) in program.places.newest for program in self.promises.programs
        )
        if not name.startswith(_FOREIGN):
            what = "is there" if believed else "is absent"
            assert is_there == bool(believed), f"the kernel believes that {name!r} {what}"

    async def check_image(self, image: Image) -> None:
        own = await cut(self.own, image.metadata_length, image.content_length)
        self.warnings.clear()
        boot = "the same boot..." if image.what == "kill" else "the next boot..."
        try:
            with patch.object(journal, "boot_id", lambda: boot.encode()):
                again = await Paths.open(image.folder, own)
            tree = await again.tree()
            self.promises.check_left(ours(tree), image.since, image.at, image.lowest)
            if image.what == "kill":  # a power failure may leave records of what was never synced, and that is told
                assert not self.warnings, self.warnings
            await again.commit()
            assert await again.drive_tree() == tree
            again.workspace.close()
        except BaseException as error:
            error.add_note(f"after {image.what} {image.folder.name}")
            raise

    def tell(self, what: str) -> None:
        self.schedule.tell(f"{self.promises.ticks.now:4} {what}")

    def folder_name(self, number: int) -> str:
        return (
            "/"
            if number == ROOT
            else self.promises.path(self.promises.folders.newest, self.promises.folders.newest[number])
        )


class Worker:
    """A program that works on its own files."""

    def __init__(self, staging: Staging, name: str) -> None:
        self.staging = staging
        self.name = name
        self.kernel = staging.kernel
        self.chance = staging.chance
        self.program: Program = staging.promises.program(name)
        self.opened: dict[File, tuple[int, int]] = {}

    async def prepare(self) -> None:
        for _ in range(2):
            await self.make()
            await self.write()
        await self.close_all()

    async def run(self) -> None:
        actions = [self.make, *[self.write] * 4, *[self.sync] * 4, self.reopen, self.reopen, self.close]
        actions += [self.rename, self.unlink, self.truncate, self.read, self.look, self.forget, self.sync_folder]
        for _ in range(self.chance.randrange(5, 30)):
            await self.staging.pause()
            await self.chance.choice(actions)()

    # Choosing

    def _folder(self) -> int:
        return self.chance.choice([ROOT, *sorted(self.staging.promises.folders.newest)])

    def _name(self) -> str:
        return self.name + self.chance.choice("123")

    def _place(self) -> tuple[tuple[int, str], File] | None:
        places = self.program.places.newest
        return self.chance.choice(sorted(places.items(), key=lambda item: item[0])) if places else None

    def _open_file(self) -> File | None:
        return self.chance.choice(list(self.opened)) if self.opened else None

    def tell(self, what: str, place: tuple[int, str] | None = None) -> None:
        where = "" if place is None else f" {place[1]} in {self.staging.folder_name(place[0])}"
        self.staging.tell(f"{self.name}: {what}{where}")

    def _label(self, file: File) -> str:
        return next((name for (_, name), found in self.program.places.newest.items() if found is file), "unlinked")

    # Doing

    async def make(self) -> None:
        place = self._folder(), self._name()
        places = self.program.places
        if place in places.newest:
            return
        file = self.staging.promises.file()
        places.begin({**places.newest, place: file})
        self.tell("create", place)
        assert not await self.kernel.lookup(place[0], place[1].encode()), f"{place[1]!r} is there already"
        number, handle = await self.kernel.create(place[0], place[1].encode())
        places.end()
        self.opened[file] = number, handle

    async def reopen(self) -> None:
        found = self._place()
        if found is None or found[1] in self.opened:
            return
        (parent, name), file = found
        self.tell("open", found[0])
        number = await self.kernel.lookup(parent, name.encode())
        assert number, f"{name!r} is not there"
        empties = self.chance.random() < 0.2
        if empties:
            file.content.begin(b"")
        handle = await self.kernel.open(number, os.O_RDWR | (os.O_TRUNC if empties else 0))
        if empties:
            file.content.end()
        self.opened[file] = number, handle

    async def write(self) -> None:
        file = self._open_file()
        if file is None:
            return
        before = file.content.newest
        position = self.chance.choice((0, len(before), self.chance.randrange(20)))
        data = self.chance.randbytes(self.chance.choice((1, 5, 10, 600)))
        after = before.ljust(position, b"\0")
        file.content.begin(after[:position] + data + after[position + len(data) :])
        self.tell(f"write {len(data)} at {position} of {self._label(file)}: {data[:4].hex()}")
        assert await self.kernel.operations.write(self.opened[file][1], position, data) == len(data)
        file.content.end()

    async def truncate(self) -> None:
        file = self._open_file()
        if file is None:
            return
        size = self.chance.randrange(12)
        file.content.begin(file.content.newest[:size].ljust(size, b"\0"))
        self.tell(f"truncate {self._label(file)} to {size}")
        await self.kernel.truncate(self.opened[file][0], size)
        file.content.end()

    async def sync(self) -> None:
        file = self._open_file()
        if file is None:
            return
        index, begins = file.last, self.staging.promises.ticks.next()
        self.tell(f"fsync {self._label(file)} begins")
        await self.kernel.operations.fsync(self.opened[file][1], False)
        self._synced({file: index}, begins)
        self.tell(f"fsync {self._label(file)} ends")

    async def sync_folder(self) -> None:
        known, begins = {file: file.last for file in self.staging.promises.files()}, self.staging.promises.ticks.next()
        self.tell("fsync of a folder begins")
        await self.kernel.operations.fsyncdir(1, False)
        self._synced(known, begins)
        self.tell("fsync of a folder ends")

    def _synced(self, known: dict[File, int], begins: int) -> None:
        for file, index in known.items():
            file.flushed = max(file.flushed, index)
            file.synced = max(file.synced, index)
        self.staging.promises.durable_since = max(self.staging.promises.durable_since, begins)
        if self.chance.random() < 0.5:
            self.staging.fail_now()

    async def close(self) -> None:
        file = self._open_file()
        if file is not None:
            index = file.last
            self.tell(f"close {self._label(file)}")
            await self.kernel.close(*self.opened.pop(file))
            file.flushed = max(file.flushed, index)

    async def close_all(self) -> None:
        while self.opened:
            await self.close()

    async def rename(self) -> None:
        found = self._place()
        if found is None:
            return
        old, file = found
        new = self._folder(), self._name()
        if new == old:
            return
        places = self.program.places
        after = {place: other for place, other in places.newest.items() if place != old}
        places.begin({**after, new: file})
        self.tell(f"rename to {new[1]} in {self.staging.folder_name(new[0])}:", old)
        await self.kernel.rename(old[0], old[1].encode(), new[0], new[1].encode())
        places.end()

    async def unlink(self) -> None:
        found = self._place()
        if found is None:
            return
        places = self.program.places
        places.begin({place: other for place, other in places.newest.items() if place != found[0]})
        self.tell("unlink", found[0])
        await self.kernel.unlink(found[0][0], found[0][1].encode())
        places.end()

    async def read(self) -> None:
        file = self._open_file()
        if file is not None:
            data = await self.kernel.operations.read(self.opened[file][1], 0, 4096)
            assert data == file.content.newest, f"{self._label(file)} reads as {data!r}, not {file.content.newest!r}"
            size = await self.kernel.size(self.opened[file][0])
            assert size == len(file.content.newest)

    async def look(self) -> None:
        place = self._folder(), self._name()
        number = await self.kernel.lookup(place[0], place[1].encode())
        is_there = place in self.program.places.newest
        self.tell(f"lookup {'finds' if number else 'does not find'}", place)
        assert is_there == bool(number), (
            f"{place[1]!r} {'is there' if is_there else 'is gone'}, and a lookup says not so"
        )

    async def forget(self) -> None:
        found = self._place()
        if found is not None and found[1] not in self.opened:
            await self.kernel.forget(found[0][0], found[0][1].encode())


def ours(tree: dict[str, object]) -> dict[str, object]:
    """Return what of a drive our programs made."""
    return {path: content for path, content in tree.items() if not path.startswith(_FOREIGN)}


async def tree_of(own: OwnDrive) -> dict[str, object]:
    """Return what a drive's newest version has."""
    snapshot = own.drive.snapshot()
    found: dict[str, object] = {}
    async for entry in snapshot.walk():
        if entry.path.startswith(_FOREIGN):
            continue
        found[entry.path] = None if entry.is_directory else await snapshot.read(entry, 0, entry.stat.size)
    return found
