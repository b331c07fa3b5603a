"""The mount alone, beside an empty pyfuse3 file system: ``python -m bench.mount [FILES]``.

Makes a store with a drive of one 256 MiB file, ``small/`` of 10,000 files and a tree of FILES more (0), mounts it from
that very store, without a daemon, and prints what reading and walking it takes with a cold page cache (which needs
root), and the memory of the mount process. Each figure is the median of three.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

BIG_BYTES = 256 << 20
SMALL_FILES = 10_000
READ_FILES = 1_000
SMALL_BYTES = 1_000
FILES_IN_FOLDER = 1_000
_ROUNDS = 3
_READY = "ready"


async def make(store: Path, files: int) -> str:
    """Write the drive and return its key."""
    from hyperfs.drive.library import open_store
    from hyperfs.drive.stat import Stat

    block = os.urandom(1 << 20)

    async with open_store(store) as opened:
        drive = await opened.create_drive()
        writer = await opened.writer(drive)
        await writer.put_file("big.bin", b"".join(bytes([n]) + block[1:] for n in range(BIG_BYTES >> 20)))
        async with writer.batch() as batch:
            for number in range(SMALL_FILES):
                await batch.put_file(
                    f"small/{number // 100:02}/{number % 100:02}.txt", block[number : number + SMALL_BYTES]
                )
        for first in range(0, files, FILES_IN_FOLDER):
            async with writer.batch() as batch:
                for number in range(first, min(files, first + FILES_IN_FOLDER)):
                    batch.put_stat(f"tree/{first // FILES_IN_FOLDER:03}/some-file-{number:06}.txt", Stat(0o100644))
        return drive.key.hex()


async def serve(store: str, key: str, mountpoint: str) -> None:
    """Mount the drive until told to end."""
    from hyperfs.drive.drive import Drive
    from hyperfs.drive.library import open_store
    from hyperfs.mount import NODE_CACHE_BYTES
    from hyperfs.mount.session import run_mount
    from hyperfs.trie import NodeCache

    async with open_store(store) as opened:
        drive = await Drive.open(opened, bytes.fromhex(key), cache=NodeCache(NODE_CACHE_BYTES))
        await run_mount(drive, mountpoint, on_ready=lambda _: print(_READY, flush=True))


@contextmanager
def mounted(command: list[str]) -> Iterator[int]:
    """Run a mount process; give its process id."""
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert _READY in process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.stdin.close()
            process.terminate()


def cold() -> None:
    """Drop the page cache, names and inodes."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def seconds(work: Callable[[], object], *, prepare: Callable[[], object] = cold) -> float:
    """Return the median time of some work, each time after ``prepare``."""
    times = []
    for _ in range(_ROUNDS):
        prepare()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def read_big(root: Path) -> None:
    """Read the large file from its beginning to its end."""
    subprocess.run(["dd", f"if={root}/big.bin", "of=/dev/null", "bs=1M", "status=none"], check=True)


def find(folder: Path) -> None:
    """Ask for the size of everything."""
    subprocess.run(["find", folder, "-printf", "%s\n"], check=True, stdout=subprocess.DEVNULL)


def read_small(root: Path) -> None:
    """Read some of the small files."""
    for number in range(0, SMALL_FILES, SMALL_FILES // READ_FILES):
        (root / f"small/{number // 100:02}/{number % 100:02}.txt").read_bytes()


def warm_store(store: Path) -> None:
    """Have the store's files in the page cache, and nothing of the mount."""
    cold()
    subprocess.run(f"find {store} -type f -exec cat {{}} + > /dev/null", shell=True, check=True)


def pss_megabytes(pid: int) -> float:
    """Return the proportional set size of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def report(name: str, value: float, unit: str) -> None:
    """Print a figure."""
    print(f"{name:<44} {value:>10.3f} {unit}", flush=True)


def main(files: int) -> None:
    """Measure everything."""
    with tempfile.TemporaryDirectory(prefix="hyperfs-bench-") as work:
        store, root = Path(work) / "store", Path(work) / "mnt"
        root.mkdir()
        key = trio.run(make, store, files)
        with mounted(["-m", "bench.empty_fs", str(root), str(BIG_BYTES)]):
            report("empty file system: read 256 MiB", BIG_BYTES / 1e6 / seconds(lambda: read_big(root)), "MB/s")
            report("empty file system: find, 10,000 files", seconds(lambda: find(root / "small")), "s")
            small = seconds(lambda: read_small(root)) / READ_FILES
            report("empty file system: read a small file", 1000 * small, "ms")
        with mounted(["-m", "bench.mount", "serve", str(store), key, str(root)]) as pid:
            report("read 256 MiB, everything cold", BIG_BYTES / 1e6 / seconds(lambda: read_big(root)), "MB/s")
            hot = seconds(lambda: read_big(root), prepare=lambda: warm_store(store))
            report("read 256 MiB, the store in memory", BIG_BYTES / 1e6 / hot, "MB/s")
            report("find, 10,000 files, everything cold", seconds(lambda: find(root / "small")), "s")
            small = seconds(lambda: read_small(root)) / READ_FILES
            report("read a small file, everything cold", 1000 * small, "ms")
            small = seconds(lambda: read_small(root), prepare=lambda: warm_store(store)) / READ_FILES
            report("read a small file, the store in memory", 1000 * small, "ms")
            report("memory after that", pss_megabytes(pid), "MB")
        if files:
            with mounted(["-m", "bench.mount", "serve", str(store), key, str(root)]) as pid:
                start = time.perf_counter()
                find(root / "tree")
                report(f"find, {files} files", time.perf_counter() - start, "s")
                report("memory after that", pss_megabytes(pid), "MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        trio.run(serve, *sys.argv[2:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
