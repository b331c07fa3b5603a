"""A peer that breaks the rules is dropped by name, banned, and what it sent is nowhere; a good peer goes on serving."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from hyperfs import varint
from hyperfs.core.core import Core
from hyperfs.core.proofs import Received
from hyperfs.crypto import capability, discovery_key, key_pair
from hyperfs.errors import BlockTooFar
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.codec import encode_close, encode_open
from hyperfs.protocol.events import ChannelRequested, RequestReceived
from hyperfs.protocol.frames import MessageType, encode_frame
from hyperfs.replication import EndReason, Follow, Replicator
from hyperfs.storage import DiskDirectory, MemoryDirectory
from tests.support.clocks import settled
from tests.support.far_block import far_block
from tests.support.peers import (
    KEY_PAIR,
    ScriptedPeer,
    block,
    join,
    nursery_to_cancel,
    reader,
    scripted,
    serving,
    writer,
)

Deed = Callable[[ScriptedPeer, Channel, Core], Awaitable[None]]
LENGTH = 40


async def send_changed(
    peer: ScriptedPeer, channel: Channel, core: Core, change: Callable[[Received], Received]
) -> None:
    """Wait for a request and answer it with what ``change`` makes of the right answer."""
    await peer.announce(channel, LENGTH)
    request = await peer.next(RequestReceived)
    proof = await core.proof(request.index, digest=request.digest)
    answer = change(Received(request.index, block(request.index), proof.nodes, proof.signature))
    channel.send_data(answer.index, answer.value, answer.nodes, answer.signature)
    await peer.send()


async def wrong_block(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    await send_changed(peer, channel, core, lambda answer: answer._replace(value=b"forged"))


async def wrong_hash(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    def change(answer: Received) -> Received:
        first, *rest = answer.nodes
        return answer._replace(nodes=(first._replace(hash=bytes(32)), *rest))

    await send_changed(peer, channel, core, change)


async def wrong_size(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    def change(answer: Received) -> Received:
        first, *rest = answer.nodes
        return answer._replace(nodes=(first._replace(size=first.size + 1), *rest))

    await send_changed(peer, channel, core, change)


async def wrong_signature(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    await send_changed(peer, channel, core, lambda answer: answer._replace(signature=bytes(64)))


async def no_proof(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    await send_changed(peer, channel, core, lambda answer: answer._replace(nodes=(), signature=None))


async def wrong_proof_alone(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    proof = await core.proof(3, hash_only=True)
    channel.send_data(3, None, proof.nodes, bytes(64))
    await peer.send()


async def unasked_block(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    proof = await core.proof(3)
    channel.send_data(3, block(3), proof.nodes, proof.signature)
    await peer.send()


async def endless_varint(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    await peer.send_bytes(b"\xff" * 64)


async def huge_frame(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    await peer.send_bytes(varint.encode(9 << 20))


async def unopened_channel(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    await peer.send_bytes(encode_frame(77, MessageType.HAVE, b"\x08\x00"))


async def malformed_message(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    await peer.send_bytes(encode_frame(channel.local_number, MessageType.HAVE, b"\xff\xff"))


async def exploding_bitfield(peer: ScriptedPeer, channel: Channel, core: Core) -> None:
    channel.send_have(0, 1 << 20, bitfield=varint.encode((1 << 40) << 2 | 3))
    await peer.send()


DEEDS: list[tuple[Deed, str]] = [
    (wrong_block, "does not verify"),
    (wrong_hash, "does not verify"),
    (wrong_size, "does not verify"),
    (wrong_signature, "does not verify"),
    (no_proof, "does not verify"),
    (wrong_proof_alone, "does not verify"),
    (unasked_block, "sent block 3, which was not asked for"),
    (endless_varint, "frame"),
    (huge_frame, "9437184 bytes"),
    (unopened_channel, "channel 77"),
    (malformed_message, "Have"),
    (exploding_bitfield, "bitfield"),
]


@asynccontextmanager
async def meeting(deed: Deed) -> AsyncIterator[tuple[trio.Nursery, Replicator, Core, Core, ScriptedPeer]]:
    """Yield once a reader that wants blocks has met a peer that did ``deed``, and has dropped it."""
    core = await writer(LENGTH)
    replicator = Replicator()
    mine = await reader(replicator)
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        channel = await peer.open()
        nursery.start_soon(fetch_quietly, mine)
        await deed(peer, channel, core)
        # it reads on, so that nothing but its deed ends the connection
        while await peer.stream.receive_some():
            pass
        await peer.ended.wait()
        yield nursery, replicator, mine, core, peer


async def fetch_quietly(core: Core) -> None:
    await core.fetch([range(LENGTH)])


@pytest.mark.parametrize(("deed", "reason"), DEEDS, ids=[deed.__name__ for deed, _ in DEEDS])
async def test_it_is_dropped_by_name_with_the_reason(deed: Deed, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with meeting(deed) as (_, _, _, _, peer):
        assert peer.ending is not None
        assert peer.ending.reason is EndReason.MISBEHAVED
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1
        assert lines[0].startswith("dropped hostile:1: ")
        assert reason in lines[0]


@pytest.mark.parametrize(("deed", "reason"), DEEDS, ids=[deed.__name__ for deed, _ in DEEDS])
async def test_nothing_of_it_is_kept(deed: Deed, reason: str) -> None:
    async with meeting(deed) as (_, _, mine, _, _):
        assert mine.count(0, LENGTH) == 0
        assert mine.length == 0


@pytest.mark.parametrize(("deed", "reason"), DEEDS, ids=[deed.__name__ for deed, _ in DEEDS])
async def test_reading_goes_on_from_a_good_peer(deed: Deed, reason: str) -> None:
    async with meeting(deed) as (nursery, replicator, mine, core, _):
        join(nursery, replicator, serving(core))
        await mine.fetch([range(LENGTH)])
        assert await mine.get(17) == block(17)


async def test_a_banned_peer_is_not_talked_to_again() -> None:
    async with meeting(wrong_block) as (nursery, replicator, _, _, peer):
        again = scripted(nursery, replicator)
        again.key = peer.key
        again.protocol = type(peer.protocol)(initiator=True, static_key=peer.key)
        with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
            await again.open()
        await again.ended.wait()
        assert again.ending is not None
        assert again.ending.reason is EndReason.BANNED


async def test_who_passes_on_a_peers_handshake_and_then_breaks_the_rules_does_not_harm_the_peer() -> None:
    async with meeting(wrong_block) as (nursery, replicator, _, _, peer):
        itself = scripted(nursery, replicator, name="honest:1")
        itself.key = peer.key
        itself.protocol = type(peer.protocol)(initiator=True, static_key=peer.key)
        await itself.open()
        assert not itself.ended.is_set()


async def test_a_fork_is_refused_and_what_was_here_stays(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    core = await writer(8)
    other = await Core.open(MemoryDirectory(), key_pair=KEY_PAIR)
    await other.append([b"another %d" % index for index in range(16)])
    await other.sync()
    replicator = Replicator()
    mine = await reader(replicator)
    good = join(nursery, replicator, serving(core))
    await mine.fetch([range(8)])
    good.cut()
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    await peer.announce(channel, 16)
    nursery.start_soon(mine.get, 12)
    request = await peer.next(RequestReceived)
    proof = await other.proof(request.index)
    channel.send_data(request.index, await other.get(request.index), proof.nodes, proof.signature)
    await peer.send()
    await peer.ended.wait()
    assert mine.length == 8
    assert await mine.get(3) == block(3)
    assert any(record.levelno == logging.ERROR and "forked" in record.getMessage() for record in caplog.records)


async def test_a_dialler_that_does_not_know_the_key_is_refused(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    core = await writer(4)
    replicator = serving(core)
    peer = scripted(nursery, replicator, name="stranger:1")
    await peer.handshake()
    body = b"\x0a\x20" + core.discovery_key + b"\x12\x20" + bytes(32)
    await peer.send_bytes(encode_frame(1, MessageType.OPEN, body))
    await peer.hears_no(RequestReceived)
    assert replicator.status().cores[0].peers == 0
    assert any("stranger:1: it does not know the key" in record.getMessage() for record in caplog.records)


async def test_a_wrong_capability_for_a_core_that_we_opened_first_is_dropped(
    replicator: Replicator, nursery: trio.Nursery
) -> None:
    peer = scripted(nursery, replicator)
    await peer.handshake()
    await settled()
    core = await reader(replicator)
    await peer.next(ChannelRequested)
    body = b"\x0a\x20" + core.discovery_key + b"\x12\x20" + bytes(32)
    await peer.send_bytes(encode_frame(1, MessageType.OPEN, body))
    await peer.ended.wait()
    assert peer.ending is not None
    assert peer.ending.reason is EndReason.MISBEHAVED
    assert "capability" in peer.ending.message


async def test_garbage_instead_of_a_handshake_is_dropped(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    replicator = Replicator()
    peer = scripted(nursery, replicator)
    await peer.stream.send_all(b"GET / HTTP/1.1\r\n\r\n" * 100)
    await peer.ended.wait()
    assert peer.ending is not None
    assert peer.ending.reason is EndReason.MISBEHAVED
    assert "dropped hostile:1" in caplog.text


async def test_garbage_after_the_handshake_is_dropped(nursery: trio.Nursery) -> None:
    replicator = Replicator()
    peer = scripted(nursery, replicator)
    await peer.handshake()
    # decrypted it is something else each time, perhaps a long frame's beginning: go on until it is too much
    with suppress(trio.BrokenResourceError):
        while peer.ending is None:
            await peer.stream.send_all(bytes(range(256)) * 1024)
            await settled()
    await peer.ended.wait()
    assert peer.ending is not None
    assert peer.ending.reason is EndReason.MISBEHAVED


async def test_an_absurd_length_is_only_a_claim(nursery: trio.Nursery) -> None:
    core = await writer(4)
    replicator = Replicator()
    mine = await reader(replicator)
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    channel.send_have(0, 1 << 52)
    await peer.send()
    nursery.start_soon(mine.get, 2)
    request = await peer.next(RequestReceived)
    await peer.answer(channel, core, request)
    await peer.send()
    assert await mine.get(2) == block(2)
    assert mine.length == 4


async def test_a_follower_of_another_key_gets_nothing(nursery: trio.Nursery) -> None:
    core = await writer(4)
    other = Replicator()
    mine = await Core.open(MemoryDirectory(), key=key_pair(bytes(32)).public, source=other)
    other.add_core(mine, follow=Follow.NEWEST)
    replicator = serving(core)
    join(nursery, other, replicator)
    await mine.update()
    assert mine.length == 0


async def test_a_peer_that_gives_a_block_which_no_file_reaches_is_kept(nursery: trio.Nursery, tmp_path: Path) -> None:
    replicator = Replicator()
    mine = await Core.open(DiskDirectory(tmp_path), key=KEY_PAIR.public, source=replicator)
    replicator.add_core(mine, follow=Follow.NOTHING)
    peer = scripted(nursery, replicator)
    channel = await peer.open()
    await peer.announce(channel, 2)
    for _ in range(2):
        failed = trio.Event()

        async def fetch(failed: trio.Event = failed) -> None:
            with pytest.raises(BlockTooFar):
                await mine.get(1)
            failed.set()

        nursery.start_soon(fetch)
        await peer.next(RequestReceived)
        item = far_block(KEY_PAIR)
        channel.send_data(item.index, item.value, item.nodes, item.signature)
        await peer.send()
        await failed.wait()
        await peer.hears_no(RequestReceived)
    assert peer.ending is None
    await mine.close()


async def test_who_opens_closes_and_opens_again_in_one_piece_is_one_peer_and_none_when_he_has_gone() -> None:
    replicator = serving(await writer(LENGTH))
    (exchange,) = replicator.exchanges
    async with nursery_to_cancel() as nursery:
        peer = scripted(nursery, replicator)
        await peer.handshake()
        split = peer.protocol._require_split()
        key = KEY_PAIR.public
        asked = encode_open(discovery_key(key), capability(key, split.send_key, split.receive_key))
        pieces = [
            encode_frame(number, kind, body)
            for number, kind, body in (
                (1, MessageType.OPEN, asked),
                (1, MessageType.CLOSE, encode_close()),
                (2, MessageType.OPEN, asked),
            )
        ]
        await peer.send_bytes(b"".join(pieces))
        await settled()
        assert len(exchange.peers) <= 1
        await peer.stream.aclose()
        await peer.ended.wait()
        assert not exchange.peers
