"""The real command, in real processes, with a store and a runtime directory of its own."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 240.0


class Command(subprocess.Popen[bytes]):
    """A command that runs. Leaving it by an exception kills it: a test that failed waits for nothing."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


class Hyperfs:
    """Runs ``hyperfs`` for one store. Leaving it ends the store's daemon and its mounts, however they are."""

    def __init__(self, store: Path, runtime: Path, **environment: str) -> None:
        runtime.mkdir(mode=0o700, exist_ok=True)
        self.store = store
        self.environment = {
            **os.environ,
            "HYPERFS_STORE": str(store),
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_CONFIG_HOME": str(runtime / "config"),
            "HYPERFS_DAEMON_IDLE": "600",
            "PYTHONPATH": str(ROOT),
            "TZ": "UTC",
            **environment,
        }

    def start(self, *arguments: str | Path, wrapper: tuple[str, ...] = (), **more: Any) -> Command:
        """Start a command; its output comes through pipes."""
        command = [*wrapper, sys.executable, "-m", "hyperfs.cli.main", *map(str, arguments)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return Command(command, **{"env": self.environment, "cwd": self.store.parent, **pipes, **more})

    def run(self, *arguments: str | Path, **more: Any) -> "subprocess.CompletedProcess[bytes]":
        """Run a command to its end."""
        with self.start(*arguments, **more) as process:
            output, errors = process.communicate(timeout=DEADLINE_SECONDS)
            return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def __call__(self, *arguments: str | Path, **more: Any) -> str:
        """Run a command that must succeed, and return what it printed."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, f"hyperfs {' '.join(map(str, arguments))}: {done.stderr.decode()}"
        return done.stdout.decode()

    def json(self, *arguments: str | Path) -> Any:
        """Run a command that must succeed with ``--json``, and return what it printed."""
        return json.loads(self(*arguments, "--json"))

    def fails(self, *arguments: str | Path, status: int = 1, **more: Any) -> str:
        """Run a command that must fail with ``status`` and without a traceback; return its words."""
        done = self.run(*arguments, **more)
        words = done.stderr.decode()
        assert done.returncode == status, f"status {done.returncode}: {words}"
        assert "Traceback" not in words
        return words

    def imported(self, source: Path, *arguments: str) -> str:
        """Import a folder into a new drive and return its key."""
        return str(self.json("import", source, *arguments)["key"])

    @property
    def daemon_pid(self) -> int | None:
        """The pid of the daemon that announced itself."""
        try:
            return int(json.loads((self.store / ".hyperfs/daemon.json").read_text())["pid"])
        except (OSError, ValueError):
            return None

    @property
    def log(self) -> str:
        """What the daemon and its mounts have logged, in whole lines: the last may be being written."""
        try:
            written = (self.store / ".hyperfs/daemon.log").read_text()
        except FileNotFoundError:
            return ""
        return written[: written.rfind("\n") + 1]

    def mounts(self) -> list[dict[str, Any]]:
        """What the daemon says about its mounts."""
        return list(self.json("status")["mounts"])

    def kill_daemon(self) -> None:
        """Kill the daemon as power loss would, and wait until it is gone."""
        pid = self.daemon_pid
        assert pid is not None
        kill(pid)

    def close(self) -> None:
        """End the daemon and unmount everything."""
        pid = self.daemon_pid
        if pid is not None:
            end(pid)
        for lock in (self.store / ".hyperfs/mounts").glob("*.lock"):
            text = lock.read_text().strip()
            if text and b"hyperfs.daemon.mount_child" in command_line(int(text)):
                end(int(text))
        for mountpoint in mounted_below(self.store.parent):
            subprocess.run(["umount", "-l", mountpoint], check=False)


@contextmanager
def hyperfs_in(directory: Path, name: str = "store", **environment: str) -> Iterator[Hyperfs]:
    """Run commands for the store ``name`` in ``directory``."""
    hyperfs = Hyperfs(directory / name, directory / "run", **environment)
    try:
        yield hyperfs
    finally:
        hyperfs.close()


def command_line(pid: int) -> bytes:
    """Return a process's command line; nothing when there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    assert _signal_and_wait(pid, signal.SIGKILL), f"process {pid} does not end"


def end(pid: int) -> None:
    """Ask a process to end; kill it when it does not."""
    if not _signal_and_wait(pid, signal.SIGTERM):
        kill(pid)


def eventually(condition: Callable[[], Any]) -> None:
    """Return once ``condition()`` holds; fail after a deadline that is there only to end what hangs."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        select.select([], [], [], 0.02)


def mounted_below(directory: Path) -> list[str]:
    """Return the FUSE mount points below a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [line.split(" ")[4] for line in lines if " - fuse.hyperfs " in line]
    return [path for path in found if path.startswith(f"{directory}/")]


def _signal_and_wait(pid: int, number: int) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        if not select.select([descriptor], [], [], 0)[0]:
            signal.pidfd_send_signal(descriptor, number)
        return bool(select.select([descriptor], [], [], DEADLINE_SECONDS)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)
