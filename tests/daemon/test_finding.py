"""Which drives a daemon looks for and announces, and where: with a DHT of its own, on this machine alone."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from hyperfs.crypto import discovery_key
from hyperfs.daemon.answers import NodeTold, TopicTold
from hyperfs.daemon.client import DaemonClient
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.network_settings import NetworkChange, NetworkSettings
from hyperfs.daemon.places import Places, places_of
from hyperfs.daemon.ports import free_port, is_free
from hyperfs.daemon.server import open_daemon
from hyperfs.daemon.state import MountChoices, MountRecord, Served, State, read_state
from hyperfs.drive.drive import Drive
from hyperfs.errors import UsageError
from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.service import DhtService, open_dht

from ..support.stores import client_of, eventually, places, written_drive

__all__ = ["places"]

HERE = "127.0.0.1"
LIMIT_SECONDS = 60


@asynccontextmanager
async def first_node() -> AsyncIterator[DhtService]:
    with trio.fail_after(LIMIT_SECONDS):
        async with open_dht(HERE, bootstrap=[], ephemeral=False) as node:
            yield node


@asynccontextmanager
async def in_network(places: Places, first: DhtService, *, port: int | None = None) -> AsyncIterator[Running]:
    settings = NetworkSettings(mdns=False, bootstrap=(str(first.address),), port=port)
    async with open_daemon(places, settings) as daemon, client_of(places) as client:
        yield Running(daemon, client)


class Running:
    """A daemon, and a client of it."""

    def __init__(self, daemon: Daemon, client: DaemonClient) -> None:
        self.daemon = daemon
        self.client = client

    @property
    def topics(self) -> set[bytes]:
        """What is looked for, or announced."""
        return set(self.daemon.swarm.topics)


async def announced(first: DhtService, key: bytes) -> list[Address]:
    async with open_dht(HERE, bootstrap=[first.address]) as looker:
        return [peer.address async for peer in looker.lookup(discovery_key(key))]


async def until_announced(first: DhtService, key: bytes, count: int) -> list[Address]:
    while len(found := await announced(first, key)) != count:
        await trio.lowlevel.checkpoint()
    return found


async def test_of_a_served_drive_the_metadata_is_announced_at_the_port_that_is_listened_on(places: Places) -> None:
    async with first_node() as first, in_network(places, first) as serving:
        drive = await written_drive(serving.client, {"a": b"hello"})
        assert serving.topics == set()
        assert serving.daemon.swarm.listening == ()
        await serving.client.serve(drive.key, listen=[], peers=[])
        found = await until_announced(first, drive.key, 1)
        assert [address.port for address in found] == [one.port for one in serving.daemon.swarm.listening]
        assert serving.topics == {discovery_key(drive.key)}
        await serving.client.unserve(drive.key)
        await until_announced(first, drive.key, 0)
        assert serving.topics == set()
        assert serving.daemon.swarm.listening == ()


async def test_a_port_that_is_opened_to_serve_is_not_closed_before_that(places: Places) -> None:
    async with first_node() as first, in_network(places, first) as serving:
        swarm, closed = serving.daemon.swarm, list[int]()
        serving.daemon.swarm.unlisten = lambda host, port: closed.append(port)  # type: ignore[method-assign]
        told = await serving.client.serve(os.urandom(32), listen=[], peers=[])  # which nobody had open
        assert told == tuple(f"{one.host}:{one.port}" for one in swarm.listening) != ()
        assert closed == []


async def test_whoever_reads_looks_for_the_drive_and_neither_for_its_content_nor_announces_it(places: Places) -> None:
    other = places_of(places.store.with_name("other"))
    async with first_node() as first, in_network(places, first) as serving, in_network(other, first) as reading:
        drive = await written_drive(serving.client, {"a": b"hello"})
        await serving.client.serve(drive.key, listen=[], peers=[])
        await until_announced(first, drive.key, 1)
        seen = await Drive.open(reading.client, drive.key)
        await eventually(lambda: seen.version == drive.version)  # the newest is told of once it is on the disk
        snapshot = seen.snapshot()
        entry = await snapshot.stat("a")
        assert await snapshot.read(entry, 0, 5) == b"hello"
        status = reading.daemon.swarm.topics
        assert set(status) == {discovery_key(drive.key)}
        assert (status[discovery_key(drive.key)].looks, status[discovery_key(drive.key)].port) == (True, None)
        assert reading.daemon.swarm.listening == ()


async def test_of_a_drive_whose_secret_key_was_brought_here_the_content_is_not_looked_for(places: Places) -> None:
    other = places_of(places.store.with_name("other"))
    async with first_node() as first, in_network(places, first) as owning, in_network(other, first) as adopting:
        drive = await written_drive(owning.client, {"a": b"hello"})
        secrets = await owning.client.secret_keys(drive.key)
        await adopting.client.adopt_drive(secrets.drive, secrets.content, secrets.lengths)
        assert adopting.topics == {discovery_key(drive.key)}
        assert adopting.daemon.swarm.topics[discovery_key(drive.key)].port is None


async def test_others_drives_are_announced_while_they_are_mounted_unless_that_is_not_wanted(places: Places) -> None:
    other = places_of(places.store.with_name("other"))
    async with first_node() as first, in_network(places, first) as serving, in_network(other, first) as mounting:
        drive = await written_drive(serving.client, {"a": b"hello"})
        await mounting.client.open_core(drive.key)
        finding = mounting.daemon.finding
        record = MountRecord("id", drive.key.hex(), None, "/mnt", "label", MountChoices(announces=False))
        finding.follow(State(mounts=(record,)))
        assert not mounting.daemon.network.swarm.listening
        finding.follow(State(mounts=(replace(record, options=MountChoices()),)))
        found = await until_announced(first, drive.key, 1)
        assert [address.port for address in found] == [one.port for one in mounting.daemon.swarm.listening]
        finding.follow(State())
        await until_announced(first, drive.key, 0)


async def test_a_daemon_that_runs_can_be_told_to_leave_the_dht_and_to_come_back(places: Places) -> None:
    async with first_node() as first, in_network(places, first) as serving:
        drive = await written_drive(serving.client, {"a": b"hello"})
        await serving.client.serve(drive.key, listen=[], peers=[])
        await until_announced(first, drive.key, 1)
        settings = await serving.client.change_network(NetworkChange(dht=False))
        assert settings == NetworkSettings(dht=False, mdns=False, bootstrap=(str(first.address),))
        await until_announced(first, drive.key, 0)
        await eventually(lambda: serving.daemon.network.node is None)
        assert serving.daemon.swarm.listening
        await serving.client.change_network(NetworkChange(dht=True))
        await until_announced(first, drive.key, 1)


async def test_a_daemon_that_runs_can_be_told_to_use_another_port_for_tcp_and_udp(places: Places) -> None:
    async with first_node() as first, in_network(places, first) as serving:
        drive = await written_drive(serving.client, {"a": b"hello"})
        await serving.client.serve(drive.key, listen=[], peers=[])
        await until_announced(first, drive.key, 1)
        port = free_port()
        await serving.client.change_network(NetworkChange(port=port))
        while await announced(first, drive.key) != [Address(HERE, port)]:
            await trio.lowlevel.checkpoint()
        node = serving.daemon.network.node
        assert node is not None
        assert node.address.port == port
        with pytest.raises(UsageError, match="not a port"):
            await serving.client.change_network(NetworkChange(port=0))


async def test_a_port_that_was_taken_is_given_up_for_good(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        monkeypatch.setattr("hyperfs.daemon.network.DEFAULT_PORT", taken.getsockname()[1])
        async with first_node() as first, in_network(places, first) as serving:
            drive = await written_drive(serving.client, {"a": b"hello"})
            await serving.client.serve(drive.key, listen=[], peers=[])
            (listening,) = serving.daemon.swarm.listening
            await until_announced(first, drive.key, 1)
            assert serving.daemon.network.node is not None
            assert serving.daemon.network.node.address.port == listening.port != taken.getsockname()[1]
    assert read_state(places.state).port == listening.port
    async with first_node() as first, in_network(places, first) as serving:
        await eventually(lambda: serving.daemon.swarm.listening)
        assert serving.daemon.swarm.listening == (listening,)


async def test_a_port_that_somebody_takes_at_the_last_moment_is_given_up(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("", 0)) as taken:
        looked = iter([True])
        monkeypatch.setattr("hyperfs.daemon.network.DEFAULT_PORT", taken.getsockname()[1])
        monkeypatch.setattr(
            "hyperfs.daemon.network.is_free", lambda port, **kinds: next(looked, False) or is_free(port, **kinds)
        )
        async with first_node() as first, in_network(places, first) as serving:
            await serving.client.serve(os.urandom(32), listen=[], peers=[])
            (listening,) = serving.daemon.swarm.listening
            assert listening.port == serving.daemon.state.state.port != taken.getsockname()[1]


async def test_a_port_that_was_asked_for_and_is_taken_is_an_error(places: Places) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        async with first_node() as first, in_network(places, first, port=port) as serving:
            drive = await written_drive(serving.client, {"a": b"hello"})
            with pytest.raises(OSError, match="cannot listen there"):
                await serving.client.serve(drive.key, listen=[], peers=[])
            assert serving.daemon.state.state.served == ()


async def test_a_daemon_that_is_told_to_use_a_port_that_is_taken_stays_where_it_is(places: Places) -> None:
    with socket.create_server(("", 0)) as taken:
        async with first_node() as first, in_network(places, first) as serving:
            drive = await written_drive(serving.client, {"a": b"hello"})
            await serving.client.serve(drive.key, listen=[], peers=[])
            before = serving.daemon.swarm.listening, serving.daemon.network.settings
            with pytest.raises(UsageError, match="is taken"):
                await serving.client.change_network(NetworkChange(port=taken.getsockname()[1]))
            assert (serving.daemon.swarm.listening, serving.daemon.network.settings) == before
            await until_announced(first, drive.key, 1)


async def test_who_was_found_and_says_nothing_does_not_hold_up_what_another_one_has(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperfs.replication.watch.HANDSHAKE_SECONDS", 100 * LIMIT_SECONDS)
    other = places_of(places.store.with_name("other"))
    with socket.create_server((HERE, 0)) as silent:
        async with (
            first_node() as first,
            in_network(places, first) as serving,
            open_dht(HERE, bootstrap=[first.address]) as stranger,
            in_network(other, first) as reading,
        ):
            drive = await written_drive(serving.client, {"a": b"hello"})
            async for _ in stranger.announce(discovery_key(drive.key), port=silent.getsockname()[1]):
                continue
            await serving.client.serve(drive.key, listen=[], peers=[])
            await until_announced(first, drive.key, 2)
            assert (await Drive.open(reading.client, drive.key)).version


async def test_of_the_drives_that_are_only_read_a_bounded_number_is_looked_for(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperfs.daemon.finding.MAX_LOOKED", 3)
    async with first_node() as first, in_network(places, first) as reading:
        for _ in range(5):
            await reading.client.open_core(os.urandom(32))
        assert len(reading.topics) == 3
        drive = await written_drive(reading.client, {"a": b"hello"})
        await reading.client.serve(drive.key, listen=[], peers=[])
        assert len(reading.topics) == 4


async def test_the_status_tells_what_is_announced_and_how_we_are_in_the_dht(places: Places) -> None:
    async with first_node() as first, in_network(places, first) as serving:
        drive = await written_drive(serving.client, {"a": b"hello"})
        assert (await serving.client.status()).network.node is None
        await serving.client.serve(drive.key, listen=[], peers=[])
        await until_announced(first, drive.key, 1)
        await eventually(lambda: serving.daemon.swarm.topics[discovery_key(drive.key)].looked)
        status = await serving.client.status()
        port = serving.daemon.network.port
        (topic,) = status.network.topics
        assert replace(topic, looked={}) == TopicTold(drive.key.hex(), looks=True, port=port, found=0, looked={})
        assert topic.looked["DHT"].endswith(" nodes answered")
        assert status.network.bootstrap == (str(first.address),)
        node = status.network.node
        assert node == NodeTold(port=port, joined=True, nodes=1, persistent=False, seen_as=None, nat="unknown")


async def test_names_of_first_nodes_that_cannot_be_looked_up_are_told(places: Places) -> None:
    settings = NetworkSettings(mdns=False, bootstrap=("no-such-host.invalid:1",))
    with trio.fail_after(LIMIT_SECONDS):
        async with open_daemon(places, settings) as daemon, client_of(places) as client:
            key = os.urandom(32)
            await client.open_core(key)
            await daemon.swarm.wait_found(discovery_key(key))
            problem = "the names of its first nodes cannot be looked up"
            assert (await client.peers(key)).looked == f"DHT: {problem}"
            assert (await client.status()).network.problems == {"DHT": problem}


def test_a_state_of_before_there_were_ports_is_read(places: Places) -> None:
    record = {"id": "1", "key": "ab", "version": None, "mountpoint": "/mnt", "label": "ab", "options": {"umask": 18}}
    places.state.write_text(json.dumps({"format": 1, "served": [{"key": "cd"}], "mounts": [record], "listen": []}))
    state = read_state(places.state)
    assert (state.served, state.port) == ((Served("cd"),), None)
    assert state.mounts[0].options == MountChoices(umask=18)


def test_a_port_is_free_only_if_nobody_has_it_by_either_protocol() -> None:
    port = free_port()
    assert is_free(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("", port))
        assert (is_free(port), is_free(port, udp=False)) == (False, True)
    with socket.create_server(("", port)):
        assert (is_free(port), is_free(port, tcp=False)) == (False, True)
