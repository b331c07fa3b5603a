"""What one peer was asked about: the pages of blocks of which it is to tell what it has.

Each page is asked about once, and only `MAX_UNANSWERED` at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hyperfs.protocol.channel import Channel

WANT_BLOCKS: Final = 1 << 20
"""Blocks that one Want asks about; the reference counts answers by this length."""
MAX_UNANSWERED: Final = 16


class Wants:
    """The Wants on ``channel``."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._asked: set[int] = set()
        self._unanswered: set[int] = set()

    @property
    def pending(self) -> bool:
        """Whether the peer has not told yet what it has of all that it was asked about."""
        return bool(self._unanswered)

    def ask(self, pages: Iterable[int]) -> bool:
        """Ask about those of ``pages`` (of `WANT_BLOCKS` blocks) that were not asked about; tell whether all were.

        Takes no more of ``pages`` than it can ask about.
        """
        for page in pages:
            if page in self._asked:
                continue
            if len(self._unanswered) >= MAX_UNANSWERED:
                return False
            self._asked.add(page)
            self._unanswered.add(page * WANT_BLOCKS)
            self._channel.send_want(page * WANT_BLOCKS, WANT_BLOCKS)
        return True

    def answered(self, start: int) -> None:
        """Note that the peer told what it has from block ``start`` on."""
        self._unanswered.discard(start)
