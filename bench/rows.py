"""The rows that compare hyperfs with the reference: cores, replication, import, and the mounts."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.empty_fs import SMALL_BYTES
from bench.table import Comparison, Measure, Sides
from bench.workspace import (
    Workspace,
    empty_mount,
    our_process,
    ours,
    their_mount,
    their_process,
    theirs,
    write_large,
)

_SMALL_BLOCK_BYTES = 64
_LARGE_BLOCK_BYTES = 65536
_MEGABYTE = 1_000_000
_READ_BYTES = 1 << 20

# Cores -------------------------------------------------------------------------------------------------------------


def append(count: int, batch: int) -> Callable[[Workspace], AbstractContextManager[Sides]]:
    """Append small blocks to a new core, ``batch`` at a time."""

    @contextmanager
    def sides(workspace: Workspace) -> Iterator[Sides]:
        amount = workspace.scaled(count)

        def measure(side: Callable[..., dict[str, float]]) -> float:
            directory = workspace.new_directory("core")
            done = side("append", directory=str(directory), count=amount, size=_SMALL_BLOCK_BYTES, batch=batch)
            shutil.rmtree(directory)
            return done["amount"] / done["seconds"]

        yield Sides(hyperfs=lambda: measure(ours), reference=lambda: measure(theirs))

    return sides


def _core(workspace: Workspace, count: int, size: int) -> Path:
    directory = workspace.new_directory("core")
    theirs("append", directory=str(directory), count=count, size=size, batch=500)
    return directory


@contextmanager
def random_get(workspace: Workspace) -> Iterator[Sides]:
    """Read blocks of one core on disk, in no order."""
    directory = _core(workspace, workspace.scaled(100_000), _SMALL_BLOCK_BYTES)
    count = workspace.scaled(20_000)

    def measure(side: Callable[..., dict[str, float]]) -> float:
        done = side("get", directory=str(directory), count=count)
        return done["amount"] / done["seconds"]

    yield Sides(hyperfs=lambda: measure(ours), reference=lambda: measure(theirs))
    shutil.rmtree(directory)


def replicate(count: int, size: int, unit: float) -> Callable[[Workspace], AbstractContextManager[Sides]]:
    """Bring a whole core from one process to another, over TCP on this machine."""

    @contextmanager
    def sides(workspace: Workspace) -> Iterator[Sides]:
        amount = workspace.scaled(count)
        served = _core(workspace, amount, size)

        def measure(
            serve: Callable[..., AbstractContextManager[dict[str, str]]], fetch: Callable[..., dict[str, float]]
        ) -> float:
            directory = workspace.new_directory("fetched")
            with serve("serve", directory=str(served)) as server:
                done = fetch("fetch", directory=str(directory), key=server["key"], port=server["port"], count=amount)
            shutil.rmtree(directory)
            return amount * unit / done["seconds"]

        yield Sides(
            hyperfs=lambda: measure(our_process, ours),
            reference=lambda: measure(their_process, theirs),
        )
        shutil.rmtree(served)

    return sides


# Import ------------------------------------------------------------------------------------------------------------


def _import_sides(workspace: Workspace, source: Path, amount: float, *, size: int) -> Sides:
    """``size``: how many bytes ``source`` has."""

    def hyperfs() -> float:
        store = workspace.new_store()
        store.start_daemon()
        workspace.warm_memory(size)
        start = time.perf_counter()
        store.import_folder(source)
        seconds = time.perf_counter() - start
        store.remove()
        return amount / seconds

    def reference() -> float:
        directory = workspace.new_directory("their-store")
        workspace.warm_memory(size)
        start = time.perf_counter()
        theirs("import", source=str(source), directory=str(directory))
        seconds = time.perf_counter() - start
        shutil.rmtree(directory)
        return amount / seconds

    return Sides(hyperfs=hyperfs, reference=reference)


@contextmanager
def import_small(workspace: Workspace) -> Iterator[Sides]:
    """Import 10,000 small files: the whole command, against a whole process of the reference."""
    count = workspace.scaled(10_000)
    yield _import_sides(workspace, workspace.small_files, count, size=count * SMALL_BYTES)


@contextmanager
def import_large(workspace: Workspace) -> Iterator[Sides]:
    """Import one file of 1 GiB: the whole command, against a whole process of the reference.

    Both return when the kernel has the file. The limit is what the disk can do: a plain copy that is synced.
    """
    source = workspace.new_directory("large")
    source.mkdir()
    size = workspace.scaled(1024) << 20
    write_large(source / "large.bin", size)

    def copy() -> float:
        target = workspace.new_directory("copy")
        workspace.warm_memory(size)
        start = time.perf_counter()
        shutil.copyfile(source / "large.bin", target)
        with target.open("rb") as file:
            os.fdatasync(file.fileno())
        seconds = time.perf_counter() - start
        target.unlink()
        return size / _MEGABYTE / seconds

    sides = _import_sides(workspace, source, size / _MEGABYTE, size=size)
    yield Sides(hyperfs=sides.hyperfs, reference=sides.reference, limit=copy)
    shutil.rmtree(source)


# Mounts ------------------------------------------------------------------------------------------------------------


def mounted(work: Callable[[Workspace, Path], float]) -> Callable[[Workspace], AbstractContextManager[Sides]]:
    """Do ``work`` in a folder that has just been mounted, so that the kernel has nothing of it cached."""

    @contextmanager
    def sides(workspace: Workspace) -> Iterator[Sides]:
        our_store, our_key = workspace.our_drive
        their_store, their_key = workspace.their_drive

        def measure(mount: Callable[[Path], AbstractContextManager[Path]]) -> Measure:
            def once() -> float:
                with mount(workspace.new_directory("mnt")) as mountpoint:
                    return work(workspace, mountpoint)

            return once

        yield Sides(
            hyperfs=measure(lambda mountpoint: our_store.mounted(our_key, mountpoint)),
            reference=measure(lambda mountpoint: their_mount(their_store, their_key, mountpoint)),
            limit=measure(lambda mountpoint: empty_mount(workspace.big_bytes, mountpoint)),
            floor=measure(lambda mountpoint: empty_mount(workspace.big_bytes, mountpoint, takes_turns=True)),
        )

    return sides


def read_large(workspace: Workspace, mountpoint: Path) -> float:
    """Return the MB/s of reading ``big.bin`` from start to end."""
    buffer = bytearray(_READ_BYTES)
    position = 0
    with (mountpoint / "big.bin").open("rb", buffering=0) as file:
        start = time.perf_counter()
        while read := file.readinto(buffer):
            position += read
        seconds = time.perf_counter() - start
    if position != workspace.big_bytes:
        raise ValueError(f"{file.name} ended at byte {position} of {workspace.big_bytes}")
    return position / seconds / _MEGABYTE


def find_all(workspace: Workspace, mountpoint: Path) -> float:
    """Return the seconds of a find over the small files that looks at every size."""
    start = time.perf_counter()
    found = subprocess.run(
        ["find", str(mountpoint / "small"), "-type", "f", "-printf", "%s\n"], capture_output=True, check=True
    )
    seconds = time.perf_counter() - start
    # The tree of the empty file system is always the whole one, so a quick run compares unequal ones.
    files = len(found.stdout.splitlines())
    if files < workspace.scaled(10_000):
        raise ValueError(f"find saw only {files} files below {mountpoint}")
    return seconds


def read_small(workspace: Workspace, mountpoint: Path) -> float:
    """Return the milliseconds for each of 1,000 small files that are opened and read, ten of each folder."""
    folders = workspace.scaled(100)
    paths = [
        os.fspath(mountpoint / "small" / f"{folder:02d}" / f"{number:02d}.txt")
        for folder in range(folders)
        for number in range(0, 100, 10)
    ]
    start = time.perf_counter()
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            file.read(4096)
    return (time.perf_counter() - start) / len(paths) * 1000


ROWS = (
    Comparison(
        "core-append-batch", "append small blocks, 500 a batch", "blocks/s", append(100_000, 500), wanted_ratio=1
    ),
    Comparison("core-append-single", "append one small block at a time", "blocks/s", append(5_000, 1), wanted_ratio=1),
    Comparison("core-get", "get a random block", "blocks/s", random_get, wanted_ratio=5),
    Comparison(
        "replicate-small",
        "replicate 100,000 small blocks",
        "blocks/s",
        replicate(100_000, _SMALL_BLOCK_BYTES, 1),
        wanted_ratio=1,
    ),
    Comparison(
        "replicate-large",
        "replicate 256 MiB in 64 KiB blocks",
        "MB/s",
        replicate(4096, _LARGE_BLOCK_BYTES, _LARGE_BLOCK_BYTES / _MEGABYTE),
        wanted_ratio=2,
    ),
    Comparison("import-small", "import 10,000 small files", "files/s", import_small, wanted_ratio=3),
    Comparison("import-large", "import one file of 1 GiB", "MB/s", import_large, wanted_ratio=2),
    Comparison(
        "mount-read",
        "mount: read a 256 MiB file, cold page cache",
        "MB/s",
        mounted(read_large),
        wanted_ratio=5,
        wanted_of_limit=0.5,
    ),
    Comparison(
        "mount-find", "mount: find over 10,000 files", "s", mounted(find_all), more_is_better=False, wanted_ratio=6
    ),
    Comparison(
        "mount-small",
        "mount: read 1,000 small files",
        "ms each",
        mounted(read_small),
        more_is_better=False,
        wanted_ratio=5,
    ),
)
