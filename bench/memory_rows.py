"""The rows that measure memory: what hyperfs's processes take at their peak, as proportional set size."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.table import Result
from bench.workspace import Failed, HyperfsStore, Workspace, their_process, write_large

_SAMPLE_SECONDS = 0.1
_MEGABYTE = 1_000_000
_SLOW_SECONDS = 20.0
_SLOW_READERS = 10
_SLOW_BYTES_PER_SECOND = 2_000_000


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """A row that measures one peak, and has a bound instead of a reference."""

    name: str
    what: str
    bound_megabytes: float
    work: Callable[[Workspace], float]

    def measure(self, workspace: Workspace, rounds: int) -> Result:
        """Do the work once, whatever ``rounds`` says: a peak does not scatter as a speed does."""
        peak = self.work(workspace)
        return Result(
            self.name,
            self.what,
            "MB",
            more_is_better=False,
            figures={"hyperfs": [peak]},
            bound=self.bound_megabytes,
        )


class Sampler:
    """Samples the summed proportional set size of a store's processes, and keeps the highest."""

    def __init__(self, store: HyperfsStore) -> None:
        self._store = store
        self._over = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._over.wait(_SAMPLE_SECONDS):
            total = sum(_proportional_set_size(process_id) for process_id in self._store.processes())
            self.peak_bytes = max(self.peak_bytes, total)

    def stop(self) -> None:
        """End `run`."""
        self._over.set()


@contextmanager
def sampling(store: HyperfsStore) -> Iterator[Sampler]:
    """Sample in a thread for as long as the block lasts."""
    sampler = Sampler(store)
    thread = threading.Thread(target=sampler.run)
    thread.start()
    try:
        yield sampler
    finally:
        sampler.stop()
        thread.join()


def _proportional_set_size(process_id: int) -> int:
    try:
        rollup = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0  # it has just ended
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert isinstance(port, int)
    return port


@contextmanager
def _served(workspace: Workspace, source: Path) -> Iterator[tuple[HyperfsStore, str, int]]:
    store = workspace.new_store()
    key = store.import_folder(source)
    port = _free_port()
    store.command("serve", key, "--listen", f"127.0.0.1:{port}")
    try:
        yield store, key, port
    finally:
        store.remove()


def walk(workspace: Workspace) -> float:
    """Mount a drive of 200,000 files from a peer and walk it: daemon and mount together, in MB."""
    source = workspace.tree("many-files", workspace.scaled(2000))
    reader = workspace.new_store()
    mountpoint = workspace.new_directory("mnt")
    with (
        _served(workspace, source) as (_, key, port),
        sampling(reader) as sampler,
        reader.mounted(key, mountpoint, "--peer", f"127.0.0.1:{port}"),
    ):
        subprocess.run(["find", str(mountpoint), "-printf", ""], check=True)
    reader.remove()
    return sampler.peak_bytes / _MEGABYTE


def serve_slow_readers(workspace: Workspace) -> float:
    """Serve 1 GiB to ten peers that ask for all of it and read slowly: the daemon, in MB."""
    source = workspace.new_directory("large")
    source.mkdir()
    write_large(source / "large.bin", workspace.scaled(1024) << 20)
    readers = workspace.new_directory("slow")
    with (
        _served(workspace, source) as (store, key, port),
        sampling(store) as sampler,
        their_process(
            "readSlowly",
            directory=str(readers),
            key=key,
            port=port,
            readers=_SLOW_READERS,
            bytesPerSecond=_SLOW_BYTES_PER_SECOND,
        ),
    ):
        threading.Event().wait(_SLOW_SECONDS)
    brought = sum(file.stat().st_blocks * 512 for file in readers.rglob("data"))
    if brought < _SLOW_READERS * _MEGABYTE:
        raise Failed(f"the slow readers got {brought} bytes: the server had nothing to do")
    print(f" (they got {brought / _MEGABYTE:.0f} MB)", end="", file=sys.stderr)
    return sampler.peak_bytes / _MEGABYTE


MEMORY_ROWS = (
    PeakMemory("memory-walk", "memory: walk a mounted drive of 200,000 files", 250, walk),
    PeakMemory("memory-serve", "memory: serve 1 GiB to ten slow readers", 200, serve_slow_readers),
)
