"""A folder that was imported into a store is, mounted from there by another process, the same folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hyperfs.drive.library import open_store
from tests.support.patterns import pattern

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import trio
from hyperfs.drive.library import open_store
from hyperfs.mount.session import run_mount

async def main(store, key, mountpoint):
    async with open_store(store) as opened:
        await run_mount(await opened.drive(key), mountpoint, on_ready=lambda _: print("ready", flush=True))

trio.run(main, *sys.argv[1:])
"""


def folder(path: Path) -> Path:
    """Make a folder of everything that a drive can hold."""
    (path / "a/b").mkdir(parents=True)
    (path / "a/b/large.bin").write_bytes(pattern("large", 5_000_001))
    (path / "a/empty").touch()
    (path / "ünï code").write_text("text")
    (path / "run").write_text("#!/bin/sh\n")
    (path / "run").chmod(0o755)
    (path / "link").symlink_to("a/b/large.bin")
    (path / "bare").mkdir()
    os.setxattr(path / "run", "user.colour", b"blue")
    for number in range(300):
        (path / f"many-{number}").write_bytes(pattern(number, number * 7))
    os.utime(path / "a/empty", ns=(1, 1_234_567_890_123_000_000))
    return path


@contextmanager
def mounted(store: Path, key: str, path: Path) -> Iterator[Path]:
    """Mount a drive of a store in a process of its own."""
    path.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(store), key, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield path
            process.terminate()
            assert process.wait(240) == 0
        finally:
            process.kill()
            subprocess.run(["fusermount3", "-u", "-z", "-q", str(path)], check=False, stderr=subprocess.DEVNULL)


def shown(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what a program sees of everything in a folder."""
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        stat = path.lstat()
        times = stat.st_mtime_ns // 1_000_000 if not path.is_dir() else None
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        size = None if path.is_dir() else stat.st_size
        attributes = [] if path.is_symlink() else sorted(os.listxattr(path))
        name = str(path.relative_to(root))
        found[name] = (stat.st_mode, stat.st_uid, stat.st_gid, size, times, content, attributes)
    return found


async def test_an_imported_folder_is_mounted_as_it_was(tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    async with open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        await store.import_folder(source, drive)
    with mounted(tmp_path / "store", drive.key.hex(), tmp_path / "mount") as root:
        assert shown(root) == shown(source)


async def test_an_older_version_is_mounted_as_it_was(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        writer = await store.writer(drive)
        await writer.put_file("file", b"old")
        version = drive.version
        await writer.put_file("file", b"new")
        await writer.put_file("other", b"x")
    with mounted(tmp_path / "store", f"{drive.key.hex()}+{version}", tmp_path / "mount") as root:
        assert os.listdir(root) == ["file"]
        assert (root / "file").read_bytes() == b"old"
