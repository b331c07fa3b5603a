"""A new drive, mounted to be written to by the real command and daemon."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import Hyperfs, eventually, hyperfs_in


class WritableMount:
    """A drive and the folder that it is mounted at."""

    def __init__(self, hyperfs: Hyperfs, folder: Path, *options: str) -> None:
        self.hyperfs = hyperfs
        self.folder = folder
        self.key = hyperfs("create").split()[0]
        folder.mkdir(exist_ok=True)
        self.mount(*options)

    def mount(self, *options: str) -> None:
        self.hyperfs("mount", self.key, self.folder, *options)

    def unmount(self) -> None:
        """Unmount; everything written is a version of the drive then."""
        self.hyperfs("umount", self.folder)

    def version(self) -> int:
        return int(self.hyperfs.json("info", self.key)["version"])

    def cat(self, path: str) -> bytes:
        """What the drive's newest version has, read without the mount."""
        return self.hyperfs.run("cat", self.key, path).stdout

    def kill(self) -> None:
        """Kill the mount's process, as a crash would; the daemon mounts again."""
        (mount,) = self.hyperfs.mounts()
        os.kill(mount["pid"], signal.SIGKILL)
        eventually(lambda: self.hyperfs.mounts()[0]["pid"] not in (None, mount["pid"]))
        eventually(lambda: self.hyperfs.mounts()[0]["state"] == "mounted")


@contextmanager
def writable_mount(directory: Path, *options: str) -> Iterator[WritableMount]:
    """Make a drive in a store in ``directory`` and mount it there."""
    with hyperfs_in(directory) as hyperfs:
        yield WritableMount(hyperfs, directory / "mnt", *options)
