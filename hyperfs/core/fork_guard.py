"""What is known of a core of ours from elsewhere: that more of it was signed than is here, or another history.

The rule: what was learned is on disk before anybody acts on it, so that forgetting it takes a person and not a crash.
See docs/keeping.md, "One writer".
"""

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import trio

from hyperfs.errors import Closed, DamagedStore, WriterBehind, WriterForked, short
from hyperfs.storage.disk import replace_file

log = logging.getLogger(__name__)

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ForkSeen:
    """A signed tree of ``length`` blocks whose node ``tree_index`` is not ours, and how a peer came to show it.

    ``accepted``: the user has decided to go on with the history that is here.
    """

    length: int
    tree_index: int
    signature: str
    peer: str
    accepted: bool = False


class Blocks(Protocol):
    """What a `ForkGuard` looks at of its core."""

    @property
    def key(self) -> bytes: ...
    @property
    def length(self) -> int: ...
    def count(self, start: int, end: int) -> int: ...


class ForkGuard:
    """A core of ours among its peers. Owns one small file, or only memory when there is no path."""

    def __init__(
        self, core: Blocks, path: Path | None, *, signed_length: int = 0, fork: ForkSeen | None = None
    ) -> None:
        self._core = core
        self._path = path
        self._signed_length = signed_length
        self._news = trio.Event()
        self._closed = False
        self._owes_write = False
        """Whether the file lacks something, perhaps because writing it failed."""
        self.fork = fork
        """The other history that the core's key has signed, if one was ever met."""
        self.awaited = range(0)
        """The blocks by which peers were ahead; appending waits until they are here, or until `stop_awaiting`."""

    @property
    def behind(self) -> str | None:
        """What is missing here that the core's key has signed, in words; None when nothing is known to be."""
        if self._signed_length > self._core.length:
            return f"{self._signed_length} blocks were signed, of which {self._core.length} are known here"
        missing = len(self.awaited) - self._core.count(self.awaited.start, self.awaited.stop) if self.awaited else 0
        if missing:
            return f"{missing} of the {len(self.awaited)} blocks from {self.awaited.start} on are still to be fetched"
        return None

    def check(self) -> None:
        """Raise `WriterForked` or `WriterBehind` when an append would sign another history than somebody has."""
        key = short(self._core.key)
        fork = self.fork
        if fork is not None and not fork.accepted:
            raise WriterForked(
                f"core {key} is forked: its secret key was used in two places, and {fork.peer} has {fork.length} "
                "blocks that contradict those here; nothing is written until you decide which to keep: "
                "hyperfs fork --help"
            )
        behind = self.behind
        if behind is not None:
            raise WriterBehind(
                f"core {key} is behind its peers: {behind}; writing to it now would fork it, so connect to a peer that "
                "has the rest, and try again"
            )

    async def caught_up(self) -> None:
        """Return once nothing is known to be missing. Raises `Closed` when the core is closed before that."""
        while self.behind is not None:
            if self._closed:
                raise Closed(f"core {short(self._core.key)} is closed")
            await self._news.wait()

    def close(self) -> None:
        """End every `caught_up`: nothing comes any more."""
        self._closed = True
        self.notify()

    def await_blocks(self, blocks: range) -> None:
        """Note that a longer head was taken over, and that it added ``blocks``."""
        self.awaited = range(self.awaited.start, blocks.stop) if self.awaited else blocks

    def stop_awaiting(self) -> None:
        """Go on without what is still missing of `awaited`: no peer has it."""
        self.awaited = range(0)
        self.notify()

    def notify(self) -> None:
        """Have `caught_up` look again: the core has changed."""
        woken, self._news = self._news, trio.Event()
        woken.set()

    async def note_signed(self, length: int) -> None:
        """Take it as known that ``length`` blocks were signed somewhere.

        Raises OSError: it holds all the same, and is written by the next call. Once begun it is noted, also when
        this is cancelled.
        """
        if length > max(self._core.length, self._signed_length):
            self._signed_length = length
            self._owes_write = True
        await self._write()

    async def note_fork(self, fork: ForkSeen) -> None:
        """Take it as known that there is another history, and say so in the log. It is noted, also when cancelled."""
        log.error(
            "core %s IS FORKED: %s has %d blocks, signed by its key, that contradict those here. Its secret key was "
            "used in two places. What is here is kept%s",
            short(self._core.key),
            fork.peer,
            fork.length,
            ", as you decided" if self.fork and self.fork.accepted else ", and nothing more is written to it",
        )
        if self.fork is None:
            self.fork = fork
            self._owes_write = True
            self.notify()
        await self._write()

    async def accept_fork(self) -> None:
        """Go on with the history that is here, as the user decided; forks that are met later are only logged.

        It is noted, also when this is cancelled.
        """
        if self.fork is not None:
            self.fork = dataclasses.replace(self.fork, accepted=True)
            self._owes_write = True
            await self._write()

    async def _write(self) -> None:
        if self._path is not None and self._owes_write:
            fields: dict[str, Any] = {
                "format": _FORMAT,
                "signed_length": self._signed_length,
                "fork": dataclasses.asdict(self.fork) if self.fork else None,
            }
            content = json.dumps(fields, indent=2).encode() + b"\n"
            self._owes_write = False
            try:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(replace_file, self._path, content)
            except OSError:
                self._owes_write = True
                raise


async def load_fork_guard(core: Blocks, path: Path | None) -> ForkGuard:
    """Return what is known of ``core``, with or without a file. Raises `DamagedStore`."""
    text = None if path is None else await trio.to_thread.run_sync(_read, path)
    if text is None:
        return ForkGuard(core, path)
    try:
        fields = json.loads(text)
        fork = ForkSeen(**fields["fork"]) if fields["fork"] else None
        return ForkGuard(core, path, signed_length=int(fields["signed_length"]), fork=fork)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedStore(
            f"{path} is not readable ({error}); it told whether this core is behind or forked: compare with your other "
            "copies before you remove it"
        ) from error


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
