"""What happens while a commit goes on, at every place where others have their turn.

The rule: a commit holds what was staged at its instant, nothing else; the workspace shows what was done last, always.
"""

import errno
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from hyperfs import slices
from hyperfs.errors import PathError
from hyperfs.mount.staging.nodes import Renaming
from hyperfs.mount.staging.planning import Plan
from hyperfs.mount.staging.settling import Settlement
from hyperfs.slices import Slices
from tests.model.test_workspace_model import Model
from tests.mount.test_workspace_crashes import Instant, cut
from tests.support.workspaces import Paths

SEEDS = 16
NAMES = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a", "f/e", "f/e/a"]


class Both:
    """A workspace and its model, to which the same is done."""

    def __init__(self, paths: Paths, chance: random.Random) -> None:
        self.paths = paths
        self.model = Model()
        self.at_instant: dict[str, bytes | None] = {}
        self.kept: list[tuple[Instant, dict[str, bytes | None]]] = []
        self._chance = chance

    async def sync_and_keep(self, directory: Path) -> None:
        """Sync, and keep what the disk has then: whoever comes after a crash has to find all that is there now."""
        await self.paths.workspace.sync()
        copy = directory / str(len(self.kept))
        shutil.copytree(self.paths.workspace.directory, copy)
        lengths = self.paths.own.metadata.length, self.paths.own.content.length
        self.kept.append((Instant(copy, {}, *lengths, 0, 0), dict(self.model.tree)))

    async def step(self) -> None:
        """Do something."""
        chance, tree = self._chance, self.model.tree
        path, other = chance.choice(NAMES), chance.choice(NAMES)
        data = chance.randbytes(chance.randrange(1, 9))
        self.paths.at_once = chance.random() < 0.5
        match chance.choice(["make", "make", "mkdir", "write", "write", "truncate", "unlink", "rmdir", "rename"]):
            case "make":
                await self._do(lambda: self.model.make(path, b""), self.paths.make, path)
            case "mkdir":
                await self._do(lambda: self.model.make(path, None), self.paths.mkdir, path)
            case "write" if tree.get(path) is not None:
                at = chance.randrange(6)
                await self._do(lambda: self.model.write(path, data, at), self.paths.write, path, data, at)
            case "truncate" if tree.get(path) is not None:
                size = chance.randrange(10)
                await self._do(lambda: self.model.truncate(path, size), self.paths.truncate, path, size)
            case "unlink":
                await self._do(lambda: self.model.unlink(path), self.paths.unlink, path)
            case "rmdir":
                await self._do(lambda: self.model.rmdir(path), self.paths.rmdir, path)
            case "rename" if not path.startswith(f"{other}/"):
                how = chance.choice(list(Renaming))
                await self._do(lambda: self.model.rename(path, other, how), self.paths.rename, path, other, how)

    async def _do(self, expected: Callable[[], None], real: Callable[..., Any], *arguments: object) -> None:
        try:
            expected()
        except OSError:
            with pytest.raises((PathError, FileNotFoundError)):
                await real(*arguments)
        else:
            await real(*arguments)

    async def check(self) -> None:
        assert await self.paths.tree() == self.model.tree


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_commit_is_of_one_instant_whatever_happens_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    both = Both(await Paths.open(tmp_path / "staging"), chance)
    committing = False

    async def others_turn(_: Slices) -> None:
        await trio.lowlevel.checkpoint()
        if committing:
            for _ in range(chance.choice([0, 0, 1, 3])):
                await both.step()
                if chance.random() < 0.2:
                    await both.check()
                if chance.random() < 0.03:
                    await both.sync_and_keep(tmp_path / "kept")

    begin = Plan.__init__

    def begin_and_remember(plan: Plan, *arguments: Any) -> None:
        begin(plan, *arguments)
        both.at_instant = dict(both.model.tree)

    monkeypatch.setattr(Slices, "next", others_turn)
    monkeypatch.setattr(Plan, "__init__", begin_and_remember)
    committer = both.paths.own.committer
    commit = committer.commit

    async def commit_or_fail(*arguments: Any, **keywords: Any) -> int:
        await both.step()
        if chance.random() < 0.25:
            raise OSError(errno.ENOSPC, "full")
        version = await commit(*arguments, **keywords)
        await both.step()
        return version

    committer.commit = commit_or_fail  # type: ignore[method-assign]
    for _ in range(8):
        for _ in range(12):
            await both.step()
        await both.check()
        committing = True
        before = await both.paths.drive_tree()
        expected = before
        with suppress(OSError):
            await both.paths.commit()
            expected = both.at_instant
        committing = False
        await both.check()
        assert await both.paths.drive_tree() == expected
    committer.commit = commit  # type: ignore[method-assign]
    await both.paths.commit()
    assert both.paths.workspace.is_clean
    assert both.paths.workspace.uncommitted_bytes == 0
    assert len(both.paths.workspace.tree.nodes) == 1
    await both.check()
    assert await both.paths.drive_tree() == both.model.tree
    for instant, expected in both.kept:
        again = await Paths.open(instant.directory, await cut(both.paths.own, instant))
        assert await again.tree() == expected
        await again.commit()
        assert await again.drive_tree() == expected


async def test_others_have_their_turn_between_the_files_of_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await Paths.open(tmp_path)
    count = 200
    for number in range(count):
        await paths.put(f"f{number}", b"x")
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)
    turns = {"looked at": 0, "told": 0}
    others = 0

    def counted(cls: type, method: str, what: str) -> None:
        """Count how often others had their turn before the method is called."""
        called = getattr(cls, method)
        last = -1

        def call(self: object, node: object) -> None:
            nonlocal last
            turns[what] += others != last
            last = others
            called(self, node)

        monkeypatch.setattr(cls, method, call)

    counted(Plan, "changing", "looked at")
    counted(Settlement, "_settle", "told")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def others_go_on() -> None:
            nonlocal others
            while True:
                others += 1
                await trio.lowlevel.checkpoint()

        await paths.commit()
        nursery.cancel_scope.cancel()
    # Two tasks that both want to run have their turns in any order, so one may have two of them in a row.
    assert min(turns.values()) > count / 2
