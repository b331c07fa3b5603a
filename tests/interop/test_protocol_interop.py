"""The wire against the reference's own, over TCP: handshake, channels, and every message in both directions."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from hyperfs import crypto
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import (
    CancelReceived,
    ChannelClosed,
    ChannelRefused,
    ChannelRequested,
    DataReceived,
    Event,
    ExtensionReceived,
    HandshakeDone,
    HaveReceived,
    OptionsReceived,
    RequestReceived,
    StatusReceived,
    UnhaveReceived,
    UnwantReceived,
    WantReceived,
)
from tests.support.patterns import pattern
from tests.support.reference import ReferencePeer, reference_peer
from tests.support.wire import DISCOVERY_KEY, KEY, NODE, OTHER_KEY, SIGNATURE, send_one_of_each

TIMEOUT_SECONDS = 240

both_ways = pytest.mark.parametrize("we_dial", [True, False], ids=["we-dial", "they-dial"])


class Wire:
    """A connection of ours on a socket, one event at a time."""

    def __init__(self, stream: trio.SocketStream, *, initiator: bool) -> None:
        self.connection = Connection(initiator=initiator)
        self._stream = stream
        self._events: deque[Event] = deque()

    async def flush(self) -> None:
        """Send what is to be sent."""
        await self._stream.send_all(self.connection.take_output())

    async def next(self) -> Event:
        """Return what happens next."""
        await self.flush()
        while not self._events:
            data = await self._stream.receive_some(65536)
            assert data, "the reference has ended the connection"
            self._events.extend(self.connection.receive(data))
            await self.flush()
        return self._events.popleft()

    async def open(self, key: bytes, *extensions: str) -> Channel:
        """Open a channel that the reference opens too."""
        channel = self.connection.open_channel(key, extensions=extensions)
        assert channel is not None
        while not channel.is_open:
            await self.next()
        # The reference's own opening may have come with the handshake's last bytes, before ours was made.
        if ChannelRequested(crypto.discovery_key(key)) in self._events:
            self._events.remove(ChannelRequested(crypto.discovery_key(key)))
        await self.flush()
        return channel


@asynccontextmanager
async def connected(we_dial: bool, key: bytes = KEY) -> AsyncIterator[tuple[Wire, ReferencePeer]]:
    """Connect to a reference that opens ``key``; on our side the handshake is done."""
    with trio.fail_after(TIMEOUT_SECONDS):
        async with reference_peer() as peer:
            if we_dial:
                port = (await peer.call("wire.listen", key=key.hex()))["port"]
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            else:
                [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
                async with listener:
                    port = listener.socket.getsockname()[1]
                    await peer.call("wire.connect", port=port, key=key.hex())
                    stream = await listener.accept()
            async with stream:
                wire = Wire(stream, initiator=we_dial)
                assert isinstance(await wire.next(), HandshakeDone)
                yield wire, peer


def hex_of(data: bytes) -> dict[str, str]:
    return {"hex": data.hex()}


@both_ways
async def test_both_sides_know_each_other_s_static_key(we_dial: bool) -> None:
    async with connected(we_dial) as (wire, peer):
        await wire.open(KEY)
        assert (await peer.call("wire.keys"))["remotePublicKey"] == wire.connection.static_public_key.hex()


@both_ways
async def test_reference_asks_for_its_channel(we_dial: bool) -> None:
    async with connected(we_dial) as (wire, _):
        assert await wire.next() == ChannelRequested(DISCOVERY_KEY)


@both_ways
async def test_reference_accepts_our_capability(we_dial: bool) -> None:
    async with connected(we_dial) as (wire, peer):
        await wire.open(KEY, "b", "a")
        assert await peer.call("wire.received", count=2) == [
            ["open", {}],
            ["options", {"extensions": ["a", "b"], "ack": False}],
        ]


@both_ways
async def test_reference_sees_our_refusal(we_dial: bool) -> None:
    async with connected(we_dial) as (wire, peer):
        assert await wire.next() == ChannelRequested(DISCOVERY_KEY)
        wire.connection.refuse(DISCOVERY_KEY)
        await wire.flush()
        assert await peer.call("wire.received", count=1) == [["close", {}]]


async def test_we_see_the_reference_s_refusal() -> None:
    async with connected(True) as (wire, _):
        channel = wire.connection.open_channel(OTHER_KEY)
        assert channel is not None
        assert [await wire.next(), await wire.next()] == [ChannelRequested(DISCOVERY_KEY), ChannelRefused(channel)]


async def test_connection_goes_on_after_a_refusal() -> None:
    async with connected(True) as (wire, peer):
        wire.connection.open_channel(OTHER_KEY)
        channel = await wire.open(KEY)
        channel.send_unhave(1)
        await wire.flush()
        assert (await peer.call("wire.received", count=3))[2] == ["unhave", {"start": 1, "length": 1}]


BLOCK = bytes(range(256)) * 4096

OURS: list[tuple[str, Any]] = [
    ("status", {"uploading": True, "downloading": False}),
    ("have", {"start": 3, "length": 1, "bitfield": None, "ack": False}),
    ("have", {"start": 0, "length": 8192, "bitfield": hex_of(b""), "ack": False}),
    ("unhave", {"start": 4, "length": 2}),
    ("want", {"start": 0, "length": 8192}),
    ("want", {"start": 8192, "length": 0}),
    ("unwant", {"start": 0, "length": 8192}),
    ("request", {"index": 7, "bytes": 0, "hash": False, "nodes": 5}),
    ("request", {"index": 8, "bytes": 1000, "hash": True, "nodes": 0}),
    ("cancel", {"index": 9, "bytes": 0, "hash": True}),
    (
        "data",
        {
            "index": 10,
            "value": hex_of(b"block"),
            "nodes": [{"index": 20, "hash": hex_of(NODE.hash), "size": 5}],
            "signature": hex_of(SIGNATURE),
        },
    ),
    ("data", {"index": 11, "value": hex_of(b""), "nodes": [], "signature": None}),
    ("data", {"index": 12, "value": None, "nodes": [], "signature": None}),
    ("data", {"index": 13, "value": hex_of(BLOCK), "nodes": [], "signature": hex_of(SIGNATURE)}),
    ("extension", {"id": 0, "payload": hex_of(b"payload")}),
]


@both_ways
async def test_every_message_of_ours_arrives(we_dial: bool) -> None:
    async with connected(we_dial) as (wire, peer):
        channel = await wire.open(KEY, "hypertrie")
        send_one_of_each(channel, block=BLOCK)
        await wire.flush()
        received = await peer.call("wire.received", count=2 + len(OURS))
        assert [tuple(message) for message in received[2:]] == OURS


def theirs(channel: Channel) -> list[tuple[str, dict[str, Any], Event]]:
    return [
        (
            "options",
            {"extensions": ["hypertrie"], "ack": True},
            OptionsReceived(channel, ("hypertrie",), True),
        ),
        ("status", {"uploading": False, "downloading": True}, StatusReceived(channel, False, True)),
        ("have", {"start": 41}, HaveReceived(channel, 41, 1, None, False)),
        (
            "have",
            {"start": 0, "length": 1048576, "bitfield": hex_of(b"")},
            HaveReceived(channel, 0, 1048576, b"", False),
        ),
        ("unhave", {"start": 7, "length": 3}, UnhaveReceived(channel, 7, 3)),
        ("want", {"start": 0, "length": 1048576}, WantReceived(channel, 0, 1048576)),
        ("want", {"start": 8192}, WantReceived(channel, 8192, None)),
        ("unwant", {"start": 0, "length": 8192}, UnwantReceived(channel, 0, 8192)),
        ("request", {"index": 2**40, "nodes": 2**53 - 1}, RequestReceived(channel, 2**40, 0, False, 2**53 - 1)),
        ("request", {"index": 8, "bytes": 9, "hash": True}, RequestReceived(channel, 8, 9, True, 0)),
        ("cancel", {"index": 9}, CancelReceived(channel, 9, 0, False)),
        (
            "data",
            {
                "index": 10,
                "value": hex_of(b"block"),
                "nodes": [{"index": 20, "hash": hex_of(NODE.hash), "size": 5}],
                "signature": hex_of(SIGNATURE),
            },
            DataReceived(channel, 10, b"block", (NODE,), SIGNATURE),
        ),
        ("data", {"index": 11, "value": hex_of(b""), "nodes": []}, DataReceived(channel, 11, b"", (), None)),
        ("data", {"index": 12, "nodes": []}, DataReceived(channel, 12, None, (), None)),
        ("data", {"index": 13, "value": hex_of(BLOCK), "nodes": []}, DataReceived(channel, 13, BLOCK, (), None)),
    ]


@both_ways
async def test_every_message_of_the_reference_arrives(we_dial: bool) -> None:
    async with connected(we_dial) as (wire, peer):
        channel = await wire.open(KEY)
        for name, message, event in theirs(channel):
            await peer.call("wire.send", name=name, message=message)
            assert await wire.next() == event


async def test_extension_of_the_reference_arrives() -> None:
    async with connected(True) as (wire, peer):
        channel = await wire.open(KEY)
        await peer.call("wire.send", name="options", message={"extensions": ["a", "b"], "ack": False})
        await peer.call("wire.sendExtension", id=1, payload=hex_of(b"payload"))
        assert [await wire.next(), await wire.next()] == [
            OptionsReceived(channel, ("a", "b"), False),
            ExtensionReceived(channel, "b", b"payload"),
        ]


@both_ways
async def test_keep_alives_go_by_unnoticed(we_dial: bool) -> None:
    async with connected(we_dial) as (wire, peer):
        channel = await wire.open(KEY)
        wire.connection.send_keep_alive()
        channel.send_cancel(1)
        await wire.flush()
        await peer.call("wire.received", count=3)
        await peer.call("wire.ping")
        await peer.call("wire.send", name="unhave", message={"start": 5})
        assert await wire.next() == UnhaveReceived(channel, 5, 1)


async def test_reference_notices_our_close() -> None:
    async with connected(True) as (wire, peer):
        (await wire.open(KEY)).close()
        await wire.flush()
        assert (await peer.call("wire.received", count=3))[2] == ["close", {}]


async def test_we_notice_the_reference_s_close() -> None:
    async with connected(True) as (wire, peer):
        channel = await wire.open(KEY)
        await peer.call("wire.send", name="close")
        assert await wire.next() == ChannelClosed(channel)


async def test_block_of_a_real_core_comes_with_its_proof() -> None:
    with trio.fail_after(TIMEOUT_SECONDS):
        async with reference_peer() as peer:
            key = bytes.fromhex((await peer.call("core.open", name="blocks"))["key"])
            await peer.call("core.append", core=key.hex(), count=2, size=1000, seed="s")
            stream = await trio.open_tcp_stream("127.0.0.1", await peer.listen())
            async with stream:
                wire = Wire(stream, initiator=True)
                assert isinstance(await wire.next(), HandshakeDone)
                channel = await wire.open(key)
                channel.send_want(0, 1048576)
                while not isinstance(await wire.next(), HaveReceived):
                    pass
                channel.send_request(0)
                event = await wire.next()
                while not isinstance(event, DataReceived):
                    event = await wire.next()
    block = pattern("s/0", 1000)
    leaf = (0, crypto.leaf_hash(block), len(block))
    sibling = event.nodes[0]
    root = crypto.parent_hash(2000, leaf[1], sibling.hash)
    assert event.signature is not None
    signed = crypto.signable(crypto.tree_hash([(1, root, 2000)]), 2)
    assert (event.value, crypto.verify(signed, event.signature, key)) == (block, True)
