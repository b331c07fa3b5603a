"""The reference implementation as a process of its own, for tests that are not async and may share it.

The methods are those of tests/interop/reference/lib/*.js, as in `tests.support.reference`. The rule is the same, too:
nothing here can hang. A call that is not answered in time ends the process, and with it the call.
"""

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .reference import REFERENCE, TIMEOUT_SECONDS, ReferenceFailed


class ReferenceProcess:
    """A running reference peer that answers one call at a time; made by `reference_process`."""

    def __init__(self, storage: Path | None, wrapper: Sequence[str]) -> None:
        node = shutil.which("node")
        if node is None or not (REFERENCE / "node_modules").is_dir():
            raise ReferenceFailed("the reference peer is not installed: run scripts/setup")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        self._process = subprocess.Popen(
            [*wrapper, node, str(REFERENCE / "peer.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self.pid = self._process.pid
        try:
            self.call("open", storage=None if storage is None else str(storage), masterKey=None)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of ``method``; raise `ReferenceFailed` with the peer's words when it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        guard = threading.Timer(TIMEOUT_SECONDS, self._process.kill)
        guard.start()
        try:
            self._process.stdin.write(json.dumps({"id": 0, "method": method, "params": params}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            guard.cancel()
        answer = json.loads(line) if line else {"error": "the peer ended, or did not answer in time"}
        if "error" in answer:
            self._errors.seek(0)
            words = self._errors.read().decode(errors="replace")[-20_000:]
            raise ReferenceFailed(f"{method}: {answer['error']}\n--- stderr of the reference peer ---\n{words}")
        return answer["result"]

    def listen(self) -> str:
        """Accept peers on a free port and return the address."""
        return f"127.0.0.1:{self.call('net.listen')['port']}"

    def connect(self, address: str) -> None:
        """Dial ``address``, once."""
        host, _, port = address.rpartition(":")
        self.call("net.connect", host=host, port=int(port))

    def close(self) -> None:
        """Close its store, so that its files are whole and unlocked, and end it."""
        try:
            if self._process.poll() is None:
                self.call("close")
        finally:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._errors.close()


@contextmanager
def reference_process(storage: Path | None = None, *, wrapper: Sequence[str] = ()) -> Iterator[ReferenceProcess]:
    """Run a reference peer, with the command ``wrapper``, with its store in the directory ``storage``, or in memory."""
    peer = ReferenceProcess(storage, wrapper)
    try:
        yield peer
    finally:
        peer.close()
