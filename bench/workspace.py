"""Where a run of the bench works: folders to import, stores to measure, and the processes of both sides.

The rule: everything lies below one directory that goes away afterwards, and every process is ended by who started it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.empty_fs import FILES_IN_FOLDER, FOLDERS, SMALL_BYTES

_HERE = Path(__file__).resolve().parent
_THEIRS = ["node", str(_HERE / "reference" / "theirs.js")]
_OURS = [sys.executable, "-m", "bench.ours"]
_EMPTY_FS = [sys.executable, "-m", "bench.empty_fs"]
_HYPERFS = [str(Path(sys.executable).with_name("hyperfs"))]
_MIB = 1 << 20
_READY_TIMEOUT_SECONDS = 60.0


class Failed(Exception):
    """A process of one of the sides failed; the message holds its stderr."""


class Workspace:
    """One run's directory. ``quick`` makes everything about ten times smaller."""

    def __init__(self, directory: Path, *, quick: bool) -> None:
        self.directory = directory
        self.quick = quick
        self._count = 0
        self._stores: list[HyperfsStore] = []

    def scaled(self, count: int) -> int:
        """Return ``count``, or a tenth of it in a quick run."""
        return max(1, count // 10) if self.quick else count

    def new_directory(self, name: str) -> Path:
        """Return a path below the workspace where nothing is yet."""
        self._count += 1
        return self.directory / f"{name}-{self._count}"

    def new_store(self) -> "HyperfsStore":
        """Return an empty hyperfs store; its daemon is stopped when the workspace is closed, or before."""
        store = HyperfsStore(self.new_directory("store"))
        self._stores.append(store)
        return store

    @contextmanager
    def new_drive_mounted(self, source: Path | None = None) -> Iterator[Path]:
        """Mount a new drive, empty or with ``source`` in it, to be written to; its store goes away afterwards."""
        store = self.new_store()
        key = store.create_drive() if source is None else store.import_folder(source)
        with store.mounted(key, self.new_directory("mnt")) as mountpoint:
            yield mountpoint
        store.remove()

    def warm_memory(self, size: int) -> None:
        """Have the kernel's memory for so many bytes of files in use just now.

        A virtual machine gives back what is idle for two seconds, and getting it anew takes up to ten times as long as
        writing to it: that is not what is to be measured.
        """
        path = self.new_directory("warm")
        write_large(path, size)
        path.unlink()

    def close(self) -> None:
        """Stop the daemons of all stores."""
        for store in self._stores:
            store.stop()

    # Folders to bring in ------------------------------------------------------------------------------------------

    @cached_property
    def small_files(self) -> Path:
        """A folder of 10,000 files of 100 bytes (a quick run: 1,000): ``small/NN/NN.txt``."""
        return self.tree("small-files", self.scaled(FOLDERS))

    def tree(self, name: str, folders: int) -> Path:
        """Make a folder ``name`` with ``folders`` folders of 100 small files each, below ``small/``."""
        source = self.directory / name
        for folder in range(folders):
            path = source / "small" / f"{folder:02d}"
            path.mkdir(parents=True)
            for number in range(FILES_IN_FOLDER):
                (path / f"{number:02d}.txt").write_bytes(os.urandom(SMALL_BYTES))
        return source

    @property
    def big_bytes(self) -> int:
        """The size of the file that is read through the mounts: 256 MiB (a quick run: 25 MiB)."""
        return self.scaled(256) * _MIB

    @cached_property
    def mounted_files(self) -> Path:
        """What the mounts show: the small files, and ``big.bin``."""
        source = self.directory / "mounted-files"
        shutil.copytree(self.small_files, source)
        write_large(source / "big.bin", self.big_bytes)
        return source

    # The drives that are mounted ----------------------------------------------------------------------------------

    @cached_property
    def our_drive(self) -> tuple["HyperfsStore", str]:
        """A hyperfs store with `mounted_files` in it, and the drive's key."""
        store = self.new_store()
        return store, store.import_folder(self.mounted_files)

    @cached_property
    def their_drive(self) -> tuple[Path, str]:
        """A store of the reference with `mounted_files` in it, and the drive's key."""
        directory = self.new_directory("their-store")
        key = theirs("import", source=str(self.mounted_files), directory=str(directory))["key"]
        return directory, key


class HyperfsStore:
    """A hyperfs store and the commands that work on it. ``wrapper`` is a command that they are run with.

    They look for peers in the DHT that ``bootstrap``, ``HOST:PORT``, is a node of, and nowhere without it.
    """

    def __init__(self, directory: Path, *, wrapper: tuple[str, ...] = (), bootstrap: str | None = None) -> None:
        self.directory = directory
        self.wrapper = wrapper
        self._environment = os.environ | {
            "HYPERFS_STORE": str(directory),
            "HYPERFS_NO_DHT": "1" if bootstrap is None else "0",
            "HYPERFS_NO_MDNS": "1",
        }
        if bootstrap is not None:
            self._environment["HYPERFS_BOOTSTRAP"] = bootstrap

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command without waiting for it."""
        return subprocess.Popen(
            [*self.wrapper, *_HYPERFS, *arguments],
            env=self._environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def command(self, *arguments: str) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            [*self.wrapper, *_HYPERFS, *arguments], env=self._environment, text=True, capture_output=True, check=False
        )
        if done.returncode:
            raise Failed(f"hyperfs {' '.join(arguments)}: exit status {done.returncode}\n{done.stderr}")
        return done.stdout

    def start_daemon(self) -> None:
        """See that the daemon runs, so that no measurement pays for starting it."""
        self.command("import", str(_empty_folder(self.directory)), "--json")

    def create_drive(self) -> str:
        """Make an empty drive and return its key."""
        return self.command("create").strip()

    def import_folder(self, source: Path) -> str:
        """Bring ``source`` into a new drive and return its key."""
        key = json.loads(self.command("import", str(source), "--json"))["key"]
        assert isinstance(key, str)
        return key

    @contextmanager
    def mounted(self, key: str, mountpoint: Path, *options: str) -> Iterator[Path]:
        """Mount a drive, and unmount it afterwards."""
        mountpoint.mkdir(parents=True)
        self.command("mount", key, str(mountpoint), *options)
        try:
            yield mountpoint
        finally:
            self.command("umount", str(mountpoint))
            mountpoint.rmdir()

    def processes(self) -> list[int]:
        """Return the process ids of everything that works on this store."""
        mark = f"HYPERFS_STORE={self.directory}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue  # it has just ended
        return found

    def stop(self) -> None:
        """Stop the daemon, if it runs."""
        if self.directory.exists() and self.processes():
            self.command("stop")

    def remove(self) -> None:
        """Stop the daemon and delete the store."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def _empty_folder(store: Path) -> Path:
    folder = store.with_name(store.name + "-empty")
    folder.mkdir(exist_ok=True)
    return folder


# The two sides as processes ----------------------------------------------------------------------------------------


def theirs(work: str, *, wrapper: tuple[str, ...] = (), **params: Any) -> dict[str, Any]:
    """Let the reference do one piece of work; see bench/reference/theirs.js. ``wrapper`` as for `their_process`."""
    return _run([*wrapper, *_THEIRS, work, json.dumps(params)])


def ours(work: str, *, wrapper: tuple[str, ...] = (), **params: Any) -> dict[str, Any]:
    """Let hyperfs's library do one piece of work; see bench/ours.py. ``wrapper`` as for `their_process`."""
    return _run([*wrapper, *_OURS, work, json.dumps(params)])


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_HERE.parent)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@contextmanager
def running(command: list[str]) -> Iterator[dict[str, Any]]:
    """Run a process that prints one JSON line when it is ready, and ends when its stdin does."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_HERE.parent
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise Failed(f"{' '.join(command)}: ended before it was ready")
            yield json.loads(line)
        finally:
            process.stdin.close()
            try:
                process.wait(_READY_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def their_process(work: str, *, wrapper: tuple[str, ...] = (), **params: Any) -> "Any":
    """Run a work of the reference that lasts, such as serving; ``wrapper`` is a command to run it with."""
    return running([*wrapper, *_THEIRS, work, json.dumps(params)])


def our_process(work: str, *, wrapper: tuple[str, ...] = (), **params: Any) -> "Any":
    """Run a work of hyperfs's library that lasts, such as serving."""
    return running([*wrapper, *_OURS, work, json.dumps(params)])


@contextmanager
def their_mount(store: Path, key: str | None, mountpoint: Path) -> Iterator[Path]:
    """Mount a drive, without a key a new and empty one, with the reference's own FUSE mount."""
    mountpoint.mkdir(parents=True)
    try:
        with their_process("mount", directory=str(store), key=key, mountpoint=str(mountpoint)):
            yield mountpoint
    finally:
        mountpoint.rmdir()


@contextmanager
def empty_mount(big_bytes: int, mountpoint: Path, *, takes_turns: bool = False) -> Iterator[Path]:
    """Mount the file system that does nothing; see bench/empty_fs.py."""
    mountpoint.mkdir(parents=True)
    how = ["turns"] if takes_turns else []
    try:
        with running([*_EMPTY_FS, str(mountpoint), str(big_bytes), *how]):
            yield mountpoint
    finally:
        mountpoint.rmdir()


def write_large(path: Path, size: int) -> None:
    """Write a file of ``size`` bytes that does not compress."""
    chunk = os.urandom(_MIB)
    with path.open("wb") as file:
        for _ in range(size // _MIB):
            file.write(chunk)
