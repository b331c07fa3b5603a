"""The reference implementation as a process of its own that a test talks to.

    async with reference_peer(tmp_path / "their-store") as peer:
        drive = await peer.call("drive.open")
        await peer.call("drive.write", drive=drive["key"], path="/a", data={"text": "hello"})
        port = await peer.listen()

The methods are those of tests/interop/reference/lib/*.js. The rule: nothing here can hang. Every call has a deadline,
and whatever the process wrote to stderr stands in the failure's message.
"""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

REFERENCE = Path(__file__).resolve().parent.parent / "interop" / "reference"
TIMEOUT_SECONDS = 240.0
_STDERR_BYTES = 20_000


class ReferenceFailed(Exception):
    """The reference peer answered a call with an error, died, or did not answer in time."""


class ReferencePeer:
    """A running reference peer; made by `reference_peer`."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._stderr = bytearray()
        self._answers: dict[int, dict[str, Any]] = {}
        self._answered: dict[int, trio.Event] = {}
        self._sending = trio.Lock()
        self._next_id = 0
        self._over = False
        self.killed = False

    async def call(self, method: str, *, timeout_seconds: float = TIMEOUT_SECONDS, **params: Any) -> Any:
        """Return the result of ``method``; raise `ReferenceFailed` with the peer's words when it fails.

        Several tasks may call at once; the peer works on all of it.
        """
        self._next_id += 1
        number = self._next_id
        event = self._answered[number] = trio.Event()
        if self._over:
            raise ReferenceFailed(self._explain(f"{method}: the peer has ended"))
        request = json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n"
        with trio.move_on_after(timeout_seconds):
            async with self._sending:
                assert self._process.stdin is not None
                with suppress(trio.BrokenResourceError):  # it died: the end of its stdout says so, with its stderr
                    await self._process.stdin.send_all(request)
            await event.wait()
        del self._answered[number]
        answer = self._answers.pop(number, None)
        if answer is None:
            reason = "the peer ended" if self._over else f"no answer within {timeout_seconds} s"
            raise ReferenceFailed(self._explain(f"{method}: {reason}"))
        if "error" in answer:
            raise ReferenceFailed(self._explain(f"{method}: {answer['error']}"))
        return answer["result"]

    async def listen(self) -> int:
        """Accept peers on a free port of 127.0.0.1 and return it."""
        port = (await self.call("net.listen"))["port"]
        assert isinstance(port, int)
        return port

    async def connect(self, port: int) -> None:
        """Dial 127.0.0.1:``port``."""
        await self.call("net.connect", port=port)

    def kill(self) -> None:
        """End the peer as a crash would."""
        self.killed = True
        self._process.kill()

    def _explain(self, reason: str) -> str:
        return f"{reason}\n--- stderr of the reference peer ---\n{self._stderr.decode(errors='replace')}"

    async def _read_answers(self) -> None:
        assert self._process.stdout is not None
        pending = bytearray()
        async for data in self._process.stdout:
            pending += data
            *lines, rest = pending.split(b"\n")
            pending = bytearray(rest)
            for line in lines:
                answer = json.loads(line)
                event = self._answered.get(answer["id"])
                if event is not None:
                    self._answers[answer["id"]] = answer
                    event.set()
        self._over = True
        for event in self._answered.values():
            event.set()

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for data in self._process.stderr:
            self._stderr += data
            del self._stderr[:-_STDERR_BYTES]


@asynccontextmanager
async def reference_peer(
    storage: Path | None = None, *, master_key: bytes | None = None, wrapper: Sequence[str] = ()
) -> AsyncIterator[ReferencePeer]:
    """Run a reference peer with its store in the directory ``storage``, or in memory.

    A ``master_key`` makes the keys of a new store the same each time. On leaving, the peer closes its store (its files
    are whole and unlocked then) and ends. ``wrapper`` is a command to run it with.
    """
    node = shutil.which("node")
    if node is None or not (REFERENCE / "node_modules").is_dir():
        raise ReferenceFailed("the reference peer is not installed: run scripts/setup")
    async with called_process([*wrapper, node, str(REFERENCE / "peer.js")]) as peer:
        await peer.call(
            "open",
            storage=None if storage is None else str(storage),
            masterKey=None if master_key is None else master_key.hex(),
        )
        yield peer
        if not peer.killed:
            await peer.call("close")


@asynccontextmanager
async def called_process(command: Sequence[str]) -> AsyncIterator[ReferencePeer]:
    """Run a command that answers as the reference peer does: a line of JSON for each that it is sent."""
    try:
        async with trio.open_nursery() as nursery:
            process = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            peer = ReferencePeer(process)
            nursery.start_soon(peer._read_answers)
            nursery.start_soon(peer._read_stderr)
            try:
                yield peer
            finally:
                process.kill()
                with trio.CancelScope(shield=True):  # SIGKILL is not refused, so this ends
                    await process.wait()
    except BaseExceptionGroup as group:
        # The nursery is this function's own affair: a test sees the one thing that went wrong in it.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
