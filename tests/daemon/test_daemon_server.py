"""A daemon and its clients in one process, over the real control socket."""

import errno
import io
import os
import socket
import stat
from functools import partial
from pathlib import Path

import pytest
import trio

from hyperfs.core.proofs import MAX_BLOCK_BYTES
from hyperfs.daemon.client import DaemonClient
from hyperfs.daemon.committer import DaemonCommitter
from hyperfs.daemon.connection import Connection
from hyperfs.daemon.daemon import Daemon
from hyperfs.daemon.places import Places, places_of
from hyperfs.daemon.process import connect_running, read_announcement
from hyperfs.daemon.registry import User
from hyperfs.daemon.requests import AppendContent, LeaseContent
from hyperfs.daemon.server import open_daemon
from hyperfs.daemon.serving import Serving
from hyperfs.daemon.slots import SLOT_BYTES, SLOTS, Slots
from hyperfs.daemon.status import status_of
from hyperfs.daemon.wire import Failure, Hello, Reply, Request
from hyperfs.drive.committer import PIECE_BYTES
from hyperfs.drive.drive import Drive
from hyperfs.drive.writer import DriveWriter
from hyperfs.errors import (
    BlockNotAvailable,
    ConflictingLength,
    DaemonError,
    EncodingError,
    NotADrive,
    NotWritable,
    StoreLocked,
    UsageError,
)
from hyperfs.replication import Replicator
from hyperfs.trie import Put

from ..support.clocks import settled
from ..support.stores import PATIENCE_SECONDS, client_of, daemon_and_client, eventually, places, written_drive

__all__ = ["places"]


async def content_of(drive: Drive, path: str) -> bytes:
    snapshot = drive.snapshot()
    entry = await snapshot.stat(path)
    return await snapshot.read(entry, 0, entry.stat.size)


async def test_a_drive_written_through_the_daemon_is_read_by_the_client_itself(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {"a/b": b"hello", "empty": b""})
        assert await content_of(drive, "a/b") == b"hello"


async def test_what_is_here_is_read_without_a_word_to_the_daemon(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {"a": b"hello"})
        core = await drive.content()

        async def asked(*arguments: object, **more: object) -> None:
            raise AssertionError("the daemon was asked")

        client.fetch = asked  # type: ignore[method-assign]  # to notice any use
        client.request = asked  # type: ignore[method-assign]
        assert core.has(0, 1)
        assert await content_of(drive, "a") == b"hello"


async def test_another_client_hears_of_a_new_version(places: Places) -> None:
    async with daemon_and_client(places) as (_, client), client_of(places) as other:
        drive = await written_drive(client, {"a": b"1"})
        seen = await Drive.open(other, drive.key)
        await DriveWriter(drive, DaemonCommitter(client, drive.key)).put_file("b", b"2")
        with trio.fail_after(PATIENCE_SECONDS):
            await seen.metadata.wait_longer(2)
        assert await content_of(seen, "b") == b"2"


async def test_a_commit_that_expected_another_version_changes_nothing(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {"a": b"1"})
        committer = DaemonCommitter(client, drive.key)
        with pytest.raises(ConflictingLength):
            await committer.commit([Put("b", b"x")], expected_version=1)
        assert drive.version == 2


async def test_content_arrives_in_the_order_it_was_appended_in(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {})
        blocks = [os.urandom(300_000) for _ in range(60)]
        async with DaemonCommitter(client, drive.key).content() as lease:
            runs = [await lease.append([block]) for block in blocks]
        content = await drive.content()
        await eventually(lambda: content.length == 60)
        assert [await content.read(run, 0, run.size) for run in runs] == blocks


async def test_a_lease_waits_for_the_one_before_it(places: Places) -> None:
    async with daemon_and_client(places) as (_, client), client_of(places) as other:
        drive = await written_drive(client, {})
        granted = trio.Event()

        async def second() -> None:
            async with DaemonCommitter(other, drive.key).content() as lease:
                granted.set()
                assert (await lease.append([b"b"])).blocks == range(1, 2)

        async with trio.open_nursery() as nursery, DaemonCommitter(client, drive.key).content() as lease:
            nursery.start_soon(second)
            await lease.append([b"a"])
            await settled()
            assert not granted.is_set()


async def test_a_client_that_goes_away_gives_its_lease_back(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {})
        async with client_of(places) as other:
            os.close((await other.request(LeaseContent(drive.key))).descriptor)
        with trio.fail_after(PATIENCE_SECONDS):
            async with DaemonCommitter(client, drive.key).content() as lease:
                await lease.append([b"a"])


async def test_a_client_that_stops_waiting_for_a_lease_does_not_get_it(places: Places) -> None:
    async with daemon_and_client(places) as (_, client), client_of(places) as other:
        drive = await written_drive(client, {})
        async with DaemonCommitter(client, drive.key).content():
            with trio.move_on_after(0.05):
                await other.request(LeaseContent(drive.key))
        with trio.fail_after(PATIENCE_SECONDS):
            async with DaemonCommitter(client, drive.key).content():
                pass


async def test_pieces_and_blocks_of_one_lease_follow_one_another(places: Places) -> None:
    content = os.urandom(3 * PIECE_BYTES + 5)
    file = io.BytesIO(content)
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {})
        async with DaemonCommitter(client, drive.key).content() as lease:
            runs = [await lease.append([b"before", b"it"])]
            runs += [await lease.append_piece(file.readinto) for _ in range(5)]
            runs.append(await lease.append([b"after"]))
        core = await drive.content()
        await eventually(lambda: core.length == runs[-1].blocks.stop)
        assert b"".join([await core.read(run, 0, run.size) for run in runs]) == b"beforeit" + content + b"after"


async def test_a_block_may_be_as_large_as_blocks_may_be(places: Places) -> None:
    block = bytes(MAX_BLOCK_BYTES)
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {})
        async with DaemonCommitter(client, drive.key).content() as lease:
            await lease.append([b"a", block, b"b"])
            with pytest.raises(ValueError, match="are allowed"):
                await lease.append([block + b"c"])
        core = await drive.content()
        await eventually(lambda: core.byte_length == MAX_BLOCK_BYTES + 2)


@pytest.mark.parametrize(("slot", "sizes"), [(SLOTS, (1,)), (-1, (1,)), (0, (SLOT_BYTES, 1)), (0, (2, -1))])
async def test_after_an_append_that_failed_nothing_of_that_lease_is_appended(
    places: Places, slot: int, sizes: tuple[int, ...]
) -> None:
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {})
        granted = await client.request(LeaseContent(drive.key))
        Slots.opened(granted.descriptor).close()
        bad = client.send(AppendContent(granted.lease, slot, sizes))
        good = client.send(AppendContent(granted.lease, 0, (1,)))
        with pytest.raises(EncodingError):
            await bad.wait()
        with pytest.raises(EncodingError):
            await good.wait()
        assert (await drive.content()).length == 0


async def test_what_was_appended_under_a_lease_is_given_back(places: Places) -> None:
    async with daemon_and_client(places) as (daemon, client):
        drive = await written_drive(client, {"kept": b"kept"})
        async with DaemonCommitter(client, drive.key).content() as lease:
            await lease.append([b"a", b"b"])
            await lease.give_back()
            await lease.append([b"c"])
        core = (await daemon.writers.committer(drive.key, User())).content_core
        assert [core.has(index, index + 1) for index in range(core.length)] == [True, False, False, True]


async def test_content_without_a_lease_is_refused(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        with pytest.raises(ConflictingLength):
            await client.request(AppendContent(5, 0, (1,)))


async def test_the_writer_is_told_at_the_end_of_the_lease_what_failed(places: Places) -> None:
    async with daemon_and_client(places) as (daemon, client):
        drive = await written_drive(client, {})
        core = (await daemon.writers.committer(drive.key, User())).content_core

        async def full(*arguments: object, **more: object) -> int:
            raise OSError(28, "No space left on device")

        core.append = full  # type: ignore[method-assign]  # a disk that is full
        with pytest.raises(OSError, match="No space"):
            async with DaemonCommitter(client, drive.key).content() as lease:
                await lease.append([b"a"])


async def test_a_drive_of_somebody_else_cannot_be_written(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        with pytest.raises((NotADrive, NotWritable)):
            await DaemonCommitter(client, bytes(range(32))).commit([Put("a", b"")])


async def test_without_any_peer_a_missing_block_is_refused_at_once(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        core = await client.open_core(bytes(range(32)))
        with trio.fail_after(PATIENCE_SECONDS), pytest.raises(BlockNotAvailable, match="--peer"):
            await core.get(0)


async def test_a_peer_that_does_not_answer_is_waited_for_no_longer_than_the_time_limit(places: Places) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = f"127.0.0.1:{silent.getsockname()[1]}"
        async with daemon_and_client(places, timeout_seconds=0.2, peers=[peer]) as (_, client):
            core = await client.open_core(bytes(range(32)))
            with trio.fail_after(PATIENCE_SECONDS), pytest.raises(BlockNotAvailable):
                await core.get(0)


async def asked(places: Places, method: str, **arguments: object) -> Reply | Failure:
    """What the daemon answers to a request as it stands on the wire."""
    connection = await connect_running(places)
    assert connection is not None
    await connection.send(Request(1, method, arguments))
    answer = await connection.receive()
    connection.close()
    assert isinstance(answer, Reply | Failure)
    return answer


async def test_a_request_of_unknown_meaning_is_refused_by_name(places: Places) -> None:
    async with open_daemon(places):
        answer = await asked(places, "core.eat")
    assert isinstance(answer, Failure)
    assert (answer.error["kind"], "'core.eat'" in answer.error["message"]) == ("DaemonError", True)


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        ("core.fetch", {"key": bytes(32), "ranges": "x", "priority": 0}, "Fetch.ranges: 'x' is not a list"),
        ("core.fetch", {"key": bytes(32), "ranges": [[3, 1]], "priority": 0}, "[3, 1] is not a range"),
        ("core.fetch", {"key": bytes(32), "ranges": [], "priority": 9}, "Fetch.priority: 9 is not one of"),
        ("core.open", {}, "OpenCore lacks key"),
        ("core.open", {"key": bytes(32), "speed": 3}, "OpenCore has no field 'speed'"),
        ("core.open", {"key": bytes(31)}, "OpenCore.key: 31 bytes, where there have to be 32"),
        ("core.open", {"key": "ab" * 16}, "is not of type bytes"),
        ("peers.add", {"addresses": ["h:1", 2]}, "is not a list of str"),
    ],
    ids=str,
)
async def test_what_is_asked_wrongly_is_refused_with_the_field(
    places: Places, method: str, arguments: dict[str, object], said: str
) -> None:
    async with daemon_and_client(places) as (daemon, client):
        answer = await asked(places, method, **arguments)
        assert isinstance(answer, Failure)
        assert said in answer.error["message"]
        assert (await client.status()).pid == os.getpid()
        assert daemon.store.keys() == []


async def test_a_client_of_another_version_is_told_ours_and_nothing_else(places: Places) -> None:
    async with open_daemon(places):
        stream = trio.socket.socket(trio.socket.AF_UNIX)
        announcement = read_announcement(places)
        assert announcement is not None
        await stream.connect(announcement.socket)
        connection = Connection(stream)
        await connection.send(Hello(99, "9.9", 1))
        await connection.send(Request(1, "stop", {}))
        assert isinstance(await connection.receive(), Hello)
        assert await connection.receive() is None
        connection.close()


async def test_a_client_is_told_of_a_daemon_of_another_version(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_daemon(places):
        monkeypatch.setattr("hyperfs.daemon.process.PROTOCOL", 99)
        with pytest.raises(DaemonError, match="hyperfs stop"):
            async with client_of(places):
                pass


async def test_the_socket_is_its_users_alone(places: Places) -> None:
    async with open_daemon(places):
        announcement = read_announcement(places)
        assert announcement is not None
        assert stat.S_IMODE(os.stat(announcement.socket).st_mode) == 0o600


async def test_a_process_of_another_user_is_refused(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_daemon(places):
        uid = os.geteuid()
        monkeypatch.setattr("os.geteuid", lambda: uid + 1)
        with pytest.raises(DaemonError, match="not ours"):
            async with client_of(places):
                pass


async def test_a_store_has_one_daemon(places: Places) -> None:
    async with open_daemon(places):
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            async with open_daemon(places):
                pass


async def test_a_socket_left_behind_by_a_killed_daemon_is_no_obstacle(places: Places) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(places.socket()))
    async with daemon_and_client(places) as (_, client):
        assert (await client.status()).pid == os.getpid()


async def test_remembered_peers_are_dialled_by_the_next_daemon(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        await client.remember_peers(["127.0.0.1:1"])
    async with open_daemon(places) as daemon:
        assert daemon.swarm.peers == ("127.0.0.1:1",)


async def test_forgotten_peers_are_not(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        await client.remember_peers(["127.0.0.1:1"])
        await client.forget_peers(["127.0.0.1:1"])
    async with open_daemon(places) as daemon:
        assert daemon.swarm.peers == ()


async def test_what_was_served_is_served_by_the_next_daemon(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {"a": b"1"})
        # an address of this test alone: nobody takes the port before the next daemon does
        listening = await client.serve(drive.key, listen=["127.0.7.2:0"], peers=[])
    async with daemon_and_client(places) as (_, client):
        status = await client.status()
    assert (status.listening, [one.key for one in status.serving]) == (listening, [drive.key.hex()])


async def test_what_is_served_no_more_stays_so(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {"a": b"1"})
        await client.serve(drive.key, listen=["127.0.0.1:0"], peers=[])
        await client.unserve(drive.key)
    async with daemon_and_client(places) as (_, client):
        status = await client.status()
    assert (status.listening, status.serving) == ((), ())


async def test_requests_that_come_at_once_keep_each_others_changes(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        keys = [await client.create_drive() for _ in range(6)]
        await client.serve(keys[0], listen=["127.0.0.1:0"], peers=[])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.unserve, keys[0])
            for key in keys[1:]:
                nursery.start_soon(partial(client.serve, key, listen=["127.0.0.1:0"], peers=["127.0.0.1:1"]))
            nursery.start_soon(client.remember_peers, ["127.0.0.1:2"])
            nursery.start_soon(client.remember_peers, ["127.0.0.1:3"])
    async with daemon_and_client(places) as (_, client):
        status = await client.status()
    assert {one.key for one in status.serving} == {key.hex() for key in keys[1:]}
    assert set(status.remembered_peers) == {"127.0.0.1:2", "127.0.0.1:3"}


async def test_nobody_is_answered_before_the_state_is_restored(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    async with daemon_and_client(places) as (_, client):
        await client.serve(await client.create_drive(), listen=["127.0.0.1:0"], peers=[])
    restoring, go_on, answered = trio.Event(), trio.Event(), trio.Event()

    async def listen_slowly(serving: Serving, address: str) -> None:
        restoring.set()
        await go_on.wait()

    monkeypatch.setattr(Serving, "listen", listen_slowly)
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            async with client_of(places) as client:
                assert (await client.status()).serving
                answered.set()

        nursery.start_soon(run_daemon, places)
        await restoring.wait()
        nursery.start_soon(ask)
        await settled()
        assert not answered.is_set()
        go_on.set()
        await answered.wait()
        nursery.cancel_scope.cancel()


async def test_a_commit_too_large_for_one_message_is_one_version_after_another(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        drive = await written_drive(client, {})
        operations = [Put(f"{number}", bytes(size)) for number in range(2500) for size in (number % 3 * 2000,)]
        version = await DaemonCommitter(client, drive.key).commit([*operations, Put("large", bytes(3 * 1024 * 1024))])
        assert version == drive.version == 1 + 2501


async def test_where_a_request_that_came_to_nothing_began_to_listen_nobody_is_listened_to(places: Places) -> None:
    async with daemon_and_client(places) as (daemon, client):
        key = await client.create_drive()
        (places.own / "state.json.new").mkdir()
        with pytest.raises(OSError, match="state"):
            await client.serve(key, listen=["127.0.0.1:0"], peers=["127.0.0.1:1"])
        status = await client.status()
        assert (status.listening, status.serving, daemon.state.state.served) == ((), (), ())


async def test_what_cannot_be_noted_as_served_no_more_is_served_on(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        key = await client.create_drive()
        listening = await client.serve(key, listen=["127.0.0.1:0"], peers=[])
        (places.own / "state.json.new").mkdir()
        with pytest.raises(OSError, match="state"):
            await client.unserve(key)
        await settled()
        status = await client.status()
        assert (status.listening, [one.key for one in status.serving]) == (listening, [key.hex()])


async def test_what_is_not_served_cannot_be_unserved(places: Places) -> None:
    async with daemon_and_client(places) as (_, client):
        with pytest.raises(UsageError):
            await client.unserve(bytes(32))


async def test_an_address_that_cannot_be_listened_at_is_told(places: Places) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with daemon_and_client(places) as (_, client):
            drive = await written_drive(client, {"a": b"1"})
            with pytest.raises(OSError, match="use"):
                await client.serve(drive.key, listen=[address], peers=[])


async def shared(client: DaemonClient, files: dict[str, bytes]) -> tuple[Drive, str]:
    drive = await written_drive(client, files)
    (address,) = await client.serve(drive.key, listen=["127.0.0.1:0"], peers=[])
    return drive, address


async def test_a_served_drive_is_read_elsewhere(places: Places, tmp_path: Path) -> None:
    elsewhere = places_of(tmp_path / "elsewhere")
    async with daemon_and_client(places) as (_, client):
        drive, address = await shared(client, {"a/b": b"hello"})
        async with daemon_and_client(elsewhere, timeout_seconds=PATIENCE_SECONDS, peers=[address]) as (_, reader):
            seen = await Drive.open(reader, drive.key)
            await seen.metadata.wait_longer(1)  # a version is announced once it is durable
            assert await content_of(seen, "a/b") == b"hello"


async def test_the_daemon_brings_what_a_client_wants_ahead_and_the_client_does_not_wait(
    places: Places, tmp_path: Path
) -> None:
    elsewhere = places_of(tmp_path / "elsewhere")
    async with daemon_and_client(places) as (_, client):
        drive, address = await shared(client, {"a": b"hello", "b": b"there"})
        async with daemon_and_client(elsewhere, timeout_seconds=PATIENCE_SECONDS, peers=[address]) as (_, reader):
            seen = await Drive.open(reader, drive.key)
            await seen.metadata.wait_longer(1)
            content = await seen.content()
            content.prefetch([range(2)])
            await eventually(lambda: content.has(0, 2))


async def test_a_drive_of_ours_that_is_not_served_is_not_given_to_anybody(places: Places, tmp_path: Path) -> None:
    elsewhere = places_of(tmp_path / "elsewhere")
    async with daemon_and_client(places) as (_, client):
        _, address = await shared(client, {"public": b"1"})
        private = await written_drive(client, {"private": b"2"})
        async with daemon_and_client(elsewhere, timeout_seconds=0.5, peers=[address]) as (_, reader):
            core = await reader.open_core(private.key)
            with pytest.raises(BlockNotAvailable):
                await core.get(0)


async def test_a_drive_mounted_inside_a_served_one_is_served_with_it(places: Places, tmp_path: Path) -> None:
    elsewhere = places_of(tmp_path / "elsewhere")
    async with daemon_and_client(places) as (_, client):
        inner = await written_drive(client, {"deep": b"inside"})
        drive, address = await shared(client, {"a": b"1"})
        await DriveWriter(drive, DaemonCommitter(client, drive.key)).mount("in", inner.key)
        async with daemon_and_client(elsewhere, timeout_seconds=PATIENCE_SECONDS, peers=[address]) as (_, reader):
            seen = await Drive.open(reader, drive.key)
            await seen.metadata.wait_longer(3)
            assert await content_of(seen, "in/deep") == b"inside"


async def run_daemon(places: Places, *, task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED) -> None:
    async with open_daemon(places) as daemon:
        task_status.started(daemon)
        await daemon.wait_stop()


async def test_a_client_that_reconnects_reads_on_and_follows(places: Places) -> None:
    async with trio.open_nursery() as nursery:
        first: Daemon = await nursery.start(run_daemon, places)
        async with client_of(places, reconnect=True) as client:
            seen = await written_drive(client, {"a": b"1"})
            await seen.content()
            first.stop()
            await eventually(lambda: read_announcement(places) is None)
            assert not client.connected
            assert await content_of(seen, "a") == b"1"
            second: Daemon = await nursery.start(run_daemon, places)
            async with client_of(places) as writer:
                again = await Drive.open(writer, seen.key)
                await DriveWriter(again, DaemonCommitter(writer, seen.key)).put_file("b", b"2")
            with trio.fail_after(PATIENCE_SECONDS):
                await seen.metadata.wait_longer(2)
            assert await content_of(seen, "b") == b"2"
        second.stop()


async def test_a_client_that_does_not_reconnect_says_that_the_daemon_went_away(places: Places) -> None:
    async with trio.open_nursery() as nursery:
        daemon: Daemon = await nursery.start(run_daemon, places)
        async with client_of(places) as client:
            daemon.stop()
            await eventually(lambda: not client.connected)
            with pytest.raises(DaemonError, match="went away"):
                await client.status()


async def test_an_idle_daemon_ends_and_a_busy_one_does_not(places: Places) -> None:
    async with open_daemon(places) as daemon, trio.open_nursery() as nursery:
        async with client_of(places):
            nursery.start_soon(daemon.stop_when_idle, 0.05)
            with trio.move_on_after(0.3) as scope:
                await daemon.wait_stop()
            assert scope.cancelled_caught
        with trio.fail_after(PATIENCE_SECONDS):
            await daemon.wait_stop()


async def test_a_status_of_many_cores_lets_others_have_their_turn(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperfs.slices.SLICE_SECONDS", 0)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with open_daemon(places) as daemon, trio.open_nursery() as nursery:
        user = User()
        for number in range(20):
            await daemon.registry.open(bytes([number]) * 32, user)
        nursery.start_soon(take_turns)
        await trio.lowlevel.checkpoint()
        before = turns
        await status_of(daemon)
        assert turns - before >= 20
        nursery.cancel_scope.cancel()
        daemon.registry.release(user)


async def test_who_asks_for_blocks_has_not_all_cores_looked_at(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(replicator: Replicator) -> object:
        raise AssertionError("every core was looked at")

    monkeypatch.setattr(Replicator, "core_statuses", look)
    async with daemon_and_client(places) as (daemon, client):
        assert not daemon.has_peers()
        await client.update(await client.open_core(bytes(32)))
        assert (await client.peers(bytes(32))).connected == 0


async def test_a_daemon_that_has_ended_leaves_no_socket_behind(places: Places) -> None:
    async with open_daemon(places):
        assert places.socket().exists()
    assert not places.socket().exists()


async def test_a_disk_that_does_not_say_whether_a_daemon_runs_is_told(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_daemon(places):

        def fail(*_: object, **__: object) -> str:
            raise OSError(errno.EIO, "the disk cannot")

        monkeypatch.setattr(Path, "read_text", fail)
        with pytest.raises(OSError, match="the disk cannot"):
            await connect_running(places)
