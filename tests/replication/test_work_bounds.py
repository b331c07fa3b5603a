"""What a peer says makes work in proportion to itself, and memory within bounds."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from hyperfs import rle
from hyperfs.core.core import Core
from hyperfs.core.reader import Priority
from hyperfs.errors import PeerMisbehaved
from hyperfs.protocol.events import HaveReceived, UnhaveReceived, WantReceived
from hyperfs.protocol.frames import MessageType
from hyperfs.replication import Follow, Replicator
from hyperfs.replication.asking import ASKS_AT_ONCE
from hyperfs.replication.availability import PageBudget
from hyperfs.replication.exchange import Exchange
from hyperfs.replication.link import Link
from hyperfs.replication.peer import Peer
from hyperfs.replication.uploads import QuestionBudget
from hyperfs.replication.wants import MAX_UNANSWERED, WANT_BLOCKS
from tests.support.clocks import settled
from tests.support.peers import scripted, serving, writer
from tests.support.steps import steps_of
from tests.support.wire import KEY, Pair, RawPeer


class Connected:
    """An exchange with one peer that only takes notes: what is due, and what was asked of it."""

    def __init__(self, core: Core) -> None:
        self.exchange = Exchange(core, Follow.NOTHING)
        self.due: list[Peer] = []
        self.peer = self.join()
        self.channel = self.peer.channel
        self.attend()

    def join(self) -> Peer:
        """Connect one more peer."""
        channel, _ = Pair.ready().open(self.exchange.core.key)
        link = SimpleNamespace(
            name="x",
            live=True,
            wake=lambda: None,
            attend_soon=self.due.append,
            handshake_seconds=0.0,
            note_full=lambda *told: None,
        )
        peer = Peer(cast(Link, link), channel, self.exchange, pages=PageBudget(), questions=QuestionBudget())
        self.exchange.join(peer)
        self.exchange.opened(peer)
        return peer

    def attend(self) -> int:
        """Do what is due; return how many pieces that took."""
        pieces = 0
        while self.due:
            peers, self.due[:] = dict.fromkeys(self.due), []
            for peer in peers:
                pieces += 1
                self.exchange.attend(peer)
        return pieces

    def have(self, start: int, length: int = 1) -> None:
        self.exchange.announced(self.peer, self.peer.on_have(HaveReceived(self.channel, start, length, None, False)))

    def unhave(self, start: int, length: int = 1) -> None:
        self.exchange.lost(self.peer.on_unhave(UnhaveReceived(self.channel, start, length)))


@pytest.fixture
async def connected(core: Core) -> Connected:
    return Connected(core)


@pytest.mark.parametrize("wanted", [100, 20_000])
async def test_an_announcement_costs_the_same_however_much_is_wanted(connected: Connected, wanted: int) -> None:
    connected.exchange.demand([range(2 * index, 2 * index + 1) for index in range(wanted)], Priority.BACKGROUND)
    connected.attend()
    for index in range(5):

        def announce(start: int = 200_001 + 2 * index) -> None:
            connected.have(start)
            connected.attend()

        assert steps_of(announce) < 2000


async def test_a_wanted_block_is_asked_for_wherever_it_is_announced(connected: Connected) -> None:
    connected.exchange.demand([range(2 * index, 2 * index + 1) for index in range(5000)], Priority.BACKGROUND)
    connected.attend()
    for block in (9000, 2, 5001, 4000):
        connected.have(block)
        connected.attend()
    assert list(connected.peer.requests.blocks) == [9000, 2, 4000]


async def test_blocks_of_the_wanted_ones_and_others_in_turn_are_compared_a_little_at_a_time(
    connected: Connected,
) -> None:
    for index in range(3000):
        connected.have(2 * index + 1)
    connected.attend()
    connected.exchange.demand([range(2 * index, 2 * index + 1) for index in range(3000)], Priority.URGENT)
    assert not connected.peer.requests.pending
    assert connected.due
    pieces = 0
    while connected.due:
        pieces += 1
        steps = 0

        def attend() -> None:
            connected.due.clear()
            connected.exchange.attend(connected.peer)

        steps = steps_of(attend)
        assert steps < 40_000
    assert pieces > 3


async def test_many_peers_are_asked_a_little_at_a_time(connected: Connected) -> None:
    peers = [connected.join() for _ in range(30)]
    for peer in peers:
        peer.availability.add(0, 10_000)
    connected.exchange.demand([range(10_000)], Priority.URGENT)
    asked = len(connected.exchange.under_way)
    assert 0 < asked <= ASKS_AT_ONCE
    connected.attend()
    assert len(connected.exchange.under_way) > 2 * asked
    assert all(peer.requests.pending for peer in peers)


async def test_what_is_taken_back_and_said_again_is_not_looked_for_everywhere(connected: Connected) -> None:
    connected.exchange.demand([range(2 * index, 2 * index + 1) for index in range(20_000)], Priority.URGENT)
    connected.have(0)
    connected.attend()

    def say_again() -> None:
        connected.unhave(0)
        connected.have(0)
        connected.attend()

    for _ in range(5):
        assert steps_of(say_again) < 2000
        assert list(connected.peer.requests.blocks) == [0]


async def test_an_absurd_range_and_an_absurd_claim_are_asked_about_a_few_pages_at_a_time(
    core: Core, replicator: Replicator, nursery: trio.Nursery
) -> None:
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    channel.send_have((1 << 44) - 1)
    channel.send_have(0, 1 << 52)
    await peer.send()
    nursery.start_soon(lambda: core.fetch([range(1 << 52)]))
    wanted = [await peer.next(WantReceived) for _ in range(MAX_UNANSWERED)]
    assert [want.start for want in wanted] == [page * WANT_BLOCKS for page in range(MAX_UNANSWERED)]
    await peer.hears_no(WantReceived)
    channel.send_have(0, WANT_BLOCKS, bitfield=b"")
    await peer.send()
    assert (await peer.next(WantReceived)).start == MAX_UNANSWERED * WANT_BLOCKS


async def test_clearing_very_many_runs_is_told_in_few_messages(nursery: trio.Nursery) -> None:
    blocks = 40_000
    core = await writer(0, blocks=[b""] * blocks)
    replicator = serving(core)
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    channel.send_want(0, WANT_BLOCKS)
    await peer.send()
    told = trial(blocks)
    await hear(peer, told)
    assert told.count(1) == blocks
    await core.clear_all([range(index, index + 1) for index in range(0, blocks, 2)])
    messages = await hear(peer, told)
    assert peer.ending is None
    assert told == bytearray([0, 1] * (blocks // 2))
    assert messages < 100


def trial(blocks: int) -> bytearray:
    """Return what a peer knows at first: a byte for each block, 1 for those that are there."""
    return bytearray(blocks)


async def hear(peer: Any, told: bytearray) -> int:
    """Take in what ``peer`` is told until there is no more; return in how many messages that came."""
    messages = 0

    async def listen() -> None:
        nonlocal messages
        while True:
            event = await peer.next(HaveReceived | UnhaveReceived)
            messages += 1
            for offset in range(min(event.length, len(told) - event.start)):
                told[event.start + offset] = isinstance(event, HaveReceived)
            if isinstance(event, HaveReceived) and event.bitfield is not None:
                bits = rle.decode(event.bitfield, limit=1 << 20)
                for offset in range(min(event.length, len(told) - event.start)):
                    byte = bits[offset >> 3] if offset >> 3 < len(bits) else 0
                    told[event.start + offset] = byte >> (7 - (offset & 7)) & 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await settled()
        nursery.cancel_scope.cancel()
    return messages


async def test_a_want_of_everything_is_answered_page_by_page(nursery: trio.Nursery) -> None:
    peer = scripted(nursery, serving(await writer(4)))
    channel = await peer.open()
    channel.send_want(0, 1 << 50)
    await peer.send()
    while (have := await peer.next(HaveReceived)).bitfield is None:
        pass
    assert (have.start, have.length) == (0, 1 << 50)


@pytest.mark.parametrize(
    ("message_type", "body"),
    [
        (MessageType.WANT, b"\x08\x00" * 2000),
        (MessageType.STATUS, b"\x08\x00" * 2000),
        (MessageType.OPTIONS, b"\x0a\x00" * 100_000),
        (MessageType.HAVE, b"\x08\x00" * 200_000),
        (MessageType.DATA, b"\x08\x00" + b"\x1a\x00" * 10_000),
        (MessageType.DATA, b"\x08\x00\x1a\xd0\x0f" + bytes(2000) * 3),
    ],
)
def test_a_message_larger_than_any_of_its_kind_is_not_parsed(message_type: MessageType, body: bytes) -> None:
    peer = RawPeer(Pair().right)
    peer.send_open(1)
    peer.connection.open_channel(KEY)
    with pytest.raises(PeerMisbehaved, match=r" of [0-9]+ bytes|nodes"):
        peer.send_frame(1, message_type, body)


@pytest.mark.parametrize("frames", [b"\x00" * 5000, b"\x02\x1d\x00" * 5000])
def test_frames_are_looked_at_a_few_at_a_time(frames: bytes) -> None:
    peer = RawPeer(Pair().right)
    sealed = peer.encrypt(frames)
    connection = peer.connection
    assert connection.receive(sealed, at_most=100) == []
    calls = 1
    while connection.has_frames:
        connection.receive(b"", at_most=100)
        calls += 1
    assert calls == 50


@pytest.mark.parametrize("message_type", [11, 12, 13, 14])
def test_unknown_messages_of_any_size_are_ignored(message_type: int) -> None:
    peer = RawPeer(Pair().right)
    assert peer.send_frame(3, message_type, bytes(100_000)) == []


async def test_questions_on_a_channel_that_is_closed_are_not_waited_for(connected: Connected) -> None:
    connected.peer.uploads.add(WantReceived(connected.channel, 0, WANT_BLOCKS))
    assert connected.peer.uploads
    connected.channel.close()
    assert not connected.peer.uploads
