"""The same random operations on a writable mount and on a folder of the disk: both look the same after each.

The flush interval is short, so that commits happen in the midst of it all.
"""

import errno
import os
import shutil
import stat as st
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as hs
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.support.writable import WritableMount, writable_mount

PATHS = hs.lists(hs.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
DATA = hs.binary(min_size=1, max_size=60)
PLACES = hs.sampled_from([0, 1, 5, 4095, 4096, 9000])
NANOSECONDS = 1_000_000_007


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[WritableMount]:
    with writable_mount(tmp_path, "--flush-interval", "0.05") as mounted:
        yield mounted


def state_of(folder: Path) -> dict[str, Any]:
    """Everything below a folder, as far as both can have it."""
    found: dict[str, Any] = {}
    for directory, names, files in os.walk(folder):
        for name in [*names, *files]:
            path = Path(directory, name)
            status = path.lstat()
            told: list[Any] = [st.S_IFMT(status.st_mode), st.S_IMODE(status.st_mode)]
            if path.is_symlink():
                told.append(os.readlink(path))
            elif path.is_file():
                told += [path.read_bytes(), status.st_size, sorted(os.listxattr(path))]
                if status.st_mtime_ns < NANOSECONDS * 1000:
                    told.append(status.st_mtime_ns)
            found[str(path.relative_to(folder))] = told
    return found


class Folders(RuleBasedStateMachine):
    drive: WritableMount
    example = 0

    def __init__(self) -> None:
        super().__init__()
        Folders.example += 1
        self.ours = self.drive.folder / f"example{Folders.example}"
        self.theirs = self.drive.folder.parent / "beside"
        self.ours.mkdir()
        self.theirs.mkdir()
        self.handles: list[tuple[int, int]] = []

    def teardown(self) -> None:
        for pair in self.handles:
            for handle in pair:
                os.close(handle)
        shutil.rmtree(self.theirs)
        shutil.rmtree(self.ours)

    def both(self, action: Callable[[Path], object]) -> None:
        """Do it in both folders; it succeeds in both, or fails with the same errno."""
        outcomes = []
        for folder in (self.ours, self.theirs):
            try:
                action(folder)
                outcomes.append("done")
            except OSError as error:
                outcomes.append(errno.errorcode[error.errno or 0])
        assert outcomes[0] == outcomes[1]

    @rule(path=PATHS, data=DATA, place=PLACES)
    def write(self, path: str, data: bytes, place: int) -> None:
        def action(folder: Path) -> None:
            handle = os.open(folder / path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                os.pwrite(handle, data, place)
            finally:
                os.close(handle)

        self.both(action)

    @rule(path=PATHS, data=DATA, flags=hs.sampled_from([os.O_APPEND, os.O_TRUNC, os.O_EXCL]))
    def write_with_flags(self, path: str, data: bytes, flags: int) -> None:
        def action(folder: Path) -> None:
            handle = os.open(folder / path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
            try:
                os.write(handle, data)
            finally:
                os.close(handle)

        self.both(action)

    @rule(path=PATHS, size=hs.integers(0, 10_000))
    def truncate(self, path: str, size: int) -> None:
        self.both(lambda folder: os.truncate(folder / path, size))

    @rule(path=PATHS)
    def make_directory(self, path: str) -> None:
        self.both(lambda folder: os.mkdir(folder / path, 0o755))

    @rule(path=PATHS, leads_to=PATHS)
    def make_link(self, path: str, leads_to: str) -> None:
        self.both(lambda folder: os.symlink(f"nowhere/{leads_to}", folder / path))

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self.both(lambda folder: os.unlink(folder / path))

    @rule(path=PATHS)
    def remove_directory(self, path: str) -> None:
        self.both(lambda folder: os.rmdir(folder / path))

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: str, new: str) -> None:
        self.both(lambda folder: os.rename(folder / old, folder / new))

    @rule(path=PATHS, mode=hs.sampled_from([0o600, 0o644, 0o755, 0o4711, 0o1777]))
    def change_mode(self, path: str, mode: int) -> None:
        self.both(lambda folder: os.chmod(folder / path, mode))

    @rule(path=PATHS, seconds=hs.integers(0, 999))
    def set_times(self, path: str, seconds: int) -> None:
        self.both(lambda folder: os.utime(folder / path, ns=(0, seconds * NANOSECONDS)))

    @rule(path=PATHS, name=hs.sampled_from(["user.a", "user.b"]))
    def set_attribute(self, path: str, name: str) -> None:
        self.both(lambda folder: os.setxattr(folder / path, name, b"value"))

    @rule(path=PATHS)
    def remove_attribute(self, path: str) -> None:
        self.both(lambda folder: os.removexattr(folder / path, "user.a"))

    @precondition(lambda self: len(self.handles) < 4)
    @rule(path=PATHS)
    def hold_open(self, path: str) -> None:
        opened: list[int] = []
        self.both(lambda folder: opened.append(os.open(folder / path, os.O_RDWR)))
        if opened:
            ours, theirs = opened
            self.handles.append((ours, theirs))

    @precondition(lambda self: self.handles)
    @rule(data=DATA, place=PLACES, which=hs.integers(0, 3))
    def write_through_handle(self, data: bytes, place: int, which: int) -> None:
        for handle in self.handles[which % len(self.handles)]:
            os.pwrite(handle, data, place)

    @precondition(lambda self: self.handles)
    @rule(size=hs.integers(0, 5000), which=hs.integers(0, 3))
    def truncate_through_handle(self, size: int, which: int) -> None:
        for handle in self.handles[which % len(self.handles)]:
            os.ftruncate(handle, size)

    @precondition(lambda self: self.handles)
    @rule()
    def close(self) -> None:
        for handle in self.handles.pop(0):
            os.close(handle)

    @invariant()
    def look_the_same(self) -> None:
        assert state_of(self.ours) == state_of(self.theirs)

    @invariant()
    def read_the_same_through_handles(self) -> None:
        for ours, theirs in self.handles:
            assert os.pread(ours, 20_000, 0) == os.pread(theirs, 20_000, 0)
            assert os.fstat(ours).st_size == os.fstat(theirs).st_size


def test_a_mount_is_like_a_folder_of_the_disk(drive: WritableMount) -> None:
    Folders.drive = drive
    checks = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Folders, settings=checks)
    drive.unmount()
    drive.hyperfs("check", drive.key)
