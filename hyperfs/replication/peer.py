"""One peer on one core: what it has, what was asked of it, and what it asked.

Everything kept for a peer is bounded, each part by its owner: `availability`, `requests`, `wants`, `haves`, `uploads`.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

import trio

from hyperfs import rle
from hyperfs.errors import EncodingError, PeerMisbehaved
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.events import HaveReceived, UnhaveReceived
from hyperfs.replication.availability import PAGE_BITS, Availability, PageBudget
from hyperfs.replication.deadline import AnswerDeadline
from hyperfs.replication.demand import Flight
from hyperfs.replication.haves import Haves
from hyperfs.replication.pace import Account
from hyperfs.replication.requests import Requests
from hyperfs.replication.status import Terms
from hyperfs.replication.uploads import QuestionBudget, Uploads
from hyperfs.replication.wants import WANT_BLOCKS, Wants
from hyperfs.replication.window import Window

if TYPE_CHECKING:
    from hyperfs.replication.exchange import Exchange
    from hyperfs.replication.link import Link


MAX_SILENCE_SECONDS: Final = 60.0
"""For how long a peer that did not answer is not counted on, at most."""


class Liveness(enum.Enum):
    """Whether a peer can be counted on to answer."""

    NEW = "it has not answered yet"
    ANSWERING = "it answers"
    SILENT = "it owes an answer for too long"


class Peer:
    """A peer on one core; it exists from our Open until either side closes the channel.

    ``pages`` and ``questions`` are what the cores of its connection may keep together; ``rely`` as for `Requests`.
    ``only_asked``: it is told nothing of what is here, since it hears of that over another connection.
    """

    def __init__(
        self,
        link: Link,
        channel: Channel,
        exchange: Exchange,
        *,
        pages: PageBudget,
        questions: QuestionBudget,
        rely: bool = True,
        only_asked: bool = False,
        terms: Terms | None = None,
    ) -> None:
        self.link = link
        self.only_asked = only_asked
        self.channel = channel
        self.exchange = exchange
        self.availability = Availability(pages)
        self.window = Window()
        self.deadline = AnswerDeadline()
        self.requests = Requests(channel, exchange.core, rely=rely)
        self.wants = Wants(channel)
        self.haves = Haves(channel, exchange.core)
        self.uploads = Uploads(channel, exchange.core, self.haves, questions)
        self.is_open = False
        self.joined_at = trio.current_time()
        self.heard = trio.Event()
        """Set once the peer has told what it has, is gone, says that it gives nothing, or says nothing for too long."""
        self.terms = terms or Terms()
        self.downloading = True
        """Whether anything is asked of it."""
        self.is_done = False
        """Whether it was told that nothing more is wanted of it; see `hyperfs.replication.finishing`."""
        self.downloaded_blocks = 0
        self.downloaded_bytes = 0
        self.remote_uploading = True
        self.remote_downloading = True
        self.announcements = 0
        """How often the peer announced something."""
        self.filled_at = -math.inf
        """When it last announced, beside others, a block that somebody had before: it fetches what there is."""
        self.wants_made_for = (-1, -1)
        """For which demands, and which claimed length, all Wants were sent."""
        self.last_answer_at = 0.0
        self.liveness = Liveness.NEW
        self.silences = 0
        """How often it fell silent, and soon again."""
        self._silent_until = 0.0
        self.question_credit = 0
        """Blocks that the peer may still name in answers to hints."""

    @property
    def can_be_asked(self) -> bool:
        """Whether it gives anything, and we want anything of it."""
        return self.remote_uploading and self.downloading

    def on_answer(self, now: float, *, block: bool) -> None:
        """Note that the peer answered, at trio's time ``now``; only with a ``block`` does it count as answering."""
        self.last_answer_at = now
        if block and (self.liveness is Liveness.NEW or now >= self._silent_until):
            self.liveness = Liveness.ANSWERING

    def fell_silent(self, now: float) -> None:
        """Note that the peer does not answer; what was measured of its line counts no more.

        Twice it is counted on again with its next answer; after that only some time later.
        """
        if now - self._silent_until > MAX_SILENCE_SECONDS:
            self.silences = 0
        self.silences += 1
        self.liveness = Liveness.SILENT
        self._silent_until = now + (0.0 if self.silences <= 2 else min(MAX_SILENCE_SECONDS, 0.25 * 2**self.silences))
        self.window.restart()

    def on_have(self, have: HaveReceived) -> range:
        """Take in an announcement without a bitfield; return where it says something new."""
        self.announcements += 1
        said = range(have.start, have.start + max(1, have.length))
        is_more = self.availability.claimed_length > 0 and not self.availability.has(said.start)
        if is_more and self.heard.is_set() and said.start < self.exchange.longest_claim:
            self.filled_at = trio.current_time()
        self.availability.add(said.start, said.stop)
        return said

    async def on_bitfield(self, have: HaveReceived, account: Account) -> range:
        """Take in one with a bitfield, within a turn. Raises PeerMisbehaved for what is none.

        Cancelled, nothing of it is taken in. Who waits to hear of it finds it taken in.
        """
        said = await self._take_bits(have, account)
        self.announcements += 1
        self.heard.set()
        return said

    async def _take_bits(self, have: HaveReceived, account: Account) -> range:
        if have.start % PAGE_BITS or have.bitfield is None:
            return range(0)
        length = min(-(-have.length // PAGE_BITS) * PAGE_BITS, WANT_BLOCKS)
        bits = b""
        try:
            for decoded in rle.decode_in_steps(have.bitfield, limit=WANT_BLOCKS // 8):
                bits = decoded or b""
                await account.rest()
        except EncodingError as error:
            raise PeerMisbehaved(f"sent a bitfield that is none: {error}") from error
        if length <= PAGE_BITS:
            # older peers say 0 or 1 here and mean all that the bitfield covers
            length = max(PAGE_BITS, -(-len(bits) * 8 // PAGE_BITS) * PAGE_BITS)
        self.availability.set_bits(have.start, bits, length)
        self.wants.answered(have.start)
        return range(have.start, have.start + length)

    def on_unhave(self, unhave: UnhaveReceived) -> list[Flight]:
        """Take back what was announced; return the flights that will not be answered."""
        start, stop = unhave.start, unhave.start + max(1, unhave.length)
        self.availability.remove(start, stop)
        return self.requests.retract(start, stop)
