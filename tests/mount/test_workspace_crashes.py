"""A process that stages is killed, or the power fails, at every instant that changes its files; the next one goes on.

The rule: after a kill what was done is there, the operation under way aside; after a power failure what was synced.
"""

import os
import random
import shutil
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hyperfs.drive.committer import LocalCommitter
from hyperfs.drive.drive import Drive
from hyperfs.drive.writer import DriveWriter
from hyperfs.mount.staging import files, journal
from tests.support.crashes import SECTOR_BYTES
from tests.support.drives import OwnDrive
from tests.support.memory_core import MemoryCores
from tests.support.workspaces import Paths

Tree = dict[str, object]


@dataclass
class Instant:
    """What is on the disk, and what of it is synced, while operation ``step`` is under way."""

    directory: Path
    synced: dict[str, bytes]
    metadata_length: int
    content_length: int
    step: int
    synced_step: int


@dataclass
class Recorder:
    """Keeps a copy of the staging folder at each of its changes."""

    directory: Path
    copies: Path
    step: int = 0
    synced_step: int = 0
    own: Any = None
    synced: dict[str, bytes] = field(default_factory=dict)
    instants: list[Instant] = field(default_factory=list)

    def system(self) -> Any:
        """What stands for the module `os` in the staging."""
        standing = types.SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
        standing.pwritev = self.after(os.pwritev)
        standing.fdatasync = self.sync
        return standing

    def after(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            result = call(*arguments)
            self.note()
            return result

        return wrapped

    def sync(self, fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if path.exists():
            self.synced[path.name] = path.read_bytes()
        self.note()

    def note(self) -> None:
        copy = self.copies / str(len(self.instants))
        shutil.copytree(self.directory, copy)
        lengths = self.own.metadata.length, self.own.content.length
        self.instants.append(Instant(copy, dict(self.synced), *lengths, self.step, self.synced_step))


async def cut(own: OwnDrive, instant: Instant) -> OwnDrive:
    """The drive as it was at an instant."""
    cores = MemoryCores()
    made = []
    for core, length in ((own.metadata, instant.metadata_length), (own.content, instant.content_length)):
        copy = cores.cores[core.key] = core.cut(length)
        made.append(copy)
    drive = await Drive.open(cores, own.metadata.key)
    committer = LocalCommitter(*made)  # type: ignore[arg-type]  # as much of a core as it uses
    return OwnDrive(cores, *made, drive, DriveWriter(drive, committer), committer)


async def random_step(paths: Paths, chance: random.Random, recorder: Recorder) -> None:
    tree = await paths.tree()
    files = [path for path, content in tree.items() if content is not None]
    names = ["a", "b", "d/a", "d/b"]
    action = chance.choice(
        ["make", "write", "write", "write", "truncate", "rename", "unlink", "sync", "sync", "commit"]
    )
    if action == "make" or not files:
        path = chance.choice(names)
        if path not in tree:
            await paths.make(path)
    elif action == "write":
        await paths.write(chance.choice(files), chance.randbytes(chance.choice([10, 700])), chance.randrange(900))
    elif action == "truncate":
        await paths.truncate(chance.choice(files), chance.randrange(1200))
    elif action == "rename":
        await paths.rename(chance.choice(files), chance.choice(names))
    elif action == "unlink":
        await paths.unlink(chance.choice(files))
    elif action == "sync":
        await paths.workspace.sync()
        recorder.synced_step = recorder.step + 1
    else:
        await paths.commit()
        recorder.synced_step = recorder.step + 1


async def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> tuple[Recorder, OwnDrive, list[Tree]]:
    recorder = Recorder(tmp_path / "staging", tmp_path / "copies")
    monkeypatch.setattr(journal, "AHEAD_BYTES", 4096)
    paths = await Paths.open(recorder.directory)
    recorder.own = paths.own
    await paths.mkdir("d")
    await paths.put("d/first", b"first")
    await paths.commit()
    chance = random.Random(seed)
    trees = [await paths.tree()]
    monkeypatch.setattr(files, "os", recorder.system())
    monkeypatch.setattr(files, "write_at", recorder.after(files.write_at))
    for step in range(120):
        recorder.step = step
        await random_step(paths, chance, recorder)
        trees.append(await paths.tree())
    monkeypatch.undo()
    paths.workspace.close()
    return recorder, paths.own, trees


@pytest.mark.parametrize("seed", range(2))
async def test_after_a_kill_everything_done_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    recorder, own, trees = await record(tmp_path, monkeypatch, seed)
    assert len(recorder.instants) > 100
    for instant in recorder.instants:
        again = await Paths.open(instant.directory, await cut(own, instant))
        found = await again.tree()
        assert found in (trees[instant.step], trees[instant.step + 1])
        await again.commit()
        assert await again.drive_tree() == found
        again.workspace.close()


@pytest.mark.parametrize("seed", range(2))
async def test_after_a_power_failure_what_was_synced_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    recorder, own, trees = await record(tmp_path, monkeypatch, seed)
    chance = random.Random(seed)
    monkeypatch.setattr(journal, "boot_id", lambda: b"the next boot...")
    for instant in recorder.instants:
        lose_power(instant, chance)
        again = await Paths.open(instant.directory, await cut(own, instant))
        found = await again.tree()
        since = trees[instant.synced_step : instant.step + 2]
        for path, content in since[0].items():
            if all(tree.get(path, "absent") == content for tree in since):
                assert found[path] == content
        await again.commit()
        assert await again.drive_tree() == found
        again.workspace.close()


def lose_power(instant: Instant, chance: random.Random) -> None:
    """Give each sector that was written since its file was synced its old content, or its new one."""
    for path in sorted(instant.directory.iterdir()):
        data = path.read_bytes()
        old = instant.synced.get(path.name, b"").ljust(len(data), b"\0")
        sectors = [chance.choice((old, data))[at : at + SECTOR_BYTES] for at in range(0, len(data), SECTOR_BYTES)]
        path.write_bytes(b"".join(sectors))
