"""Cores as programs open them, and the reference: in both roles, on connections that are new and that are up."""

from pathlib import Path

import pytest
import trio

import hyperfs
from hyperfs.library.events import PeerOpened, Synced
from tests.support.reference import reference_peer
from tests.support.reference_cores import theirs_of
from tests.support.two_cores import to_cancel

LIMIT_SECONDS = 240


async def test_we_dial_with_one_core_and_add_another_while_the_connection_is_up() -> None:
    async with reference_peer() as peer:
        theirs = await theirs_of(peer, 40, 100)
        await peer.call("core.echo", core=theirs, name="echo")
        with trio.fail_after(LIMIT_SECONDS):
            async with (
                hyperfs.open_core(hyperfs.memory(), theirs) as reader,
                hyperfs.open_core(hyperfs.memory()) as writer,
                to_cancel() as nursery,
            ):
                await writer.append([b"ours %d" % index for index in range(20)])
                await peer.call("core.open", key=writer.key.hex())
                echo = reader.register_extension("echo", encoding="json")
                events = reader.events(Synced, PeerOpened)
                stream = await trio.open_tcp_stream("127.0.0.1", await peer.listen())
                connection = hyperfs.Connection(stream, initiator=True, live=True)
                connection.add(reader)
                nursery.start_soon(connection.run)
                assert [type(await anext(events)), await anext(events)] == [PeerOpened, Synced(40)]
                assert reader.downloaded() == 40
                assert (await reader.audit()).invalid == 0
                assert (reader.peers[0].length, reader.peers[0].has(0, 40), reader.peers[0].downloading) == (
                    40,
                    True,
                    False,
                )
                await echo.broadcast({"hello": 1})
                assert (await echo.receive())[0] == [{"hello": 1}]

                connection.add(writer)
                assert (await peer.call("core.update", core=writer.key.hex(), length=20))["length"] == 20
                assert (await peer.call("core.sha256", core=writer.key.hex(), end=20))["size"] == writer.byte_length
                await peer.call("core.append", core=theirs, blocks=[{"text": "live"}])
                assert await reader.get(40) == b"live"


@pytest.mark.parametrize("encrypted", [True, False])
async def test_they_dial_take_everything_of_ours_and_it_ends(encrypted: bool) -> None:
    async with reference_peer() as peer:
        with trio.fail_after(LIMIT_SECONDS):
            async with hyperfs.open_core(hyperfs.memory()) as writer:
                await writer.append([b"ours %d" % index for index in range(50)])
                key = writer.key.hex()
                await peer.call("core.open", key=key, sparse=False)
                (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
                async with listener:
                    port = listener.socket.getsockname()[1]
                    await peer.call("net.connect", port=port, live=False, encrypted=encrypted)
                    ending = await writer.replicate(await listener.accept(), initiator=False, encrypted=encrypted)
                assert ending.reason.value == "closed"
                assert (await peer.call("core.has", core=key, start=0, end=50))["count"] == 50
                assert writer.stats.uploaded_blocks == 50


@pytest.mark.parametrize("encrypted", [True, False])
async def test_we_dial_take_everything_of_theirs_and_it_ends(encrypted: bool, tmp_path: Path) -> None:
    async with reference_peer() as peer:
        theirs = await theirs_of(peer, 50, 10)
        port = (await peer.call("net.listen", live=False, encrypted=encrypted))["port"]
        with trio.fail_after(LIMIT_SECONDS):
            async with hyperfs.open_core(tmp_path, theirs) as reader:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                await reader.replicate(stream, initiator=True, encrypted=encrypted)
                assert (reader.downloaded(), reader.length) == (50, 50)
