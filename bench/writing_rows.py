"""The rows that measure writing into a mounted drive.

The rule: what is timed is what the program that writes waits for, until its last close or its end. The mount commits
meanwhile, and the last of it behind the program's back.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.table import Comparison, Result, Sides
from bench.workspace import Workspace, empty_mount, their_mount, write_large

_WRITE_BYTES = 1 << 20
_WARM_UP_FILES = 3
"""How many times a written file is in memory: the kernel's pages of the mount, those of the staging, and to spare."""
_MEGABYTE = 1_000_000
_SMALL_FILES = 1_000
_SMALL_BYTES = 100
_CLONED_FOLDERS = 20
_GROWTH_SIZES = (1_000, 10_000, 100_000)
_GROWTH_BOUND = 3.0
"""What grows as n log n makes a file 1.7 times dearer from the smallest size to the largest, what is quadratic 100."""

Work = Callable[[Workspace, Path], float]
Prepare = Callable[[Workspace, Path], None]

# Beside the reference -----------------------------------------------------------------------------------------------


def written(work: Work) -> Callable[[Workspace], AbstractContextManager[Sides]]:
    """Do ``work`` in an empty drive that has just been made and mounted."""

    @contextmanager
    def sides(workspace: Workspace) -> Iterator[Sides]:
        def hyperfs() -> float:
            with workspace.new_drive_mounted() as mountpoint:
                return work(workspace, mountpoint)

        def reference() -> float:
            store = workspace.new_directory("their-store")
            with their_mount(store, None, workspace.new_directory("mnt")) as mountpoint:
                figure = work(workspace, mountpoint)
            shutil.rmtree(store)
            return figure

        def limit() -> float:
            with empty_mount(workspace.big_bytes, workspace.new_directory("mnt")) as mountpoint:
                return work(workspace, mountpoint)

        yield Sides(hyperfs=hyperfs, reference=reference, limit=limit)

    return sides


def write_one(workspace: Workspace, folder: Path) -> float:
    """Return the MB/s of writing a new file from start to end, 1 MiB at a time, until close returns."""
    chunk = os.urandom(_WRITE_BYTES)
    workspace.warm_memory(_WARM_UP_FILES * workspace.big_bytes)
    start = time.perf_counter()
    with (folder / "new.bin").open("wb", buffering=0) as file:
        for _ in range(workspace.big_bytes // len(chunk)):
            file.write(chunk)
    return workspace.big_bytes / (time.perf_counter() - start) / _MEGABYTE


def create_small(workspace: Workspace, folder: Path) -> float:
    """Return the milliseconds for each of 1,000 new files of 100 bytes: open, write, close."""
    count = workspace.scaled(_SMALL_FILES)
    return _create(folder, count) / count * 1000


def _create(folder: Path, count: int) -> float:
    """Return the seconds of making so many files."""
    content = bytes(_SMALL_BYTES)
    start = time.perf_counter()
    for number in range(count):
        with open(f"{folder}/{number:06}.txt", "wb", buffering=0) as file:
            file.write(content)
    return time.perf_counter() - start


# Beside the disk ----------------------------------------------------------------------------------------------------


def programs(
    prepare: Prepare, work: Work, *, has_floor: bool = False
) -> Callable[[Workspace], AbstractContextManager[Sides]]:
    """Do ``work`` in a mounted drive and, as the limit, in a folder of the disk, after ``prepare`` filled it.

    With ``has_floor`` also in one that does nothing and takes requests as ours do, which is the least that ours could.
    """

    @contextmanager
    def sides(workspace: Workspace) -> Iterator[Sides]:
        source = workspace.new_directory("source")
        source.mkdir()
        prepare(workspace, source)

        def hyperfs() -> float:
            with workspace.new_drive_mounted(source) as mountpoint:
                return work(workspace, mountpoint)

        def disk() -> float:
            folder = workspace.new_directory("disk")
            shutil.copytree(source, folder)
            figure = work(workspace, folder)
            shutil.rmtree(folder)
            return figure

        def empty() -> float:
            with empty_mount(0, workspace.new_directory("mnt"), takes_turns=True) as mountpoint:
                shutil.copytree(source, mountpoint, dirs_exist_ok=True)
                return work(workspace, mountpoint)

        yield Sides(hyperfs=hyperfs, limit=disk, floor=empty if has_floor else None)
        shutil.rmtree(source)

    return sides


def _seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def _seconds_together(*commands: list[str]) -> float:
    """Return the seconds until all of them are done."""
    start = time.perf_counter()
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    statuses = [process.wait() for process in running]
    seconds = time.perf_counter() - start
    for process, status in zip(running, statuses, strict=True):
        if status:
            raise subprocess.CalledProcessError(status, process.args)
    return seconds


def _nothing(workspace: Workspace, folder: Path) -> None:
    """An empty drive will do."""


def _archive(workspace: Workspace) -> Path:
    """Return an archive of 10,000 small files."""
    archive = workspace.directory / "small-files.tar"
    if not archive.exists():
        subprocess.run(["tar", "-C", workspace.small_files, "-cf", archive, "small"], check=True)
    return archive


def _unpacking(archive: Path, folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    return ["tar", "-C", str(folder), "-xf", str(archive)]


def untar(workspace: Workspace, folder: Path) -> float:
    """Return the seconds of unpacking 10,000 small files."""
    return _seconds(*_unpacking(_archive(workspace), folder))


def untar_twice(workspace: Workspace, folder: Path) -> float:
    """Return the seconds of unpacking them twice, at the same time."""
    archive = _archive(workspace)
    return _seconds_together(*(_unpacking(archive, folder / name) for name in ("one", "other")))


def _large_file(workspace: Workspace, folder: Path) -> None:
    write_large(folder / "big.bin", workspace.big_bytes)


def untar_beside_reading(workspace: Workspace, folder: Path) -> float:
    """Return the seconds of unpacking them while another program reads a large file, until both are done."""
    return _seconds_together(_unpacking(_archive(workspace), folder), ["cat", str(folder / "big.bin")])


def clone(workspace: Workspace, folder: Path) -> float:
    """Return the seconds of cloning a repository of 2,000 files that lies on the disk."""
    repository = workspace.directory / "repository"
    if not repository.exists():
        for number in range(workspace.scaled(_CLONED_FOLDERS)):
            name = f"small/{number:02d}"
            shutil.copytree(workspace.small_files / name, repository / name)
        git = ["git", "-C", str(repository), "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "All of it"]):
            subprocess.run([*git, *command], check=True)
    return _seconds("git", "clone", "--no-hardlinks", str(repository), str(folder / "clone"))


def _small_files(workspace: Workspace, folder: Path) -> None:
    shutil.copytree(workspace.small_files / "small", folder / "small")


def remove(workspace: Workspace, folder: Path) -> float:
    """Return the seconds of removing 10,000 small files and the folders they are in."""
    return _seconds("rm", "-rf", str(folder / "small"))


# Growth -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Growth:
    """A row about one kind of work: how many times dearer a file is in the largest folder than in the smallest."""

    name: str
    what: str

    def measure(self, workspace: Workspace, rounds: int) -> Result:
        """Do the work once at each size, whatever ``rounds`` says; the costs are of one run for all such rows."""
        costs = [_costs(workspace, workspace.scaled(size))[self.name] for size in _GROWTH_SIZES]
        each = ", ".join(f"{cost:.2f}" for cost in costs)
        sizes = ", ".join(f"{workspace.scaled(size):,}" for size in _GROWTH_SIZES)
        return Result(
            self.name,
            f"{self.what} {sizes} files: {each} ms each",
            "last/first",
            more_is_better=False,
            figures={"hyperfs": [costs[-1] / costs[0]]},
            bound=_GROWTH_BOUND,
        )


@cache
def _costs(workspace: Workspace, count: int) -> dict[str, float]:
    """Return the milliseconds a file of each work on ``count`` small files in one folder, mounted anew for each."""
    store = workspace.new_store()
    key = store.create_drive()
    seconds = {}
    for name, work in (
        ("growth-create", lambda folder: _fill(folder, count)),
        ("growth-find", lambda folder: _seconds("find", str(folder), "-printf", "%s\n")),
        ("growth-remove", lambda folder: _seconds("rm", "-rf", str(folder / "folder"))),
    ):
        with store.mounted(key, workspace.new_directory("mnt")) as mountpoint:
            seconds[name] = work(mountpoint)
    store.remove()
    return {name: value / count * 1000 for name, value in seconds.items()}


def _fill(mountpoint: Path, count: int) -> float:
    (mountpoint / "folder").mkdir()
    return _create(mountpoint / "folder", count)


WRITING_ROWS = (
    Comparison(
        "mount-write",
        "mount: write a 256 MiB file, until close returns",
        "MB/s",
        written(write_one),
        wanted_ratio=5,
        wanted_of_limit=0.5,
    ),
    Comparison(
        "mount-create",
        "mount: create 1,000 small files",
        "ms each",
        written(create_small),
        more_is_better=False,
        wanted_ratio=4,
    ),
    Comparison(
        "mount-untar",
        "mount: untar 10,000 small files (limit: the disk)",
        "s",
        programs(_nothing, untar, has_floor=True),
        more_is_better=False,
        wanted_of_limit=0.25,
    ),
    Comparison(
        "mount-untar-twice",
        "mount: untar 10,000 small files twice at once (limit: the disk)",
        "s",
        programs(_nothing, untar_twice),
        more_is_better=False,
    ),
    Comparison(
        "mount-untar-read",
        "mount: untar 10,000 small files beside reading 256 MiB (limit: the disk)",
        "s",
        programs(_large_file, untar_beside_reading),
        more_is_better=False,
    ),
    Comparison(
        "mount-clone",
        "mount: git clone 2,000 files (limit: the disk)",
        "s",
        programs(_nothing, clone),
        more_is_better=False,
    ),
    Comparison(
        "mount-remove",
        "mount: rm -rf 10,000 small files (limit: the disk)",
        "s",
        programs(_small_files, remove, has_floor=True),
        more_is_better=False,
        wanted_of_limit=0.05,
    ),
    Growth("growth-create", "mount: create"),
    Growth("growth-find", "mount: find"),
    Growth("growth-remove", "mount: rm -rf"),
)
