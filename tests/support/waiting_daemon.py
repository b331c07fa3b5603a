"""A daemon whose commits wait, or fail, for as long as a test likes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import Hyperfs, eventually

DAEMON = """
import os, sys, trio
from hyperfs.daemon.__main__ import run
from hyperfs.daemon.network_settings import NetworkSettings
from hyperfs.drive.committer import LocalCommitter
commit = LocalCommitter.commit
async def delayed(self, *arguments, **more):
    while os.path.exists(sys.argv[2]):
        await trio.sleep(0.01)
    if os.path.exists(sys.argv[3]):
        raise OSError(28, "No space left on device")
    return await commit(self, *arguments, **more)
LocalCommitter.commit = delayed
sys.exit(run(sys.argv[1], None, None, verbose=False, network=NetworkSettings(dht=False, mdns=False)))
"""
"""A daemon whose commits wait while the one file exists, and fail while the other does."""


@contextmanager
def daemon_that_waits_and_fails(hyperfs: Hyperfs) -> Iterator[tuple[Path, Path, "subprocess.Popen[bytes]"]]:
    waits, fails = hyperfs.store.parent / "waits", hyperfs.store.parent / "fails"
    command = [sys.executable, "-c", DAEMON, str(hyperfs.store), str(waits), str(fails)]
    with subprocess.Popen(command, env=hyperfs.environment, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: hyperfs.daemon_pid == process.pid)
            yield waits, fails, process
        finally:
            for path in (waits, fails):
                path.unlink(missing_ok=True)
            process.terminate()
