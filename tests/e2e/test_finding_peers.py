"""Drives are found without an address: by real daemons, on hosts of their own, with nobody else in the network."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from hyperfs.crypto import discovery_key
from hyperfs.daemon.addresses import parse_address
from hyperfs.swarm.addresses import Address
from hyperfs.swarm.dht.service import open_dht

from ..support.commands import eventually, hyperfs_in
from ..support.namespaces import two_hosts
from ..support.patterns import pattern

LIMIT_SECONDS = 240
LOCAL = {"HYPERFS_NO_MDNS": "0"}
PORT = 3282


def by_dht(first: Address) -> dict[str, str]:
    """Return what sets a network that begins at ``first``, without the local network."""
    return {"HYPERFS_NO_DHT": "0", "HYPERFS_BOOTSTRAP": str(first)}


@contextmanager
def dht_node() -> Iterator[Address]:
    """Run ``hyperfs dht``, the first node of a network; yield where it answers."""
    command = [sys.executable, "-m", "hyperfs.cli.main", "dht", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Address(*parse_address(process.stdout.readline().split()[-1]))
        finally:
            process.kill()


def announced(first: Address, key: str) -> list[Address]:
    """Return who the DHT says has a drive."""

    async def look() -> list[Address]:
        with trio.fail_after(LIMIT_SECONDS):
            async with open_dht("127.0.0.1", bootstrap=[first]) as dht:
                return [peer.address async for peer in dht.lookup(discovery_key(bytes.fromhex(key)))]

    return trio.run(look)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "file").write_bytes(pattern("file", 300_000))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mnt"
    folder.mkdir()
    return folder


def test_two_hosts_on_a_switch_find_each_other_without_an_address(tmp_path: Path, source: Path, folder: Path) -> None:
    with (
        two_hosts() as (far, near),
        hyperfs_in(tmp_path, "server", **LOCAL) as server,
        hyperfs_in(tmp_path, "reader", **LOCAL) as reader,
        hyperfs_in(tmp_path, "beside", **LOCAL) as beside,
    ):
        key = server("import", source, wrapper=far.wrapper).strip()
        server("serve", key)
        began = time.monotonic()
        reader("mount", key, folder, wrapper=near.wrapper)
        assert (folder / "file").read_bytes() == pattern("file", 300_000)
        print(f"mounted, and read from, {time.monotonic() - began:.2f} s after it was asked for")
        assert {peer["name"].split(":")[0] for peer in reader.json("status")["peers"]} == {far.address}
        assert "no peer is known" in beside.fails("cat", "--no-mdns", key, "file", wrapper=far.wrapper)
        found = beside.run("cat", "--mdns", key, "file", wrapper=far.wrapper)
        assert found.stdout == pattern("file", 300_000), "two daemons of one host find each other, too"


def test_a_drive_is_found_in_the_dht_and_whoever_mounts_it_is_found_there_too(
    tmp_path: Path, source: Path, folder: Path
) -> None:
    with (
        dht_node() as first,
        hyperfs_in(tmp_path, "server", **by_dht(first)) as server,
        hyperfs_in(tmp_path, "reader", **by_dht(first)) as reader,
        hyperfs_in(tmp_path, "second", **by_dht(first)) as second,
    ):
        key = server.imported(source)
        server("serve", key)
        eventually(lambda: len(announced(first, key)) == 1)
        began = time.monotonic()
        reader("mount", key, folder)
        assert (folder / "file").read_bytes() == pattern("file", 300_000)
        print(f"mounted, and read from, {time.monotonic() - began:.2f} s after it was asked for")
        eventually(lambda: len(announced(first, key)) == 2)
        server("stop")
        eventually(lambda: len(announced(first, key)) == 1)
        assert second.run("cat", key, "file").stdout == pattern("file", 300_000)
        assert len(announced(first, key)) == 1, "who only reads announces nothing"
        reader("umount", folder)
        eventually(lambda: announced(first, key) == [])


def test_a_daemon_that_is_told_to_end_takes_back_what_it_announced(tmp_path: Path, source: Path) -> None:
    with dht_node() as first, hyperfs_in(tmp_path, **by_dht(first)) as hyperfs:
        key = hyperfs.imported(source)
        hyperfs("serve", key)
        eventually(lambda: len(announced(first, key)) == 1)
        hyperfs("stop")
        assert announced(first, key) == []


def test_a_drive_of_ours_that_is_not_served_is_neither_announced_nor_looked_for(tmp_path: Path, source: Path) -> None:
    with dht_node() as first, hyperfs_in(tmp_path, **by_dht(first)) as hyperfs:
        key = hyperfs.imported(source)
        hyperfs("ls", key)
        status = hyperfs.json("status")
        assert (status["network"]["topics"], status["listening"]) == ([], [])


def test_a_daemon_that_was_killed_comes_back_at_the_port_at_which_others_know_it(tmp_path: Path, source: Path) -> None:
    with two_hosts() as (host, _), hyperfs_in(tmp_path, **LOCAL) as hyperfs:
        taken = subprocess.Popen(
            [*host.wrapper, sys.executable, "-c", TAKE, str(PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with taken:
            assert taken.stdout is not None
            taken.stdout.readline()
            key = hyperfs("import", source, wrapper=host.wrapper).strip()
            before = hyperfs.json("serve", key)["listening"]
            taken.kill()
        assert before != [f"0.0.0.0:{PORT}"]
        hyperfs.kill_daemon()
        hyperfs("ls", key, wrapper=host.wrapper)
        eventually(lambda: hyperfs.json("status")["listening"])
        assert hyperfs.json("status")["listening"] == before


TAKE = """
import socket, sys
with socket.create_server(("", int(sys.argv[1]))) as taken:
    print("taken", flush=True)
    sys.stdin.read()
"""


def test_where_nobody_has_a_drive_it_is_said_soon_who_was_asked(tmp_path: Path) -> None:
    with dht_node() as first, hyperfs_in(tmp_path, **by_dht(first)) as hyperfs:
        words = hyperfs.fails("cat", "12" * 32, "file")
        assert re.search(r"no peer is known \(DHT: (\d) of \1 nodes answered\)", words)
        hyperfs("stop")
    with hyperfs_in(tmp_path, **by_dht(first)) as hyperfs:
        words = hyperfs.fails("cat", "12" * 32, "file")
        assert re.search(r"no peer is known \(DHT: none of \d nodes answered\)", words)


def test_a_mount_that_is_not_to_be_announced_is_not_and_what_is_served_no_more_is_not(
    tmp_path: Path, source: Path, folder: Path
) -> None:
    with (
        dht_node() as first,
        hyperfs_in(tmp_path, "server", **by_dht(first)) as server,
        hyperfs_in(tmp_path, "reader", **by_dht(first)) as reader,
    ):
        key = server.imported(source)
        server("serve", key)
        eventually(lambda: len(announced(first, key)) == 1)
        reader("mount", "--no-announce", key, folder)
        assert (folder / "file").read_bytes() == pattern("file", 300_000)
        assert reader.json("status")["listening"] == []
        server("unserve", key)
        eventually(lambda: announced(first, key) == [])
