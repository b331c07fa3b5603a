"""A mounted drive whose peer lies: it is dropped by name, nothing of it is kept, and reading goes on elsewhere."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from hyperfs import varint
from hyperfs.core.core import Core
from hyperfs.core.proofs import Received
from hyperfs.core.store import run_store
from hyperfs.daemon.client import DaemonClient, Start, connect
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.connection import Connection
from hyperfs.protocol.events import RequestReceived
from hyperfs.protocol.frames import MessageType, encode_frame

from ..support.commands import Hyperfs, hyperfs_in
from ..support.our_peer import OurPeer, our_peer
from ..support.patterns import pattern
from ..support.peers import ScriptedPeer

DEADLINE_SECONDS = 240.0
FORGED = b"forged" * 100
FILE_BYTES = 1_200_000


@dataclass(frozen=True, slots=True)
class Meeting:
    """A peer of the daemon that has the content core's channel open, and the core to answer from."""

    peer: ScriptedPeer
    channel: Channel
    core: Core
    wanted: range

    async def answer(self, change: Callable[[Received], Received]) -> None:
        """Wait for a request and answer it with what ``change`` makes of the right answer."""
        await self.peer.announce(self.channel, self.core.length)
        request = await self.peer.next(RequestReceived)
        proof = await self.core.proof(request.index, digest=request.digest)
        right = Received(request.index, await self.core.get(request.index), proof.nodes, proof.signature)
        wrong = change(right)
        self.channel.send_data(wrong.index, wrong.value, wrong.nodes, wrong.signature)
        await self.peer.send()


async def wrong_block(meeting: Meeting) -> None:
    await meeting.answer(lambda right: right._replace(value=FORGED))


async def wrong_hash(meeting: Meeting) -> None:
    def change(right: Received) -> Received:
        first, *rest = right.nodes
        return right._replace(nodes=(first._replace(hash=FORGED[:32]), *rest))

    await meeting.answer(change)


async def wrong_signature(meeting: Meeting) -> None:
    await meeting.answer(lambda right: right._replace(value=FORGED, signature=FORGED[:64]))


async def unasked_block(meeting: Meeting) -> None:
    index = meeting.wanted.start
    proof = await meeting.core.proof(index)
    meeting.channel.send_data(index, await meeting.core.get(index), proof.nodes, proof.signature)
    await meeting.peer.send()


async def endless_varint(meeting: Meeting) -> None:
    await meeting.peer.send_bytes(b"\xff" * 64)


async def frame_of_9_mib(meeting: Meeting) -> None:
    await meeting.peer.send_bytes(varint.encode(9 << 20))


async def garbage(meeting: Meeting) -> None:
    await meeting.peer.send_bytes(encode_frame(meeting.channel.local_number, MessageType.HAVE, FORGED))


async def garbage_on_no_channel(meeting: Meeting) -> None:
    await meeting.peer.send_bytes(encode_frame(77, MessageType.DATA, FORGED))


async def exploding_bitfield(meeting: Meeting) -> None:
    meeting.channel.send_have(0, 1 << 20, bitfield=varint.encode((1 << 40) << 2 | 3))
    await meeting.peer.send()


DEEDS: list[tuple[Callable[[Meeting], Awaitable[None]], str]] = [
    (wrong_block, "does not verify"),
    (wrong_hash, "does not verify"),
    (wrong_signature, "does not verify"),
    (unasked_block, "was not asked for"),
    (endless_varint, "frame"),
    (frame_of_9_mib, "9437184 bytes"),
    (garbage, "Have"),
    (garbage_on_no_channel, "channel 77"),
    (exploding_bitfield, "bitfield"),
]
NAMES = [deed.__name__ for deed, _ in DEEDS] + ["wrong_capability", "no_handshake", "both"]


@dataclass(frozen=True, slots=True)
class Mounted:
    """A store that nobody has open with a drive in it, and a reader that has mounted it and knows all its names."""

    source: Path
    key: str
    reader: Hyperfs
    folder: Path


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    directory = tmp_path_factory.mktemp("verified")
    (directory / "folder").mkdir()
    (directory / "mnt").mkdir()
    for name in NAMES:
        (directory / "folder" / name).write_bytes(pattern(name, FILE_BYTES))
    with hyperfs_in(directory, "reader") as reader:
        with hyperfs_in(directory, "source") as source:
            key = source.imported(directory / "folder")
            (address,) = source.json("serve", key, "--listen", "127.0.0.1:0")["listening"]
            reader("ls", "-lR", key, "--peer", address)
            source("stop")
        reader("mount", key, directory / "mnt", "--timeout", "30")
        yield Mounted(directory / "source", key, reader, directory / "mnt")


@asynccontextmanager
async def parties(mounted: Mounted) -> AsyncIterator[tuple[OurPeer, DaemonClient, Core]]:
    """Open the source store here, as a peer that is to be trusted, and a connection to the reader's daemon."""
    with trio.fail_after(DEADLINE_SECONDS), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", mounted.reader.environment["XDG_RUNTIME_DIR"])
        async with (
            our_peer(mounted.source) as good,
            connect(mounted.reader.store, start=Start.NEVER, timeout_seconds=30) as client,
        ):
            drive = await good.drive(mounted.key)
            yield good, client, await good.open_core(drive.volume.content_key)


class Listener:
    """Accepts one connection that the daemon dials. Entered: listens."""

    def __init__(self) -> None:
        self._socket = trio.socket.socket()
        self._accepted: list[trio.SocketStream] = []

    async def __aenter__(self) -> "Listener":
        await self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()
        for stream in self._accepted:
            await trio.aclose_forcefully(stream)

    async def accept(self) -> ScriptedPeer:
        """Return a peer that the daemon has dialled."""
        connected, _ = await self._socket.accept()
        stream = trio.SocketStream(connected)
        self._accepted.append(stream)
        peer = ScriptedPeer(stream)
        peer.protocol = Connection(initiator=False, static_key=peer.key)
        return peer


async def hang_up(peer: ScriptedPeer) -> None:
    """Return once the daemon has ended the connection."""
    try:
        while await peer.stream.receive_some():
            pass
    except trio.BrokenResourceError:
        return


async def dropped(reader: Hyperfs, address: str) -> str:
    """Return the log line that names the peer at ``address``, once there is one."""
    while True:
        lines = [line for line in reader.log.splitlines() if f"dropped {address}: " in line]
        if lines:
            assert len(lines) == 1
            return lines[0]
        await trio.sleep(0.01)


@pytest.mark.parametrize(("deed", "reason"), DEEDS, ids=[deed.__name__ for deed, _ in DEEDS])
async def test_a_liar_is_dropped_and_reading_goes_on(
    mounted: Mounted, deed: Callable[[Meeting], Awaitable[None]], reason: str
) -> None:
    name = deed.__name__
    read: list[bytes] = []

    async def read_file() -> None:
        read.append(await trio.to_thread.run_sync((mounted.folder / name).read_bytes))

    async with parties(mounted) as (good, client, core), Listener() as listener, trio.open_nursery() as nursery:
        snapshot = (await good.drive(mounted.key)).snapshot()
        wanted = (await snapshot.open(await snapshot.stat(name))).run.blocks
        await client.use_peers([listener.address])
        peer = await listener.accept()
        channel = await peer.open(core.key)
        nursery.start_soon(read_file)
        await deed(Meeting(peer, channel, core, wanted))
        await hang_up(peer)
        assert reason in await dropped(mounted.reader, listener.address)
        view = await client.open_core(core.key)
        assert view.count(wanted.start, wanted.stop) == 0
        assert read == []
        await client.use_peers([f"127.0.0.1:{await good.listen()}"])
    assert read == [pattern(name, FILE_BYTES)]


async def test_a_wrong_capability_is_dropped(mounted: Mounted) -> None:
    async with parties(mounted) as (_, client, core), Listener() as listener:
        await client.use_peers([listener.address])
        peer = await listener.accept()
        await peer.handshake()
        body = b"\x0a\x20" + core.discovery_key + b"\x12\x20" + bytes(32)
        await peer.send_bytes(encode_frame(1, MessageType.OPEN, body))
        await hang_up(peer)
        assert "capability" in await dropped(mounted.reader, listener.address)


async def test_garbage_instead_of_a_handshake_is_dropped(mounted: Mounted) -> None:
    async with parties(mounted) as (_, client, _), Listener() as listener:
        await client.use_peers([listener.address])
        peer = await listener.accept()
        await peer.stream.send_all(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)
        await hang_up(peer)
        assert await dropped(mounted.reader, listener.address)


async def test_a_liar_beside_a_good_peer_makes_no_difference(mounted: Mounted) -> None:
    async with parties(mounted) as (good, client, core), Listener() as listener, trio.open_nursery() as nursery:

        async def lie() -> None:
            peer = await listener.accept()
            meeting = Meeting(peer, await peer.open(core.key), core, range(0))
            await wrong_block(meeting)

        nursery.start_soon(lie)
        await client.use_peers([listener.address, f"127.0.0.1:{await good.listen()}"])
        assert await trio.to_thread.run_sync((mounted.folder / "both").read_bytes) == pattern("both", FILE_BYTES)
        nursery.cancel_scope.cancel()


async def test_a_liar_is_not_dialled_again(mounted: Mounted) -> None:
    async with parties(mounted) as (_, client, _), Listener() as listener:
        await client.use_peers([listener.address])
        peer = await listener.accept()
        await peer.stream.send_all(bytes(1000))
        await hang_up(peer)
        await dropped(mounted.reader, listener.address)
        await client.use_peers([listener.address])
        with trio.move_on_after(1) as scope:
            await listener.accept()
        assert scope.cancelled_caught


def test_nothing_of_any_liar_is_in_the_store(mounted: Mounted) -> None:
    assert "Traceback" not in mounted.reader.log
    mounted.reader("umount", mounted.folder)
    mounted.reader("stop")

    async def audit() -> dict[str, list[int]]:
        async with run_store(mounted.reader.store) as store:
            return {key.hex(): await (await store.core(key)).audit() for key in list(store.keys())}

    assert set(map(tuple, trio.run(audit).values())) == {()}
    for file in mounted.reader.store.glob("??/??/*/*"):
        assert FORGED[:32] not in file.read_bytes()
