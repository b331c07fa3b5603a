"""Extensions of a channel: what peers ask and tell beyond a core's blocks, which nothing in this room understands.

An answer names blocks that are worth downloading: as many as its question may bring at most, and only such as the peer
has announced are asked for. Of a peer's own questions `QUESTIONS_AT_ONCE` wait or are worked on, one piece at a time;
the rest is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

from hyperfs.core.reader import CoreReader, Hint, Priority
from hyperfs.replication.pace import Account

if TYPE_CHECKING:
    from hyperfs.replication.peer import Peer

QUESTIONS_AT_ONCE: Final = 32
MAX_CREDITED_QUESTIONS: Final = 64
"""Questions of ours for whose answers a peer may still name blocks."""


class Extension(Protocol):
    """An extension as it is given to a `Replicator`. One serves all connections."""

    @property
    def name(self) -> str:
        """What it is listed as to peers."""
        ...

    @property
    def blocks_per_question(self) -> int:
        """How many blocks the answers to one question name at most."""
        ...

    def receive(self, core: CoreReader, payload: bytes) -> tuple[Sequence[int], Sequence[Iterator[bytes | None]]]:
        """Return what a peer's message about ``core`` says: blocks worth downloading, and the work on its questions.

        The work on a question yields the payloads of its answers, and None in between, so that each step is short.
        Never raises for anything that a peer can send.
        """
        ...


class Extensions:
    """The extensions on one connection; `work` runs as long as that does."""

    def __init__(self, extensions: Iterable[Extension], account: Account) -> None:
        self._extensions = {extension.name: extension for extension in extensions}
        self._account = account
        self._questions: deque[tuple[Peer, str, Iterator[bytes | None]]] = deque()
        self._asked = trio.Event()

    @property
    def names(self) -> tuple[str, ...]:
        """What is listed to peers."""
        return tuple(self._extensions)

    def ask(self, peer: Peer, hint: Hint) -> bool:
        """Send a question, if both sides list its extension; tell whether it was sent."""
        extension = self._extensions.get(hint.extension)
        if extension is None or not peer.channel.remote_supports(hint.extension):
            return False
        most = MAX_CREDITED_QUESTIONS * extension.blocks_per_question
        peer.question_credit = min(most, peer.question_credit + extension.blocks_per_question)
        peer.channel.send_extension(hint.extension, hint.payload)
        return True

    def receive(self, peer: Peer, name: str, payload: bytes) -> None:
        """Act on a message of ``peer``: fetch what an answer names, begin to work on a question."""
        extension = self._extensions.get(name)
        if extension is None:
            return
        blocks, questions = extension.receive(peer.exchange.core, payload)
        if len(blocks) <= peer.question_credit:
            peer.question_credit -= len(blocks)
            self._fetch(peer, blocks)
        for question in questions:
            if len(self._questions) < QUESTIONS_AT_ONCE:
                self._questions.append((peer, name, question))
                self._asked.set()

    def _fetch(self, peer: Peer, blocks: Sequence[int]) -> None:
        core = peer.exchange.core
        wanted = [
            range(block, block + 1)
            for block in dict.fromkeys(blocks)
            if block < core.length and not core.has(block, block + 1) and peer.availability.has(block)
        ]
        if wanted:
            peer.exchange.prefetch(wanted, Priority.AHEAD)

    async def work(self) -> None:
        """Answer questions, all those that wait in turn."""
        while True:
            while not self._questions:
                self._asked = trio.Event()
                await self._asked.wait()
            question = self._questions.popleft()
            peer, name, steps = question
            async with self._account.turn():
                if not peer.is_open:
                    continue
                try:
                    payload = next(steps)
                except StopIteration:
                    continue
                self._questions.append(question)
                if payload is not None:
                    peer.channel.send_extension(name, payload)
                    peer.link.wake()
