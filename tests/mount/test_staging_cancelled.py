"""What is staged when a change is cancelled, wherever it waits: all of the change or nothing, and it can be committed.

The rule: every place at which a change waits for the drive, the daemon, a thread or its turn is one at which it is
cancelled, one after the other, until it is not cancelled any more.
"""

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import trio

from hyperfs.mount.staging.committing import CommitMaker
from hyperfs.mount.staging.nodes import Renaming
from hyperfs.slices import Slices
from tests.support.scheduling import Schedule
from tests.support.slow_drives import SlowCommitter, slow_drive
from tests.support.workspaces import Paths

T = TypeVar("T")
Tree = dict[str, object]

BEFORE: Tree = {"d": None, "d/f": b"hello", "d/g": b"world", "empty": None, "other": b"x"}
_MOST_WAITS = 300


class CancelAt:
    """Stands for a `Schedule`: nothing waits until `arm`; then everything does, and one wait of all is cancelled."""

    def __init__(self) -> None:
        self.chance = random.Random(0)
        self.scope = trio.CancelScope()
        self._left: int | None = None

    @property
    def is_quiet(self) -> bool:
        return self._left is None

    def is_slow(self) -> bool:
        return not self.is_quiet

    async def turns(self, *_: object) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.scope.cancel()
            await trio.lowlevel.checkpoint()

    def arm(self, wait: int) -> None:
        self._left = wait

    def disarm(self) -> None:
        self._left = None


async def staged(directory: Path, schedule: CancelAt) -> Paths:
    """A workspace over a drive of which nothing is in memory, with something staged."""
    own = await slow_drive(cast(Schedule, schedule))
    first = await Paths.open(directory / "first", own)
    for folder in ("d", "empty"):
        await first.mkdir(folder)
    await first.put("d/f", b"hello")
    await first.put("d/g", b"other")
    await first.put("other", b"x")
    await first.commit()
    paths = await Paths.open(directory / "staging", own)
    paths.maker = CommitMaker(paths.workspace, own.drive, cast(Any, SlowCommitter(own.committer, cast(Any, schedule))))
    await paths.put("d/g", b"world")
    return paths


async def write(paths: Paths, path: str, data: bytes) -> None:
    number = await paths.number(path)
    await paths.workspace.open(number, writing=True)
    try:
        await paths.workspace.write(number, 0, data)
    finally:
        paths.workspace.released(number)


async def rebase(paths: Paths) -> None:
    await paths.maker.rebase(paths.own.drive.snapshot())


async def set_attribute(paths: Paths, path: str) -> None:
    await paths.workspace.set_user_attribute(await paths.number(path), "user.colour", b"blue")


def after(**changed: object) -> Tree:
    """What there is after a change: ``d_f`` stands for ``d/f``; with ... for a value it is gone."""
    tree = BEFORE | {name.replace("_", "/"): content for name, content in changed.items()}
    return {name: content for name, content in tree.items() if content is not ...}


CHANGES: dict[str, tuple[Callable[[Paths], Awaitable[object]], Tree]] = {
    "make": (lambda paths: paths.make("d/new"), after(d_new=b"")),
    "mkdir": (lambda paths: paths.mkdir("d/new"), after(d_new=None)),
    "unlink": (lambda paths: paths.unlink("d/f"), after(d_f=...)),
    "remove a folder": (lambda paths: paths.rmdir("empty"), after(empty=...)),
    "rename": (lambda paths: paths.rename("d/f", "empty/h"), after(d_f=..., empty_h=b"hello")),
    "rename over": (lambda paths: paths.rename("d/f", "other"), after(d_f=..., other=b"hello")),
    "rename a folder": (
        lambda paths: paths.rename("d", "e"),
        after(d=..., d_f=..., d_g=..., e=None, e_f=b"hello", e_g=b"world"),
    ),
    "exchange": (lambda paths: paths.rename("d/f", "other", Renaming.EXCHANGE), after(d_f=b"x", other=b"hello")),
    "truncate": (lambda paths: paths.truncate("d/f", 2), after(d_f=b"he")),
    "change the mode": (lambda paths: paths.set_attributes("d/f", mode=0o600), BEFORE),
    "set an attribute": (lambda paths: set_attribute(paths, "d/f"), BEFORE),
    "write": (lambda paths: write(paths, "d/f", b"HE"), after(d_f=b"HEllo")),
    "sync": (lambda paths: paths.workspace.sync(), BEFORE),
    "commit": (lambda paths: paths.commit(), BEFORE),
    "commit over another's version": (lambda paths: paths.commit(), after(theirs=b"1")),
    "rebase": (rebase, after(theirs=b"1")),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_cancelled_anywhere_a_change_is_made_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    change, expected = CHANGES[name]
    for wait in range(1, _MOST_WAITS):
        schedule = CancelAt()
        paths = await staged(tmp_path / str(wait), schedule)
        if "theirs" in expected:
            await paths.own.writer.put_file("theirs", b"1")
        with monkeypatch.context() as everything_waits:
            everything_waits.setattr(Slices, "next", lambda _, schedule=schedule: schedule.turns())
            everything_waits.setattr(trio.to_thread, "run_sync", in_turns(schedule))
            schedule.arm(wait)
            with schedule.scope:
                await change(paths)
            schedule.disarm()
        found = await paths.tree()
        assert found in (BEFORE, expected)
        await paths.commit()
        committed = found | {path: content for path, content in expected.items() if path == "theirs"}
        assert await paths.drive_tree() == committed
        assert paths.workspace.is_clean
        assert not paths.workspace.is_locked
        assert not paths.workspace.uncommitted_bytes
        again = await Paths.open(tmp_path / str(wait) / "staging", paths.own)
        assert await again.tree() == committed
        if not schedule.scope.cancelled_caught:
            assert found == expected
            break
    else:
        pytest.fail("it waits for ever")


def in_turns(schedule: CancelAt) -> Callable[..., Awaitable[Any]]:
    async def run_sync(function: Callable[..., T], *arguments: Any, **_: object) -> T:
        await schedule.turns()
        return function(*arguments)

    return run_sync
