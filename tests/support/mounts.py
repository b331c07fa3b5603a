"""Mounts of drives in memory, each in a process of its own, so that one that hangs cannot hang the tests."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 240.0
LIFETIME_SECONDS = 900.0
"""After which a mount is ended in any case: more than all the tests that share one take on a busy machine."""


def comes_true(condition: Callable[[], bool]) -> bool:
    """Tell whether ``condition`` comes to hold before the deadline, which is there only to end what hangs."""
    ended = threading.Event()
    timer = threading.Timer(DEADLINE_SECONDS, ended.set)
    timer.start()
    try:
        while not condition():
            if ended.wait(0.005):
                return False
        return True
    finally:
        timer.cancel()


class Mounted:
    """A process of `mount_process` and its mount point. Leaving it kills the process and unmounts in any case."""

    def __init__(
        self, path: Path, *, prepare: str = "", version: int | None = None, makes_folder: bool = True, **options: Any
    ) -> None:
        self.path = path
        self._is_ready = True
        if makes_folder:
            path.mkdir(exist_ok=True)
        self.log: list[str] = []
        arguments = json.dumps([options, prepare, version])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.mount_process", str(path), arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._guard = threading.Timer(LIFETIME_SECONDS, self._end)
        self._guard.daemon = True
        self._guard.start()
        ready = self._answer()
        if ready != "ready":
            self._is_ready = False
            self.close()
            raise AssertionError(f"the mount did not get ready: {ready}")

    @classmethod
    def again(cls, path: Path, *, prepare: str) -> Self:
        """Mount at a path where another process has mounted, dead or alive."""
        return cls(path, prepare=prepare, makes_folder=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, body: str) -> Any:
        """Run the body of an async function in the process and return what it returns."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(body) + "\n")
        self.process.stdin.flush()
        result = self._answer()
        if isinstance(result, dict) and "error" in result:
            raise AssertionError(result["error"])
        return result

    def terminate(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)

    def wait(self) -> int:
        """Return the exit status once the process has ended."""
        return self.process.wait(DEADLINE_SECONDS)

    def is_mounted(self) -> bool:
        """Tell, without asking the mount, whether it is there."""
        return f" {self.path} " in Path("/proc/self/mountinfo").read_text()

    def close(self) -> None:
        self._guard.cancel()
        self._end()
        self._reader.join(DEADLINE_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        if self._is_ready:
            for connection in self._connections():
                connection.write_text("1")
            subprocess.run(["fusermount3", "-u", "-z", "-q", str(self.path)], check=False, stderr=subprocess.DEVNULL)
        self.process.wait(DEADLINE_SECONDS)

    def _connections(self) -> list[Path]:
        """Return what ends the mount's FUSE connection by force: a process that waits in it cannot be killed else."""
        lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        found = [
            Path("/sys/fs/fuse/connections") / fields[2].partition(":")[2] / "abort"
            for fields in lines
            if fields[4] == str(self.path)
        ]
        return [path for path in found if path.exists()]

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(DEADLINE_SECONDS)
            self._reader.join(DEADLINE_SECONDS)
            return {"error": "the mount process ended:\n" + "".join(self.log)}
        return json.loads(line)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
