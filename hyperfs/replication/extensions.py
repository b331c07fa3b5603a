"""The `hypertrie` extension between peers: hints go out, the blocks that answers name are fetched; and the other way.

The one rule: an answer names at most as many blocks as its question may bring, only such as the peer has announced are
asked for, and of a peer's own questions 32 are worked on at once and the rest is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from hyperfs.core.reader import Priority
from hyperfs.trie import extension
from hyperfs.trie.cache import NodeCache

if TYPE_CHECKING:
    from hyperfs.replication.peer import Peer

EXTENSION: Final = extension.NAME
MAX_CREDIT: Final = 64 * extension.BLOCKS_PER_QUESTION
"""Blocks that a peer may still name at most, however many questions it was asked."""


class TrieQuestions:
    """Both sides of the extension on one connection. Works in ``nursery``, which must be set before `receive`."""

    def __init__(self, cache: NodeCache) -> None:
        self.nursery: trio.Nursery | None = None
        self._cache = cache
        self._working = 0

    def ask(self, peer: Peer, payload: bytes) -> bool:
        """Send a question, if ``peer`` lists the extension; tell whether it was sent."""
        if not peer.channel.remote_supports(EXTENSION):
            return False
        peer.question_credit = min(MAX_CREDIT, peer.question_credit + extension.BLOCKS_PER_QUESTION)
        peer.channel.send_extension(EXTENSION, payload)
        return True

    def receive(self, peer: Peer, payload: bytes) -> None:
        """Act on a message of ``peer``: fetch what an answer names, begin to work on a question."""
        for message in extension.parse(payload):
            if isinstance(message, extension.Answer):
                self._fetch(peer, message)
            elif self.nursery is not None and self._working < extension.QUESTIONS_AT_ONCE:
                self._working += 1
                self.nursery.start_soon(self._work, peer, message)

    def _fetch(self, peer: Peer, answer: extension.Answer) -> None:
        named = len(answer.blocks)
        if named > peer.question_credit:
            return
        peer.question_credit -= named
        wanted = [block for block in extension.wanted(peer.exchange.core, answer) if peer.availability.has(block)]
        if wanted:
            peer.exchange.bring([range(block, block + 1) for block in wanted], Priority.AHEAD)

    async def _work(self, peer: Peer, question: extension.GetQuestion | extension.IteratorQuestion) -> None:
        try:
            for payload in extension.answer(peer.exchange.core, question, self._cache):
                if not peer.is_open:
                    return
                peer.channel.send_extension(EXTENSION, payload)
                peer.link.wake()
                await trio.lowlevel.checkpoint()
        finally:
            self._working -= 1
