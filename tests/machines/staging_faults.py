"""The disk of a staging folder fails some operations, with any errno, and then the process or the power ends.

A program works on files in a mount's workspace and commits, by steps. Meanwhile some operations of the staging's disk
fail: one, or several, or all of a kind for a while. In the end the mount is closed, or killed, or the power fails, and
the next process takes up what was staged, while its disk may fail, too. What has to hold:

- a step that did not do what it was to do says so, with an OSError or an error of hyperfs's own;
- a step that failed has changed nothing but what it was about, and nothing of the drive unless its commit stands;
- what a sync returned for outlives a power failure, what was closed a kill: names and bytes;
- when the disk is well again everything can be synced and committed, unless the mount said that it refuses for good;
- a next process that failed has changed nothing, but may have deleted what is in the drive, and the one after it finds
  everything.
"""

import errno
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from hyperfs.errors import DaemonError, HyperfsError
from hyperfs.mount.staging import journal
from tests.support.scheduling import Schedule
from tests.support.staging_disk import CALLS, StagingDisk
from tests.support.workspaces import Paths

SEEDS = 250
_MEMORY = Path("/dev/shm")
_CODES = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_SYNCS = ("fdatasync", "fdatasync", "fsync")
_NAMES = ("a", "b", "c", "d/a", "d/b")

_ACTIONS = ("put", "write", "write", "write", "cut", "rename", "unlink", "sync", "sync", "commit")

Tree = dict[str, object]


def run(seed: int) -> str:
    """Make one run, and return what was done."""
    schedule = Schedule(seed)
    logger = logging.getLogger("hyperfs")
    folder = Path(tempfile.mkdtemp(prefix="hyperfs-faults-", dir=_MEMORY if _MEMORY.is_dir() else None))
    logger.disabled, was_disabled = True, logger.disabled
    try:
        with patch.object(journal, "AHEAD_BYTES", 4096):
            schedule.run(Faults(schedule, folder).run)
    finally:
        logger.disabled = was_disabled
        shutil.rmtree(folder)
    return "\n".join(schedule.told)


class FailingDisk:
    """Decides which operations fail."""

    def __init__(
        self, disk: StagingDisk, chance: random.Random, tell: Callable[[str], None], *calls: str | None
    ) -> None:
        """Fail one of ``calls`` for a while, with None whatever comes."""
        self.is_well = True
        self.failed = 0
        """How many operations failed."""
        self._chance = chance
        self._tell = tell
        self._code = chance.choice(_CODES)
        self._call = chance.choice(calls)
        self._skipped = chance.randrange(1, 60 if self._call is None else 15) if chance.random() < 0.8 else 0
        self._left = chance.choice((1, 1, 1, 2, 5, 50))
        disk.verdict = self._verdict

    @contextmanager
    def well(self) -> Iterator[None]:
        """Let nothing fail until the block ends."""
        before, self.is_well = self.is_well, True
        try:
            yield
        finally:
            self.is_well = before

    def _verdict(self, call: str, path: Path | None) -> OSError | None:
        if self.is_well or not self._left or self._call not in (None, call):
            return None
        if self._skipped:
            self._skipped -= 1
            return None
        self._left -= 1
        self.failed += 1
        self._tell(f"    {call} of {path.name if path else 'a file'}: {errno.errorcode[self._code]}")
        return OSError(self._code, os.strerror(self._code))


class Faults:
    """One run."""

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        self.schedule = schedule
        self.chance = schedule.chance
        self.folder = folder
        self.disk = StagingDisk(folder / "staging")
        self.failing = FailingDisk(
            self.disk, self.chance, schedule.tell, *CALLS, *_SYNCS, *_SYNCS, "write_at", None, None
        )
        self.trees: list[Tree] = []
        """What the workspace showed after each step."""
        self.kept_step = 0
        """The step after which everything was written down, so that a kill takes nothing of it."""
        self.synced_step = 0
        self.is_certain = True
        """Whether the last step did what it was to do."""
        self.paths: Paths

    async def run(self) -> None:
        self.disk.before = lambda call, path: self.schedule.point()
        with self.disk.installed():
            self.paths = await Paths.open(self.disk.path)
            await self.paths.mkdir("d")
            await self.paths.put("d/a", b"committed")
            await self.paths.commit()
            self.trees.append(await self.paths.tree())
            for _ in range(self.chance.randrange(3, 25)):
                await self.step()
                while not self.is_certain and self.chance.random() < 0.7:
                    await self.step("sync")
            await self.chance.choice((self.close, self.kill, self.kill, self.lose_power, self.lose_power))()

    # A program's steps

    async def step(self, action: str | None = None) -> None:
        before = self.trees[-1]
        files = sorted(path for path, content in before.items() if content is not None)
        name = self.chance.choice(_NAMES)
        action = action or self.chance.choice(_ACTIONS)
        if not files and action not in ("sync", "commit"):
            action = "put"
        path = self.chance.choice(files) if files else name
        position, data = self.chance.randrange(700), self.chance.randbytes(self.chance.choice((10, 300, 3000)))
        paths = self.paths
        about: dict[str, tuple[set[str], Callable[[], Awaitable[object]]]] = {
            "put": ({name}, lambda: paths.put(name, data)),
            "write": ({path}, lambda: paths.write(path, data, position)),
            "cut": ({path}, lambda: paths.truncate(path, position)),
            "rename": ({path, name}, lambda: paths.rename(path, name)),
            "unlink": ({path}, lambda: paths.unlink(path)),
            "sync": (set(), paths.workspace.sync),
            "commit": (set(), self.commit),
        }
        touched, work = about[action]
        version = paths.own.drive.version
        failures = self.failing.failed
        self.schedule.tell(f"{len(self.trees):3} {action} {sorted(touched)}")
        self.is_certain = is_done = await self.attempt(work)
        if action == "sync" and is_done:
            assert not self.is_told_of(failures), "a sync returned although the disk did not take everything"
        with self.failing.well(), self.schedule.quiet():
            tree = await paths.tree()
            if action == "commit" and paths.own.drive.version != version:
                assert await paths.drive_tree() == tree, "half a commit"
        for other in before.keys() | tree.keys():
            if other not in touched:
                assert tree.get(other, "absent") == before.get(other, "absent"), f"{other} was changed by {action}"
        if action == "put" and not is_done:
            self.trees.append({**before, name: b""})  # made, and not yet written to
        self.trees.append(tree)
        here = len(self.trees) - 1
        if is_done and action in ("sync", "commit"):
            self.kept_step = self.synced_step = here

    async def commit(self) -> None:
        """Commit, to a drive that may be out of reach."""

        async def refuse(*_: object, **__: object) -> int:
            raise DaemonError("nobody answers")

        if self.chance.random() < 0.3:
            with patch.object(self.paths.own.committer, "commit", refuse):
                await self.paths.commit()
        else:
            await self.paths.commit()

    def is_told_of(self, before: int) -> bool:
        """Whether an operation failed since, and what could not be synced is not durable for that."""
        return self.failing.failed > before and any(
            not file.is_synced for file in (*self.paths.workspace.journal.files,)
        )

    async def attempt(self, work: Callable[[], Awaitable[object]]) -> bool:
        self.failing.is_well = False
        try:
            await work()
            return True
        except (OSError, HyperfsError) as error:
            self.schedule.tell(f"    told: {type(error).__name__}: {error}")
            return False
        finally:
            self.failing.is_well = True

    # Ends

    async def close(self) -> None:
        self.schedule.tell("close")
        workspace = self.paths.workspace
        if workspace.files.failure is None:
            await workspace.sync()
            await self.paths.commit()
            assert await self.paths.drive_tree() == self.trees[-1]

        async def close() -> None:
            workspace.close()

        await self.attempt(close)
        await self.check(self.disk.path, len(self.trees) - 1, boot="the same boot...")

    async def kill(self) -> None:
        self.schedule.tell("kill")
        left = self.folder / "left"
        shutil.copytree(self.disk.path, left)
        self.paths.workspace.files.close()
        await self.check(left, self.kept_step, boot="the same boot...")

    async def lose_power(self) -> None:
        self.schedule.tell("power failure")
        left = self.folder / "left"
        self.disk.lose_power(left, self.chance)
        self.paths.workspace.files.close()
        await self.check(left, self.synced_step, boot="the next boot...", is_torn=True)

    async def check(self, left: Path, since: int, *, boot: str, is_torn: bool = False) -> None:
        """Take up what was left, and compare it with what the program saw since step ``since``."""
        disk = StagingDisk(left)
        self.failing = FailingDisk(disk, self.chance, self.schedule.tell, "open", "open", "pread", "fstat", None)
        with patch.object(journal, "boot_id", lambda: boot.encode()), disk.installed():
            for number in range(3):
                before = contents_of(left)
                if await self.attempt(lambda: self.take_up(left)):
                    break
                assert number < 2 or self.failing.failed, "nothing failed, and what was staged was not taken up"
                after = contents_of(left)
                assert all(before.get(name) == after[name] for name in kept(after)), "a next process changed something"
            else:
                self.failing.is_well = True
                await self.take_up(left)
            again = self.paths
            found = await again.tree()
            self.compare(found, self.trees[since:], is_torn=is_torn)
            await again.workspace.sync()
            await again.commit()
            assert await again.drive_tree() == found
            again.workspace.close()

    async def take_up(self, left: Path) -> None:
        self.paths = await Paths.open(left, self.paths.own)

    def compare(self, found: Tree, seen: list[Tree], *, is_torn: bool) -> None:
        for path in {path for tree in seen for path in tree} | found.keys():
            there = found.get(path, "absent")
            possible = [tree.get(path, "absent") for tree in seen]
            is_certain = all(content == possible[0] for content in possible)
            if is_certain or not is_torn:
                assert there in possible, f"{path}: {there!r:.60} was never seen since it was promised"


def contents_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kept(contents: dict[str, bytes]) -> list[str]:
    return [name for name in contents if not name.startswith("set-aside")]
